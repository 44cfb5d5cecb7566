//! A spool of a thousand tombstones, with all kinds of junk among them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Lab, Namespace, Node, Program, Shim, Stopwatch, example};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::boot::{reboot, undo_reboot};

const HOLDERS: usize = 20;
const UNKNOWN: usize = 60;
const OF_ANOTHER_BOOT: usize = 20;
const ALL: usize = 1000;
const JUNK: usize = 150;

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [example::POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// What no program of the product would leave.
fn litter(spool: &Path, whole: &[u8]) -> Result<()> {
    for number in 0..JUNK {
        let content = match number % 5 {
            0 => Vec::new(),
            1 => b"not a tombstone at all\n".to_vec(),
            2 => whole[..whole.len() - 1 - number % 40].to_vec(),
            3 => [whole, b"more"].concat(),
            _ => {
                let mut changed = whole.to_vec();
                let last = changed.len() - 1 - number % 30;
                changed[last] ^= 1;
                changed
            }
        };
        fs::write(spool.join(format!("junk-{number}.tombstone")), content)?;
    }
    File::create(spool.join("huge.tombstone"))?.set_len(1 << 40)?;
    symlink("/dev/zero", spool.join("link.tombstone"))?;
    fs::create_dir(spool.join("folder.tombstone"))?;
    nix::unistd::mkfifo(&spool.join("pipe.tombstone"), nix::sys::stat::Mode::S_IRWXU)?;
    // Not a tombstone's name: nobody's business. A temporary file whose writer is dead goes.
    fs::write(spool.join("README"), "stays")?;
    fs::write(spool.join("dead.tmp"), "goes")?;
    Ok(())
}

/// Rule: DEL always ends.
#[test]
fn a_thousand_tombstones_and_junk_are_drained_before_the_first_call() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let sandbox = node.sandbox("a")?;
    for number in 0..=HOLDERS {
        shim(node, &format!("c{number}"), &sandbox).call("ADD", config())?.result()?;
    }
    node.daemon().kill()?;
    let bury = |prefix: &str, count: usize| {
        (0..count)
            .try_for_each(|number| shim(node, &format!("{prefix}{number}"), &sandbox).call("DEL", config())?.silent())
    };
    bury("c", HOLDERS)?;
    bury("unknown", UNKNOWN)?;
    reboot(node, lab.folder(), "11111111-2222-4333-8444-555555555555")?;
    // The last one still holds its address: what another boot wanted gone went with it.
    bury("old", OF_ANOTHER_BOOT)?;
    shim(node, &format!("c{HOLDERS}"), &sandbox).call("DEL", config())?.silent()?;
    undo_reboot(node)?;
    let spool = node.daemon().spool();
    let real = files(spool)?;
    for (number, file) in (real.len()..ALL).zip(real.iter().cycle()) {
        let copy = spool.join(format!("{number:032x}.tombstone"));
        fs::copy(file, &copy)?;
    }
    litter(spool, &fs::read(real.first().context("no tombstone")?)?)?;

    let stopwatch = Stopwatch::start();
    node.daemon().start_within(Duration::from_secs(60))?;
    println!("{ALL} tombstones and {JUNK} files of junk were drained in {:?}", stopwatch.elapsed());
    let held = lab.inspect(node).allocations()?;
    ensure!(held.len() == 1 && held[0]["containerId"] == format!("c{HOLDERS}"), "{held:?}");
    let mut left: Vec<String> =
        files(spool)?.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    left.sort();
    ensure!(left == ["README", "junk"], "{left:?}");
    let junk = files(&spool.join("junk"))?.len();
    ensure!(junk == JUNK + 4, "junk is set aside, not removed: {junk}");
    // And is not looked at again.
    let told = node.daemon().log()?.matches("A tombstone is not whole").count();
    node.daemon().restart()?;
    ensure!(told == JUNK + 4 && node.daemon().log()?.matches("A tombstone is not whole").count() == told, "{told}");
    // A spool that others may write is not read.
    fs::set_permissions(spool, Permissions::from_mode(0o777))?;
    node.daemon().restart()?;
    ensure!(node.daemon().log()?.contains("Cannot read the spool"));
    node.namespace().run(&Program::new("chmod").arg("0700").arg(spool))?.success().map(drop)
}
