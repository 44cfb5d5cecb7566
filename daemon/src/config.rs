//! Flags, each with an environment variable. Parsed completely before anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where the daemon listens unless told otherwise.
const SOCKET: &str = "/var/run/spidernet/spiderpool.sock";

/// The node's daemon of the underlay network: gives Pods addresses from pools and sets their routes.
#[derive(Debug, Parser)]
#[command(name = "spiderpool-agent", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  # Put the CNI programs where the container runtime looks for them.
  spiderpool-agent install --from /usr/libexec/spiderpool --bin-dir /opt/cni/bin

  # Serve this node from a folder of SpiderIPPool, SpiderReservedIP and SpiderCoordinator documents, without a cluster.
  spiderpool-agent run --standalone /etc/spidernet

  # Ask the running daemon: its state; one container, by what its ID begins with; one address.
  spiderpool-agent status
  spiderpool-agent why 3f2a9c
  spiderpool-agent why 10.6.212.145

  # The same and more as data.
  grpcurl -plaintext -unix /var/run/spidernet/spiderpool.sock spiderpool.node.v1.Inspect/ListPools";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve this node until SIGTERM or SIGINT.
    Run(Box<RunArgs>),
    /// Copy the CNI programs into the runtime's folder and write their settings beside them.
    Install(InstallArgs),
    /// Show the state of this node's daemon: pools, and what waits and why.
    Status(StatusArgs),
    /// Show what is recorded and remembered of a container or an address.
    Why(WhyArgs),
    /// Name the places where a test can end the programs.
    #[cfg(feature = "failpoints")]
    FailPoints,
}

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Folder of YAML documents that says which pools there are; read again when it changes.
    ///
    /// Kinds: SpiderIPPool, SpiderReservedIP, SpiderCoordinator (with its status: overlayPodCIDR, serviceCIDR, phase), Node
    /// and Namespace (for their labels). A bad document is refused with file, line and field; the last good state stays.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_STANDALONE")]
    pub standalone: PathBuf,

    /// Name of this node, as `nodeName` in pools means it.
    #[arg(long, value_name = "NAME", env = "SPIDERPOOL_NODE_NAME", default_value_t = host_name())]
    pub node_name: String,

    /// Folder of the journal and the lock. It must survive a restart of the daemon.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_STATE_DIR", default_value = "/var/lib/spidernet")]
    pub state_dir: PathBuf,

    /// Unix socket that the CNI programs call. Its folder is made for root alone.
    #[arg(long, value_name = "PATH", env = "SPIDERPOOL_SOCKET", default_value = SOCKET)]
    pub socket: PathBuf,

    /// Folder where the CNI programs leave a DEL while the daemon is away.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_SPOOL", default_value = "/var/lib/spidernet/spool")]
    pub spool: PathBuf,

    /// Address of the HTTP port: /metrics for Prometheus, /livez, /readyz and /startupz for probes.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SPIDERPOOL_HTTP_LISTEN", default_value = "127.0.0.1:5711")]
    pub http_listen: SocketAddr,

    /// Folder that network namespaces may be named in by CNI_NETNS; may be given several times, and replaces the defaults.
    #[arg(
        long = "netns-folder",
        value_name = "DIR",
        env = "SPIDERPOOL_NETNS_FOLDERS",
        value_delimiter = ':',
        default_values = ["/var/run/netns", "/run/netns", "/var/run/docker/netns", "/run/docker/netns", "/proc"]
    )]
    pub netns_folders: Vec<PathBuf>,

    /// The host's proc file system: where sysctls are set and namespaces are looked for.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_PROC", default_value = "/proc")]
    pub proc: PathBuf,

    /// File with the host's machine ID (machine-id(5)); in a container, the host's is to be mounted. A journal that was begun
    /// on another machine, or under another node name, is a copy and gives nothing out. A file that is not there, or has no
    /// ID, says nothing.
    #[arg(long, value_name = "PATH", env = "SPIDERPOOL_MACHINE_ID", default_value = "/etc/machine-id")]
    pub machine_id: PathBuf,

    /// Folder of results that the runtime's CNI library keeps; may be given several times. Read once, when the journal was
    /// lost or is of another boot, to know again who holds which address.
    #[arg(
        long = "cni-cache",
        value_name = "DIR",
        env = "SPIDERPOOL_CNI_CACHES",
        value_delimiter = ':',
        default_values = ["/var/lib/cni/results", "/var/lib/cni/multus/results"]
    )]
    pub(crate) cni_caches: Vec<PathBuf>,

    /// Seconds that an address rests after its release, so that neighbours forget who had it. Under pressure the longest
    /// resting one is given out earlier.
    #[arg(long, value_name = "SECONDS", env = "SPIDERPOOL_COOLDOWN", default_value = "30", value_parser = seconds)]
    pub cooldown: Duration,

    /// Seconds that an ADD may wait for an address before it fails with "try again".
    #[arg(long, value_name = "SECONDS", env = "SPIDERPOOL_BUDGET", default_value = "8", value_parser = seconds)]
    pub budget: Duration,

    /// Seconds between looks at every sandbox: for tests, which cannot wait for a minute.
    #[arg(long, value_name = "SECONDS", env = "SPIDERPOOL_ROUND", default_value = "60", value_parser = seconds, hide = true)]
    pub round: Duration,

    /// Ask the segment, before an address is given to a Pod, whether a stranger uses it; such an address is passed over until
    /// a later probe hears nobody. Takes 0.3 s an ADD. `spec.detectIPConflict` of the SpiderCoordinator switches it on too.
    #[arg(long, env = "SPIDERPOOL_ENABLE_IP_CONFLICT_DETECTION", value_parser = BoolishValueParser::new())]
    pub enable_ip_conflict_detection: bool,

    /// Fail an ADD, with "try again", whose gateway does not answer. `spec.detectGateway` of the SpiderCoordinator switches it
    /// on too.
    #[arg(long, env = "SPIDERPOOL_ENABLE_GATEWAY_DETECTION", value_parser = BoolishValueParser::new())]
    pub enable_gateway_detection: bool,

    /// Which log lines to write: error, warn, info, debug, trace, or a filter such as `info,spiderpool_agent::net=debug`.
    #[arg(long, value_name = "FILTER", env = "SPIDERPOOL_LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// How to write log lines.
    #[arg(long, value_enum, env = "SPIDERPOOL_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Flags of `install`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InstallArgs {
    /// Folder of the runtime's CNI programs.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_BIN_DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,

    /// Folder that holds `spiderpool` and `coordinator`; by default the one this program is in.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_INSTALL_FROM")]
    pub from: Option<PathBuf>,

    /// Socket that the programs are to call.
    #[arg(long, value_name = "PATH", env = "SPIDERPOOL_SOCKET", default_value = SOCKET)]
    pub socket: PathBuf,

    /// Folder where the programs are to leave a DEL while the daemon is away.
    #[arg(long, value_name = "DIR", env = "SPIDERPOOL_SPOOL", default_value = "/var/lib/spidernet/spool")]
    pub spool: PathBuf,

    /// Seconds that a program is to wait for the daemon.
    #[arg(long, value_name = "SECONDS", env = "SPIDERPOOL_SHIM_TIMEOUT", default_value_t = 10)]
    pub timeout: u32,
}

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Flags of `why`.
#[derive(Args, Clone, Debug)]
pub(crate) struct WhyArgs {
    /// An IP address, with prefix length or without, or a container ID or its first characters.
    #[arg(value_name = "CONTAINER-OR-ADDRESS")]
    pub subject: String,

    /// Which daemon.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Which daemon to ask.
#[derive(Args, Clone, Debug)]
pub(crate) struct DaemonArgs {
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH", env = "SPIDERPOOL_SOCKET", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// Forms of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line an event: time, level, message, key=value.
    Text,
    /// One JSON object an event.
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a number of seconds between 0 and 86400, such as 30 or 0.5");
    let seconds: f64 = text.parse().map_err(|_| refused())?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(refused()) }
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "localhost".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_consistent_and_each_has_an_environment_variable() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        command.build();
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            for flag in verb.get_arguments().filter(|flag| !matches!(flag.get_id().as_str(), "help" | "version")) {
                let has_variable = flag.is_positional() || flag.get_env().is_some();
                assert!(has_variable, "{} {} has no environment variable", verb.get_name(), flag.get_id());
                assert!(flag.get_help().is_some(), "{} {} has no help", verb.get_name(), flag.get_id());
            }
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_and_a_bound() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["-1", "x", "1e9", "NaN", ""].iter().all(|text| seconds(text).is_err()));
    }
}
