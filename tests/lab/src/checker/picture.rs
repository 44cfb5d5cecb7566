//! What `ip` shows of a namespace at one moment, as lines that can be compared.

use anyhow::{Context, Result, ensure};
use serde_json::{Deserializer, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::text;
use crate::namespace::Namespace;
use crate::program::Program;

/// All that a plan may touch in a namespace, one object a line: rules, unicast routes of all tables, permanent
/// neighbours. And the addresses on links. What every link has of IPv6 by itself, the link-local, is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Rules, routes and neighbours; those of IPv6 begin with `-6`.
    pub objects: BTreeSet<String>,
    /// Link and address.
    pub addresses: BTreeSet<(String, IpAddr)>,
    macs: BTreeMap<String, String>,
}

/// How an object of a family is written.
pub(super) fn written(six: bool, object: &str) -> String {
    if six { format!("-6 {object}") } else { object.to_owned() }
}

impl Picture {
    /// What `ip` shows now.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn take(namespace: &Namespace) -> Result<Self> {
        let mut picture = Self { objects: BTreeSet::new(), addresses: BTreeSet::new(), macs: BTreeMap::new() };
        for family in ["-4", "-6"] {
            picture.see(namespace, family)?;
        }
        Ok(picture)
    }

    fn see(&mut self, namespace: &Namespace, family: &str) -> Result<()> {
        let asked = "link show\naddr show\nrule show\nroute show table all\nneigh show nud permanent\n";
        let printed = namespace.run(&Program::new("ip").args(["-j", family, "-batch", "-"]).input(asked))?;
        let printed = printed.success()?.stdout;
        let answers = Deserializer::from_str(&printed).into_iter::<Vec<Value>>().collect::<Result<Vec<_>, _>>();
        let answers = answers.with_context(|| format!("not what `ip -j` prints: {printed}"))?;
        let [links, configured, rules, routes, neighbours] = answers.as_slice() else {
            anyhow::bail!("{} answers instead of 5: {printed}", answers.len());
        };
        let objects =
            rules.iter().map(rule).chain(routes.iter().flat_map(unicast)).chain(neighbours.iter().map(neighbour));
        self.objects.extend(objects.map(|object| written(family == "-6", &object)));
        for link in links {
            let of = |key| text(link, key).unwrap_or_default().to_owned();
            self.macs.insert(of("ifname"), of("address"));
        }
        for link in configured {
            let name = text(link, "ifname").unwrap_or_default();
            for address in link["addr_info"].as_array().into_iter().flatten() {
                let address: IpAddr = text(address, "local").context("no `local`")?.parse()?;
                if !matches!(address, IpAddr::V6(six) if six.is_unicast_link_local()) {
                    self.addresses.insert((name.to_owned(), address));
                }
            }
        }
        Ok(())
    }

    /// Holds it to have exactly these objects.
    ///
    /// # Errors
    /// Names each that is missing or too many.
    pub fn has_exactly(&self, whose: &str, expected: &BTreeSet<String>) -> Result<()> {
        let missing: Vec<_> = expected.difference(&self.objects).collect();
        let more: Vec<_> = self.objects.difference(expected).collect();
        ensure!(missing.is_empty() && more.is_empty(), "{whose}\n  misses {missing:#?}\n  has besides {more:#?}");
        Ok(())
    }

    /// Holds it to have these objects, whatever else is there.
    ///
    /// # Errors
    /// Names each that is missing.
    pub fn has(&self, whose: &str, expected: &BTreeSet<String>) -> Result<()> {
        let missing: Vec<_> = expected.difference(&self.objects).collect();
        ensure!(missing.is_empty(), "{whose}\n  misses {missing:#?}");
        Ok(())
    }

    /// The address of a link that has one of the family.
    pub(super) fn address(&self, link: &str, six: bool) -> Option<IpAddr> {
        let mut of_link = self.addresses.iter().filter(|(name, _)| name == link).map(|(_, address)| *address);
        of_link.find(|address| address.is_ipv6() == six)
    }

    pub(super) fn mac(&self, link: &str) -> Result<&str> {
        self.macs.get(link).map(String::as_str).with_context(|| format!("{link} has no MAC address: {:?}", self.macs))
    }
}

fn rule(rule: &Value) -> String {
    let length = rule["srclen"].as_u64().map(|length| format!("/{length}")).unwrap_or_default();
    let of = |key| text(rule, key).unwrap_or_default();
    format!("{}: from {}{length} lookup {}", rule["priority"], of("src"), of("table"))
}

