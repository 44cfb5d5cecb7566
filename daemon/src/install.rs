//! Puts the CNI programs where the runtime looks for them. Each is written beside its place and renamed into it, since
//! a running program cannot be overwritten and a half-written one must never be run.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::InstallArgs;

/// Programs by the name they are installed under. `coordinattor` stands in network configurations that were printed
/// with a misspelt type; it is the same program.
const PROGRAMS: [(&str, &str); 3] =
    [("spiderpool", "spiderpool"), ("coordinator", "coordinator"), ("coordinattor", "coordinator")];

/// Carries out `install`.
pub(crate) fn install(args: &InstallArgs) -> anyhow::Result<()> {
    let InstallArgs { bin_dir, from, socket, spool, timeout } = args;
    let own = std::env::current_exe().context("cannot find the folder of this program")?;
    let from = from.as_deref().or_else(|| own.parent()).context("this program lies in no folder")?;
    for flag in [("--socket", socket), ("--spool", spool)] {
        if !flag.1.is_absolute() {
            bail!("{} {} is not an absolute path; CNI programs run in any folder", flag.0, flag.1.display());
        }
    }
    fs::create_dir_all(bin_dir).with_context(|| format!("cannot make {}", bin_dir.display()))?;
    for (name, program) in PROGRAMS {
        let source = from.join(program);
        let content = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        place(bin_dir, name, &content, 0o755)?;
    }
    let settings = serde_json::json!({"socket": socket, "spool": spool, "timeout": timeout});
    place(bin_dir, "spidernet-cni.json", format!("{settings:#}\n").as_bytes(), 0o644)
}

fn place(folder: &Path, name: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let (target, beside) = (folder.join(name), folder.join(format!(".{name}.new")));
    let write = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        // While it is open for writing, nobody can run it.
        drop(file);
        fs::rename(&beside, &target)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot install {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(from: &Path, bin_dir: &Path) -> InstallArgs {
        InstallArgs {
            bin_dir: bin_dir.into(),
            from: Some(from.into()),
            socket: "/run/x.sock".into(),
            spool: "/var/spool/x".into(),
            timeout: 7,
        }
    }

    #[test]
    fn installs_over_older_programs_and_writes_settings() {
        let (from, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("spiderpool"), "one").unwrap();
        fs::write(from.path().join("coordinator"), "two").unwrap();
        fs::write(bin.path().join("spiderpool"), "older").unwrap();
        install(&args(from.path(), bin.path())).unwrap();
        for (name, content) in [("spiderpool", "one"), ("coordinator", "two"), ("coordinattor", "two")] {
            assert_eq!(fs::read_to_string(bin.path().join(name)).unwrap(), content);
            assert_eq!(fs::metadata(bin.path().join(name)).unwrap().permissions().mode() & 0o777, 0o755);
        }
        let settings: serde_json::Value =
            serde_json::from_slice(&fs::read(bin.path().join("spidernet-cni.json")).unwrap()).unwrap();
        assert_eq!(settings, serde_json::json!({"socket": "/run/x.sock", "spool": "/var/spool/x", "timeout": 7}));
        assert_eq!(fs::read_dir(bin.path()).unwrap().count(), 4, "nothing is left beside them");
    }

    #[test]
    fn names_what_is_missing() {
        let (from, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let error = install(&args(from.path(), bin.path())).unwrap_err();
        assert!(format!("{error:#}").contains("spiderpool"), "{error:#}");
        let relative = InstallArgs { socket: "x.sock".into(), ..args(from.path(), bin.path()) };
        assert!(install(&relative).unwrap_err().to_string().contains("--socket"));
    }
}
