//! The files in which libcni keeps what its ADDs were answered (kind `cniCacheV1`): after a loss they say who holds what.
//!
//! Whatever parses is valid in form: its names are what ADD would have accepted.

use serde_json::Value;

use crate::types::{CniResult, check_container_id, check_interface, check_network_name};

/// An ADD that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedResult {
    /// CNI_CONTAINERID.
    pub container: String,
    /// CNI_IFNAME.
    pub interface: String,
    /// Name of the network.
    pub network: String,
    /// CNI_NETNS, or the sandbox that the answer names; as written.
    pub netns: String,
    /// CNI_ARGS: pairs of key and value.
    pub arguments: Vec<(String, String)>,
    /// The answer.
    pub result: CniResult,
}

impl CachedResult {
    /// Reads a file's content. None: it says nothing of an attachment that this product could have served.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(content: &[u8]) -> serde_json::Result<Option<Self>> {
        serde_json::from_slice(content).map(|cache| Self::read(&cache))
    }

    /// The value of a key of CNI_ARGS; empty if it is not there.
    pub fn argument(&self, key: &str) -> &str {
        self.arguments.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    fn read(cache: &Value) -> Option<Self> {
        let text = |key: &str| cache.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (container, interface, network) = (text("containerId")?, text("ifName")?, text("networkName")?);
        check_container_id(container).ok()?;
        check_interface(interface).ok()?;
        check_network_name(network).ok()?;
        let result = CniResult::parse(&cache.get("result")?.to_string()).ok()?;
        let sandbox = || result.interfaces.iter().find_map(|found| found.sandbox.as_deref());
        let netns = text("netns").or_else(sandbox)?.to_owned();
        let pair = |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()));
        let pairs = cache.get("cniArgs").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            container: container.to_owned(),
            interface: interface.to_owned(),
            network: network.to_owned(),
            netns,
            arguments: pairs.filter_map(pair).collect(),
            result,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As libcni 1.1 writes it, less what nobody reads.
    fn file() -> Value {
        json!({
            "kind": "cniCacheV1", "containerId": "c1", "ifName": "net1", "networkName": "lan",
            "netns": "/var/run/netns/x",
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web-0"]],
            "result": {
                "cniVersion": "1.0.0", "ips": [{"address": "10.6.0.9/16"}],
                "interfaces": [{"name": "net1", "sandbox": "/var/run/netns/y"}],
            },
        })
    }

    fn parse(file: &Value) -> Option<CachedResult> {
        CachedResult::parse(file.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn tells_who_holds_what() {
        let cached = parse(&file()).unwrap();
        assert_eq!((&*cached.container, &*cached.interface, &*cached.network), ("c1", "net1", "lan"));
        assert_eq!(cached.netns, "/var/run/netns/x");
        assert_eq!((cached.argument("K8S_POD_NAME"), cached.argument("K8S_POD_UID")), ("web-0", ""));
        assert_eq!(cached.result.ips[0].address.to_string(), "10.6.0.9/16");
        let mut without = file();
        without["netns"] = "".into();
        assert_eq!(parse(&without).unwrap().netns, "/var/run/netns/y", "the answer names it too");
    }

    #[test]
    fn what_no_add_could_have_said_is_passed_over() {
        for (key, value) in [
            ("containerId", json!("c1\0net2")),
            ("containerId", json!("../c1")),
            ("containerId", json!("")),
            ("ifName", json!("a/b")),
            ("networkName", json!("l\0an")),
            ("networkName", json!(5)),
            ("result", json!({"cniVersion": "1.0.0", "ips": [{"address": "10.6.0.9/33"}]})),
            ("result", Value::Null),
        ] {
            let mut wrong = file();
            wrong[key] = value.clone();
            assert_eq!(parse(&wrong), None, "{key}: {value}");
        }
        assert_eq!(parse(&json!([])), None);
        assert!(CachedResult::parse(b"{").is_err());
    }
}
