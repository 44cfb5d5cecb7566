//! What a story begins and ends with: a request, parsed (whatever has become a [`Call`] is valid in form), and what came
//! of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use spiderpool_cni::types::{
    Arguments, CniError, CniVersion, Code, NetworkConfiguration, ValidAttachment, check_container_id, check_interface,
};
use spiderpool_core::node::attachment::{Attachment, Plugin};
use spiderpool_core::world::PodId;
use spiderpool_proto::node::{self, CniRequest};
use tracing::info;

use crate::clock;
use crate::keeper::Stopped;
use crate::room::Full;

/// The CNI verbs that reach the daemon (CNI specification 1.1.0, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// ADD.
    Add,
    /// DEL.
    Del,
    /// CHECK.
    Check,
    /// GC.
    Gc,
    /// STATUS.
    Status,
}

/// What requests are held against.
pub(crate) struct Rules {
    /// This boot's ID.
    pub boot_id: String,
    /// Folders that a namespace may be named in.
    pub netns_folders: Vec<PathBuf>,
    /// Networks whose ignored keys have been named in the log.
    pub named: Mutex<BTreeSet<String>>,
}

/// A valid request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub verb: Verb,
    /// By which program.
    pub plugin: Plugin,
    /// Of which attachment; container and interface are empty in GC and STATUS.
    pub who: Attachment,
    /// CNI_NETNS; empty where the verb needs none and none was given.
    pub netns: PathBuf,
    /// The Pod, where the runtime says.
    pub pod: PodId,
    /// The network configuration.
    pub config: NetworkConfiguration,
    /// When the program started, in nanoseconds of the boot clock. A DEL of another boot starts at 0: before all.
    pub started: u64,
}

/// How a story can end badly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// With an error for the runtime.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// With the daemon.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A DEL that cannot be recorded now: its program keeps it in the spool.
    #[error(transparent)]
    Full(#[from] Full),
}

/// What a story ends with: the text to print, empty where a verb prints nothing.
pub(crate) type Ending = Result<String, Failure>;

impl Call {
    /// Parses a request. The error comes with the version to print it in.
    pub(crate) fn parse(verb: Verb, request: CniRequest, rules: &Rules) -> Result<Call, (CniVersion, CniError)> {
        let config =
            NetworkConfiguration::parse(&request.config).map_err(|error| (version_of(&request.config), error))?;
        let version = config.cni_version;
        Call::within(verb, request, config, rules).map_err(|error| (version, error))
    }

    fn within(verb: Verb, request: CniRequest, config: NetworkConfiguration, rules: &Rules) -> Result<Call, CniError> {
        let environment = |text: String| CniError::new(Code::InvalidEnvironment, text);
        let plugin = match request.plugin() {
            node::Plugin::Ipam => Plugin::Ipam,
            node::Plugin::Coordinator => Plugin::Coordinator,
            node::Plugin::Unspecified => {
                return Err(environment("field plugin says neither IPAM nor coordinator".into()));
            }
        };
        verb.check_version(config.cni_version)?;
        if verb.names_attachment() {
            check_container_id(&request.container_id)?;
            check_interface(&request.interface)?;
        }
        let netns = PathBuf::from(&request.netns);
        if matches!(verb, Verb::Add | Verb::Check) {
            check_netns(&netns, &rules.netns_folders)?;
        }
        let arguments = Arguments::parse(&request.args)?;
        let pod = PodId {
            namespace: arguments.pod_namespace.unwrap_or_default(),
            name: arguments.pod_name.unwrap_or_default(),
            uid: arguments.pod_uid.unwrap_or_default(),
        };
        let started = request.started.unwrap_or_default();
        let started = match (started.boot_id == rules.boot_id, verb) {
            (true, _) => started.boottime_ns.min(clock::boot()),
            // What it wants gone went with its boot.
            (false, Verb::Del) => 0,
            (false, _) => {
                let (theirs, ours) = (started.boot_id, &rules.boot_id);
                return Err(environment(format!("field started is of boot {theirs:?}, this one is {ours:?}")));
            }
        };
        let who = Attachment {
            container: Arc::from(request.container_id),
            interface: Arc::from(request.interface),
            network: Arc::from(config.name.as_str()),
        };
        let call = Call { verb, plugin, who, netns, pod, config, started };
        rules.name_ignored(&call);
        Ok(call)
    }
}

