//! Result to JSON, in any version.

use serde_json::{Map, Value};

use super::{CniResult, CniVersion, Dns, Interface, IpConfiguration, Route};

impl CniResult {
    /// The JSON text to print in `version`.
    pub fn render(&self, version: CniVersion) -> String {
        Value::Object(self.to_object(version)).to_string()
    }

    /// The JSON object in `version`.
    pub fn to_object(&self, version: CniVersion) -> Map<String, Value> {
        let form = Form { version, keeps_all: self.source.is_some_and(|source| version >= source) };
        let mut object = form.object(&self.extra);
        object.insert("cniVersion".to_owned(), version.as_str().into());
        put_list(&mut object, "interfaces", self.interfaces.iter().map(|interface| form.interface(interface)));
        let mut ips: Vec<&IpConfiguration> = self.ips.iter().collect();
        // The order of a result that was read is its maker's: runtimes take the first address as the Pod's.
        if self.source.is_none() {
            ips.sort_by_key(|ip| ip.address.addr().is_ipv6());
        }
        put_list(&mut object, "ips", ips.into_iter().map(|ip| form.ip_configuration(ip)));
        put_list(&mut object, "routes", self.routes.iter().map(|route| form.route(route)));
        let dns = form.dns(&self.dns);
        if !dns.is_empty() {
            object.insert("dns".to_owned(), dns.into());
        }
        object
    }
}

/// How to print: in which version, and whether what that version does not know was there when it was read.
#[derive(Clone, Copy)]
struct Form {
    version: CniVersion,
    keeps_all: bool,
}

impl Form {
    fn object(self, extra: &Map<String, Value>) -> Map<String, Value> {
        if self.keeps_all { extra.clone() } else { Map::new() }
    }

    /// May keys be printed that came with 1.1.0?
    fn knows_1_1(self) -> bool {
        self.keeps_all || self.version >= CniVersion::V1_1_0
    }

    fn interface(self, interface: &Interface) -> Map<String, Value> {
        let mut object = self.object(&interface.extra);
        put(&mut object, "name", Some(interface.name.as_str()));
        put(&mut object, "mac", interface.mac.as_deref());
        put(&mut object, "sandbox", interface.sandbox.as_deref());
        if self.knows_1_1() {
            put(&mut object, "mtu", interface.mtu);
            put(&mut object, "socketPath", interface.socket_path.as_deref());
            put(&mut object, "pciID", interface.pci_id.as_deref());
        }
        object
    }

    fn ip_configuration(self, ip: &IpConfiguration) -> Map<String, Value> {
        let mut object = self.object(&ip.extra);
        if self.version < CniVersion::V1_0_0 {
            put(&mut object, "version", Some(if ip.address.addr().is_ipv4() { "4" } else { "6" }));
        }
        put(&mut object, "address", Some(ip.address.to_string()));
        put(&mut object, "gateway", ip.gateway.map(|gateway| gateway.to_string()));
        put(&mut object, "interface", ip.interface);
        object
    }

    fn route(self, route: &Route) -> Map<String, Value> {
        let mut object = self.object(&route.extra);
        put(&mut object, "dst", Some(route.destination.to_string()));
        put(&mut object, "gw", route.gateway.map(|gateway| gateway.to_string()));
        if self.knows_1_1() {
            put(&mut object, "mtu", route.mtu);
            put(&mut object, "advmss", route.advertised_mss);
            put(&mut object, "priority", route.priority);
            put(&mut object, "table", route.table);
            put(&mut object, "scope", route.scope);
        }
        object
    }

    fn dns(self, dns: &Dns) -> Map<String, Value> {
        let mut object = self.object(&dns.extra);
        put(&mut object, "domain", dns.domain.as_deref());
        for (key, list) in [("nameservers", &dns.nameservers), ("search", &dns.search), ("options", &dns.options)] {
            if !list.is_empty() {
                object.insert(key.to_owned(), list.as_slice().into());
            }
        }
        object
    }
}

fn put(object: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), value.into());
    }
}

fn put_list(object: &mut Map<String, Value>, key: &str, items: impl Iterator<Item = Map<String, Value>>) {
    let items: Vec<Value> = items.map(Value::Object).collect();
    // Go leaves empty lists out as well.
    if !items.is_empty() {
        object.insert(key.to_owned(), items.into());
    }
}
