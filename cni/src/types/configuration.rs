//! The network configuration that a runtime writes to a program's standard input (CNI specification 1.1.0, section 1).
//!
//! What every verb needs is checked when it is parsed. The rest is read on demand, so that a DEL does not fail over a
//! key that it has no use for.

mod coordinator;
mod ipam;

pub use coordinator::{CoordinatorConfiguration, DetectOptions, MacPrefix, Mode, PolicyRoute};
pub use ipam::IpamConfiguration;
use serde_json::{Map, Value};

use super::{CniError, CniResult, CniVersion, Code, Reader, check_container_id, check_interface, check_network_name};

/// A network configuration: the common keys, and the rest on demand.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfiguration {
    /// Key `cniVersion`: the version to answer in.
    pub cni_version: CniVersion,
    /// Key `name`: the network.
    pub name: String,
    /// Key `type`: the main plugin's program, or this one if it is a chained plugin. Empty in some runtimes' GC.
    pub plugin_type: String,
    /// The whole object as it came.
    pub raw: Map<String, Value>,
}

/// An attachment that the runtime still wants (key `cni.dev/valid-attachments`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValidAttachment {
    /// Its container.
    pub container_id: String,
    /// Its interface.
    pub interface: String,
}

impl NetworkConfiguration {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Code 6 if it is no JSON object, 1 for the version, 7 for `name` and `type`.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let raw: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            CniError::new(
                Code::Decode,
                format!("the network configuration on standard input is no JSON object: {error}"),
            )
        })?;
        let reader = Reader::root(&raw);
        let cni_version = CniVersion::parse(reader.string("cniVersion")?)?;
        let name = reader.string("name")?.ok_or_else(|| reader.missing("name", "the network's name"))?.to_owned();
        check_network_name(&name)?;
        let plugin_type = reader.string("type")?.unwrap_or_default().to_owned();
        Ok(Self { cni_version, name, plugin_type, raw })
    }

    /// The keys of the IPAM plugin (object `ipam`); all defaults if there is none.
    ///
    /// # Errors
    /// Code 7.
    pub fn ipam(&self) -> Result<IpamConfiguration, CniError> {
        IpamConfiguration::read(&Reader::root(&self.raw))
    }

    /// The coordinator's keys. Only for a configuration whose `type` is the coordinator: other plugins use the same
    /// keys (`mode`) for other things.
    ///
    /// # Errors
    /// Code 7.
    pub fn coordinator(&self) -> Result<CoordinatorConfiguration, CniError> {
        CoordinatorConfiguration::read(&Reader::root(&self.raw))
    }

    /// Key `prevResult`: what the plugins before this one made, or what ADD answered (CHECK, DEL).
    ///
    /// # Errors
    /// Code 7 for a value of the wrong type, 1 for a version that is not supported.
    pub fn previous_result(&self) -> Result<Option<CniResult>, CniError> {
        Reader::root(&self.raw)
            .object("prevResult")?
            .map(|reader| CniResult::read(&reader, Some(self.cni_version)))
            .transpose()
    }

    /// Keys `cni.dev/valid-attachments` and `cni.dev/attachments`, the name that an early draft printed and that
    /// libcni still sends beside it (containernetworking/cni issue 1101): the union, which spares more. `None` if
    /// neither key is there: the specification requires one for GC, but libcni writes none when its caller has no
    /// list. `null`, as Go writes an empty list, is an empty list.
    ///
    /// # Errors
    /// Code 7.
    pub fn valid_attachments(&self) -> Result<Option<Vec<ValidAttachment>>, CniError> {
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        if !keys.iter().any(|key| self.raw.contains_key(*key)) {
            return Ok(None);
        }
        let reader = Reader::root(&self.raw);
        let mut attachments = Vec::new();
        for key in keys {
            for entry in reader.objects(key)? {
                let text =
                    |key: &str, wanted| entry.string(key)?.map(str::to_owned).ok_or_else(|| entry.missing(key, wanted));
                let attachment = ValidAttachment {
                    container_id: text("containerID", "the attachment's container ID")?,
                    interface: text("ifname", "the attachment's interface name")?,
                };
                let named = |key: &str, error: CniError| {
                    CniError::new(Code::InvalidConfiguration, format!("{}: {}", entry.path(key), error.msg))
                };
                check_container_id(&attachment.container_id).map_err(|error| named("containerID", error))?;
                check_interface(&attachment.interface).map_err(|error| named("ifname", error))?;
                attachments.push(attachment);
            }
        }
        attachments.sort();
        attachments.dedup();
        Ok(Some(attachments))
    }
}

/// The keys that are not `known`: first the legacy ones, which have no effect any more, then those that nobody knows.
fn sort_out(reader: &Reader<'_>, known: &[&str], legacy: &[&str]) -> (Vec<String>, Vec<String>) {
    let (ignored, unknown): (Vec<_>, Vec<_>) =
        reader.keys().filter(|key| !known.contains(key)).partition(|key| legacy.contains(key));
    let paths = |keys: Vec<&str>| keys.into_iter().map(|key| reader.path(key)).collect();
    (paths(ignored), paths(unknown))
}

#[cfg(test)]
mod tests;
