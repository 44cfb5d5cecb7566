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

/// Names the fail points at which a program ends, and the time: `NAME:HIT,NAME:HIT`.
pub(crate) const FAIL_POINTS: &str = "SPIDERPOOL_FAIL_POINTS";

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
        product.or_missing("run `make build`, or name the folder in SPIDERPOOL_BIN")
    }

    /// As [`Product::find`], built with fail points: in the folder `SPIDERPOOL_FAILPOINTS_BIN`, or else in `failpoints` of
    /// cargo's target folder.
    ///
    /// # Errors
    /// As [`Product::find`].
    pub fn with_fail_points() -> Result<Self> {
        let folder = match env::var_os("SPIDERPOOL_FAILPOINTS_BIN").map(PathBuf::from) {
            Some(folder) => folder,
            None => target_folder()?.join("failpoints"),
        };
        let product = Self { agent: folder.join("spiderpool-agent"), shims: folder };
        product.or_missing("run `make failpoints`, or name the folder in SPIDERPOOL_FAILPOINTS_BIN")
    }

    /// The names of the fail points that the programs are built with.
    ///
    /// # Errors
    /// They are built without.
    pub fn fail_points(&self) -> Result<Vec<String>> {
        let output = Command::new(&self.agent).arg("fail-points").output().context("ask for fail points")?;
        if !output.status.success() {
            bail!("{} has no fail points: run `make failpoints`", self.agent.display());
        }
        let text = String::from_utf8(output.stdout).context("names of fail points")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn or_missing(self, remedy: &str) -> Result<Self> {
        for program in [&self.agent, &self.shims.join("spiderpool"), &self.shims.join("coordinator")] {
            if !program.is_file() {
                bail!("{} is missing: {remedy}", program.display());
            }
        }
        Ok(self)
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
