//! The programs that the lab drives, and what to do when one is missing.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Debian's folder of CNI plugins.
pub(crate) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Programs of the machine, and the Debian package that brings each.
const MACHINE: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("curl", "curl"),
    ("unshare", "util-linux"),
    ("/usr/lib/cni/macvlan", "containernetworking-plugins"),
];

/// The product's programs as built.
#[derive(Clone, Debug)]
pub struct Product {
    /// `spiderpool-agent`.
    pub agent: PathBuf,
    /// The folder with the shims `spiderpool` and `coordinator`.
    pub shims: PathBuf,
}

impl Product {
    /// Looks in the folder `SPIDERPOOL_BIN`, or else in cargo's target folder: profile `release` for the daemon,
    /// `shim` for the shims.
    ///
    /// # Errors
    /// Names the program that is missing and how to build it.
    pub fn find() -> Result<Self> {
        let product = match env::var_os("SPIDERPOOL_BIN").map(PathBuf::from) {
            Some(folder) => Self { agent: folder.join("spiderpool-agent"), shims: folder },
            None => {
                let target = target_folder()?;
                Self { agent: target.join("release/spiderpool-agent"), shims: target.join("shim") }
            }
        };
        for program in [&product.agent, &product.shims.join("spiderpool"), &product.shims.join("coordinator")] {
            if !program.is_file() {
                bail!("{} is missing: run `make build`, or name the folder in SPIDERPOOL_BIN", program.display());
            }
        }
        Ok(product)
    }
}

/// The foreign programs of `tests/tools`.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The reference CNI runner.
    pub cnitool: PathBuf,
    /// The command line client for gRPC.
    pub grpcurl: PathBuf,
}

impl Tools {
    /// Looks in the folder `SPIDERPOOL_TOOLS`, or else has `tests/tools/build` build them (once a machine).
    ///
    /// # Errors
    /// They could not be built, or the folder lacks one.
    pub fn find() -> Result<Self> {
        let folder = match env::var_os("SPIDERPOOL_TOOLS").map(PathBuf::from) {
            Some(folder) => folder,
            None => build_tools()?,
        };
        let tools = Self { cnitool: folder.join("cnitool"), grpcurl: folder.join("grpcurl") };
        for program in [&tools.cnitool, &tools.grpcurl] {
            if !program.is_file() {
                bail!("{} is missing: run tests/tools/build", program.display());
            }
        }
        Ok(tools)
    }
}

/// Fails with the names of the Debian packages to install, if programs of the machine are missing.
pub(crate) fn require_machine() -> Result<()> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let present = |program: &str| env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = MACHINE.iter().filter(|(program, _)| !present(program)).collect();
    if !missing.is_empty() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        bail!("{} missing: run `apt-get install {}`", programs.join(", "), packages.join(" "));
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces: run it as root");
    }
    Ok(())
}

fn build_tools() -> Result<PathBuf> {
    // Tests run side by side, and only the first has to build.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/build");
    let output =
        Command::new(&script).stderr(Stdio::inherit()).output().with_context(|| format!("run {}", script.display()))?;
    if !output.status.success() {
        bail!("{} failed ({})", script.display(), output.status);
    }
    let text = String::from_utf8(output.stdout).context("the folder that tests/tools/build printed")?;
    text.lines().last().map(PathBuf::from).with_context(|| format!("{} printed no folder", script.display()))
}

fn target_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR") {
        return Ok(folder.into());
    }
    let home = env::var_os("HOME").context("neither SPIDERPOOL_BIN, CARGO_TARGET_DIR nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/spiderpool/target"))
}