/// A unicast route that is not link-local, a line for each of its next hops: `ip` prints IPv6 routes of one destination
/// and metric as one, though each is an object of its own.
fn unicast(printed: &Value) -> Vec<String> {
    let is_unicast = text(printed, "type").is_none_or(|kind| kind == "unicast");
    if !is_unicast || text(printed, "dst").is_some_and(|destination| destination.starts_with("fe80:")) {
        return Vec::new();
    }
    let Some(hops) = printed["nexthops"].as_array() else { return vec![route(printed)] };
    let with = |hop: &Value| {
        let mut one = printed.clone();
        for key in ["gateway", "dev"] {
            one[key] = hop[key].clone();
        }
        route(&one)
    };
    hops.iter().map(with).collect()
}

fn route(route: &Value) -> String {
    let table = text(route, "table").unwrap_or("main");
    let mut line = format!("{table}: {}", text(route, "dst").unwrap_or_default());
    for (word, key) in [("via", "gateway"), ("dev", "dev"), ("scope", "scope"), ("src", "prefsrc")] {
        if let Some(value) = text(route, key) {
            line += &format!(" {word} {value}");
        }
    }
    if let Some(metric) = route["metric"].as_u64() {
        line += &format!(" metric {metric}");
    }
    line
}

fn neighbour(neighbour: &Value) -> String {
    let of = |key| text(neighbour, key).unwrap_or_default();
    format!("neighbour {} dev {} lladdr {}", of("dst"), of("dev"), of("lladdr"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_written_as_ip_prints_them() {
        let cases = [
            (rule(&json!({ "priority": 32760, "src": "10.6.0.9", "table": "101" })), "32760: from 10.6.0.9 lookup 101"),
            (
                rule(&json!({ "priority": 1, "src": "10.0.0.0", "srclen": 8, "table": "5" })),
                "1: from 10.0.0.0/8 lookup 5",
            ),
            (
                route(&json!({ "dst": "default", "gateway": "10.6.0.1", "dev": "net1" })),
                "main: default via 10.6.0.1 dev net1",
            ),
            (
                route(
                    &json!({ "dst": "10.6.0.0/16", "dev": "net1", "table": "101", "scope": "link", "prefsrc": "10.6.0.9", "metric": 5 }),
                ),
                "101: 10.6.0.0/16 dev net1 scope link src 10.6.0.9 metric 5",
            ),
            (
                neighbour(&json!({ "dst": "10.6.0.2", "dev": "eth0", "lladdr": "ee:ee" })),
                "neighbour 10.6.0.2 dev eth0 lladdr ee:ee",
            ),
        ];
        for (written, expected) in cases {
            assert_eq!(written, expected);
        }
    }

    #[test]
    fn each_next_hop_is_a_route_and_what_links_have_by_themselves_is_none() {
        let hops = json!([{ "gateway": "fe80::1", "dev": "eth0" }, { "gateway": "fd00::1", "dev": "net1" }]);
        let both = unicast(&json!({ "dst": "default", "metric": 1024, "nexthops": hops }));
        let expected = ["eth0", "net1"].iter().zip(["fe80::1", "fd00::1"]);
        let expected: Vec<_> =
            expected.map(|(link, hop)| format!("main: default via {hop} dev {link} metric 1024")).collect();
        assert_eq!(both, expected);
        for left_out in [
            json!({ "dst": "fe80::/64", "dev": "eth0", "metric": 256 }),
            json!({ "type": "multicast", "dst": "ff00::/8", "dev": "eth0" }),
            json!({ "type": "local", "dst": "fd00::9", "dev": "net1" }),
        ] {
            assert_eq!(unicast(&left_out), Vec::<String>::new());
        }
    }

    #[test]
    fn an_object_too_many_or_too_few_is_named() {
        let of = |objects: &[&str]| objects.iter().map(|object| (*object).to_owned()).collect::<BTreeSet<_>>();
        let picture = Picture { objects: of(&["a", "b"]), addresses: BTreeSet::new(), macs: BTreeMap::new() };
        assert!(picture.has_exactly("it", &of(&["a", "b"])).is_ok());
        assert!(picture.has("it", &of(&["a"])).is_ok());
        for (expected, named) in [(of(&["a"]), "has besides"), (of(&["a", "b", "c"]), "\"c\"")] {
            let error = picture.has_exactly("it", &expected).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = picture.has("it", &of(&["c"])).unwrap_err().to_string();
        assert!(error.contains("\"c\""), "{error}");
    }
}
