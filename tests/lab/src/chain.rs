//! CNI chains, as a network attachment definition carries them.

use serde_json::{Value, json};
use std::fmt;

use crate::example::{POOL, UNDERLAY_LINK};

/// A list of plugin configurations that run after each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain(Value);

impl Chain {
    /// Macvlan on the node's underlay link with the given `ipam`, and nothing after it.
    pub fn macvlan(ipam: &Value) -> Self {
        Self(json!({
            "cniVersion": "0.3.1",
            "name": "macvlan-ens192",
            "plugins": [{ "type": "macvlan", "ipam": ipam, "master": UNDERLAY_LINK, "mode": "bridge" }],
        }))
    }

    /// The example's chain: macvlan with addresses of the pool, then the coordinator in overlay mode. The second
    /// type is spelled as old attachment definitions have it.
    pub fn overlay() -> Self {
        let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
        Self::macvlan(&ipam).then(json!({
            "type": "coordinattor",
            "ipam": {},
            "dns": {},
            "detectGateway": false,
            "tunePodRoutes": true,
            "mode": "overlay",
            "hostRuleTable": 500,
            "detectIPConflict": false,
        }))
    }

    /// With one more plugin at the end.
    #[must_use]
    pub fn then(mut self, plugin: Value) -> Self {
        if let Some(plugins) = self.0["plugins"].as_array_mut() {
            plugins.push(plugin);
        }
        self
    }

    /// With a key of the last plugin set: the coordinator's, where there is one.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Some(plugin) = self.0["plugins"].as_array_mut().and_then(|plugins| plugins.last_mut()) {
            plugin[key] = value.into();
        }
        self
    }

    /// With the Pod's default route on `interface`.
    #[must_use]
    pub fn default_route_nic(self, interface: &str) -> Self {
        self.with("podDefaultRouteNic", interface)
    }

    /// With another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.0["name"] = name.into();
        self
    }

    /// In another version of the specification.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.0["cniVersion"] = version.into();
        self
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap_or_default()
    }
}

/// The JSON text of a `.conflist` file.
impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}