impl Call {
    /// The attachments that a GC spares. A runtime that sends no list at all (cnitool) spares none by name; the
    /// kernel's evidence decides in any case.
    pub(crate) fn valid_attachments(&self) -> Result<BTreeSet<ValidAttachment>, CniError> {
        Ok(self.config.valid_attachments()?.unwrap_or_default().into_iter().collect())
    }
}

impl Rules {
    /// Says once a network which keys of its configuration have no effect.
    fn name_ignored(&self, call: &Call) {
        if call.verb != Verb::Add {
            return;
        }
        // A wrong value is reported by the story itself.
        let keys = match call.plugin {
            Plugin::Ipam => call.config.ipam().map(|keys| (keys.ignored, keys.unknown)),
            Plugin::Coordinator => call.config.coordinator().map(|keys| {
                let probes = [("detectGateway", keys.detect_gateway), ("detectIPConflict", keys.detect_ip_conflict)];
                let asked = probes.into_iter().filter(|(_, switched)| *switched == Some(true));
                let asked = asked.map(|(key, _)| format!("{key}: true"));
                (keys.ignored.into_iter().chain(asked).collect(), keys.unknown)
            }),
        };
        let (ignored, unknown) = keys.unwrap_or_default();
        if ignored.is_empty() && unknown.is_empty() {
            return;
        }
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded: whoever makes more networks than this hears of the first ones.
        if named.len() < 1024 && named.insert(format!("{}/{:?}", call.config.name, call.plugin)) {
            let (network, ignored, unknown) = (&call.config.name, ignored.join(","), unknown.join(","));
            info!(network, ignored, unknown, "Keys of this network's configuration have no effect");
        }
    }
}

impl Verb {
    fn names_attachment(self) -> bool {
        matches!(self, Verb::Add | Verb::Del | Verb::Check)
    }

    /// A verb is refused in a version that does not have it.
    fn check_version(self, version: CniVersion) -> Result<(), CniError> {
        let since = match self {
            Verb::Add | Verb::Del => CniVersion::V0_3_0,
            Verb::Check => CniVersion::V0_4_0,
            Verb::Gc | Verb::Status => CniVersion::V1_1_0,
        };
        if version >= since {
            return Ok(());
        }
        let msg = format!("cniVersion {version} has no verb {self}; it needs {since} or newer");
        Err(CniError::new(Code::IncompatibleVersion, msg))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
        })
    }
}

/// A namespace's path comes from the runtime; it is opened only below the folders where runtimes keep them.
fn check_netns(path: &Path, folders: &[PathBuf]) -> Result<(), CniError> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if plain && folders.iter().any(|folder| path.starts_with(folder) && path != folder) {
        return Ok(());
    }
    let allowed = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
    let msg = format!("CNI_NETNS {:?} is not below one of the folders {allowed}", path.display().to_string());
    Err(CniError::new(Code::InvalidEnvironment, msg)
        .with_details("name every allowed folder with the daemon's flag --netns-folder"))
}

/// The version to print an error in when the configuration itself cannot be read.
fn version_of(config: &str) -> CniVersion {
    let parsed: Option<serde_json::Value> = serde_json::from_str(config).ok();
    let version = parsed.as_ref().and_then(|parsed| parsed.get("cniVersion")).and_then(|version| version.as_str());
    CniVersion::parse(version).unwrap_or(CniVersion::NEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_must_be_below_an_allowed_folder() {
        let folders = [PathBuf::from("/var/run/netns"), PathBuf::from("/proc")];
        for good in ["/var/run/netns/cni-1", "/proc/12/ns/net"] {
            assert_eq!(check_netns(Path::new(good), &folders), Ok(()));
        }
        for bad in ["", "/etc/passwd", "/var/run/netns", "/var/run/netns/../x", "var/run/netns/x", "/var/run/netnsx/a"]
        {
            let error = check_netns(Path::new(bad), &folders).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment, "{bad}");
        }
    }
}
