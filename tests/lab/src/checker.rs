//! The checker: holds what callers were answered against what the kernel shows and what the daemon has on record.
//!
//! It judges by `ip -j` in every namespace, by the API of a daemon that has just replayed its journal, and by the times
//! that callers noted. What a Pod must have comes from [`PodTables`], which was derived by hand.

use anyhow::{Context, Result, ensure};
use serde_json::{Deserializer, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::example::SUBNET;
use crate::inspect::Inspect;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::pod::Pod;
use crate::tables::PodTables;

/// The interface that callers attach.
const INTERFACE: &str = "net1";

/// An address in a caller's hands: from the answer of its ADD to the moment it lets go of it.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// The address.
    pub address: Ipv4Addr,
    /// The container it was given to.
    pub container: String,
    /// When ADD had been answered.
    pub from: Duration,
    /// Just before the address was taken from its interface, or the sandbox ended; none: it is still there.
    pub to: Option<Duration>,
}

/// An attachment whose ADDs were answered and that was not deleted.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The container.
    pub container: &'a str,
    /// Its sandbox.
    pub pod: &'a Pod,
    /// The address that was answered.
    pub address: Ipv4Addr,
}

/// All that a plan may touch in a namespace, one object a line: rules, unicast routes of all tables, permanent
/// neighbours. And the addresses on links.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Rules, routes and neighbours.
    pub objects: BTreeSet<String>,
    /// `LINK ADDRESS`.
    pub addresses: BTreeSet<String>,
    macs: BTreeMap<String, String>,
}

/// Rule: One holder. No address was in two callers' hands at one time.
///
/// # Errors
/// Names the two.
pub fn never_shared(tenures: &[Tenure]) -> Result<()> {
    let mut by_address: BTreeMap<Ipv4Addr, Vec<&Tenure>> = BTreeMap::new();
    for tenure in tenures {
        by_address.entry(tenure.address).or_default().push(tenure);
    }
    for (address, mut tenants) in by_address {
        tenants.sort_by_key(|tenure| tenure.from);
        for pair in tenants.windows(2) {
            ensure!(pair[0].to.is_some_and(|to| to <= pair[1].from), "{address} had two holders: {pair:?}");
        }
    }
    Ok(())
}

impl Picture {
    /// What `ip` shows of IPv4 now.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn take(namespace: &Namespace) -> Result<Self> {
        let asked = "link show\naddr show\nrule show\nroute show table all\nneigh show nud permanent\n";
        let printed = namespace.run(&crate::Program::new("ip").args(["-j", "-4", "-batch", "-"]).input(asked))?;
        let printed = printed.success()?.stdout;
        let answers = Deserializer::from_str(&printed).into_iter::<Vec<Value>>().collect::<Result<Vec<_>, _>>();
        let answers = answers.with_context(|| format!("not what `ip -j` prints: {printed}"))?;
        let [links, configured, rules, routes, neighbours] = answers.as_slice() else {
            anyhow::bail!("{} answers instead of 5: {printed}", answers.len());
        };
        let unicast = routes.iter().filter(|route| text(route, "type").is_none_or(|kind| kind == "unicast"));
        let objects = rules.iter().map(rule).chain(unicast.map(route)).chain(neighbours.iter().map(neighbour));
        let mut picture = Self { objects: objects.collect(), addresses: BTreeSet::new(), macs: BTreeMap::new() };
        for link in links {
            let of = |key| text(link, key).unwrap_or_default().to_owned();
            picture.macs.insert(of("ifname"), of("address"));
        }
        for link in configured {
            let name = text(link, "ifname").unwrap_or_default();
            for address in link["addr_info"].as_array().into_iter().flatten() {
                picture.addresses.insert(format!("{name} {}", text(address, "local").unwrap_or_default()));
            }
        }
        Ok(picture)
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

    fn mac(&self, link: &str) -> Result<&str> {
        self.macs.get(link).map(String::as_str).with_context(|| format!("{link} has no MAC address: {:?}", self.macs))
    }
}

/// Judges one node.
#[derive(Debug)]
pub struct Checker<'a> {
    node: &'a Node,
    inspect: Inspect,
    host: Picture,
}

impl<'a> Checker<'a> {
    /// Remembers what the host has before anything is attached, and without Pods.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn new(node: &'a Node, inspect: Inspect) -> Result<Self> {
        Ok(Self { node, inspect, host: Picture::take(node.namespace())? })
    }

    /// Rule: Durable first; rule: Live means held. On record is what is kept, and nothing else.
    ///
    /// # Errors
    /// Names what is lost, and what is held for nobody.
    pub fn records(&self, pool: &str, kept: &[Kept<'_>]) -> Result<()> {
        let of = |held: &Value, field: &str| text(held, field).unwrap_or_default().to_owned();
        let listed = self.inspect.allocations()?;
        let listed: BTreeSet<_> =
            listed.iter().map(|held| (of(held, "containerId"), of(held, "interface"), of(held, "ipv4"))).collect();
        let prefix = SUBNET.split_once('/').map(|(_, prefix)| prefix).unwrap_or_default();
        let answered =
            |kept: &Kept<'_>| (kept.container.to_owned(), INTERFACE.to_owned(), format!("{}/{prefix}", kept.address));
        let expected: BTreeSet<_> = kept.iter().map(answered).collect();
        let lost: Vec<_> = expected.difference(&listed).collect();
        let leaked: Vec<_> = listed.difference(&expected).collect();
        ensure!(lost.is_empty() && leaked.is_empty(), "lost: {lost:?}\nheld for nobody: {leaked:?}");
        let node = self.inspect.node()?;
        ensure!(of(&node, "plans") == kept.len().to_string(), "{} plans should be there: {node}", kept.len());
        let counts = self.inspect.counts(pool)?;
        let held = u128::try_from(kept.len())?;
        let whole = counts.in_use + counts.dying + counts.cooling + counts.free;
        ensure!(counts.in_use == held && counts.total == whole, "{held} should be in use: {counts:?}");
        Ok(())
    }

    /// The recorded plan of each that is kept is of its address.
    ///
    /// # Errors
    /// Names one without.
    pub fn plans(&self, kept: &[Kept<'_>]) -> Result<()> {
        for Kept { container, address, .. } in kept {
            let asked = json!({ "container_id": container });
            let record = self.inspect.call("spiderpool.node.v1.Inspect/GetContainer", &asked)?;
            let plan = text(&record, "plan").unwrap_or_default();
            let rule = format!("pod rule 32760: from {address} lookup 101");
            ensure!(plan.contains(&rule), "the plan of {container} should have {rule:?}: {record:#}");
        }
        Ok(())
    }

    /// Rule: All or nothing. A Pod has what the ADD of its address brings, all of it and nothing else, and the host has
    /// its part.
    ///
    /// # Errors
    /// Names what is missing or too many.
    pub fn attached(&self, kept: Kept<'_>) -> Result<()> {
        let pod = Picture::take(kept.pod.namespace())?;
        pod.has_exactly(&format!("the Pod of {}", kept.container), &self.wanted(kept))?;
        let on_link = format!("{INTERFACE} {}", kept.address);
        ensure!(pod.addresses.contains(&on_link), "{} should have {on_link}: {:?}", kept.container, pod.addresses);
        let host = Picture::take(self.node.namespace())?;
        let own = on_host(kept, &pod)?;
        let missing: Vec<_> = own.difference(&host.objects).collect();
        ensure!(missing.is_empty(), "the host misses of {}: {missing:#?}", kept.container);
        Ok(())
    }

    /// The whole kernel: kept Pods are attached, the others as they were made, the host has the part of each and nothing
    /// else, and no address is in two sandboxes.
    ///
    /// # Errors
    /// Names what is missing or too many.
    pub fn kernel(&self, pods: &[(&Pod, &Picture)], kept: &[Kept<'_>]) -> Result<()> {
        let mut expected = self.host.objects.clone();
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (pod, made) in pods {
            let picture = Picture::take(pod.namespace())?;
            let name = &*pod.spec().name;
            expected.insert(format!("main: {} dev {} scope link", pod.spec().address, pod.host_link()));
            match kept.iter().find(|kept| kept.pod.spec().name == name) {
                Some(kept) => {
                    picture.has_exactly(&format!("the Pod of {}", kept.container), &self.wanted(*kept))?;
                    expected.extend(on_host(*kept, &picture)?);
                }
                None => picture.has_exactly(&format!("the Pod {name}, which has nothing,"), &made.objects)?,
            }
            for address in picture.addresses.iter().filter_map(|found| found.strip_prefix("net1 ")) {
                let other = seen.insert(address.to_owned(), name);
                ensure!(other.is_none(), "{address} is in {name} and in {other:?}");
            }
        }
        Picture::take(self.node.namespace())?.has_exactly("the host", &expected)
    }

    /// What a Pod of the example must have, derived by hand.
    fn wanted(&self, kept: Kept<'_>) -> BTreeSet<String> {
        let (node, eth0) = (self.node.address(), kept.pod.spec().address);
        let tables = PodTables { node, eth0, net1: kept.address, default_by_net1: false };
        let of = |table: &'static str, routes: Vec<String>| {
            routes.into_iter().map(move |route| format!("{table}: {route}")).collect::<Vec<_>>()
        };
        let routes = [of("main", tables.main()), of("100", tables.table_100()), of("101", tables.table_101())].concat();
        let neighbour = format!("neighbour {node} dev eth0 lladdr ee:ee:ee:ee:ee:ee");
        tables.rules().into_iter().chain(routes).chain([neighbour]).collect()
    }
}

/// The host's part of an attachment: the rule is shared by all.
fn on_host(kept: Kept<'_>, pod: &Picture) -> Result<BTreeSet<String>> {
    let (address, link) = (kept.address, kept.pod.host_link());
    let neighbour = format!("neighbour {address} dev {link} lladdr {}", pod.mac("eth0")?);
    let route = format!("500: {address} dev {link} scope link");
    Ok([neighbour, route, "1000: from all lookup 500".to_owned()].into())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str()
}

fn rule(rule: &Value) -> String {
    let length = rule["srclen"].as_u64().map(|length| format!("/{length}")).unwrap_or_default();
    let of = |key| text(rule, key).unwrap_or_default();
    format!("{}: from {}{length} lookup {}", rule["priority"], of("src"), of("table"))
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

    fn tenure(container: &str, from: u64, to: Option<u64>) -> Tenure {
        let (from, to) = (Duration::from_millis(from), to.map(Duration::from_millis));
        Tenure { address: Ipv4Addr::new(10, 6, 0, 9), container: container.to_owned(), from, to }
    }

    #[test]
    fn an_address_may_change_hands_but_not_be_in_two() {
        let cases = [
            (vec![tenure("b", 20, None), tenure("a", 10, Some(20))], true),
            (vec![tenure("a", 10, Some(21)), tenure("b", 20, None)], false),
            (vec![tenure("a", 10, None), tenure("b", 20, Some(30))], false),
            (vec![tenure("a", 10, None)], true),
        ];
        for (tenures, fine) in cases {
            assert_eq!(never_shared(&tenures).is_ok(), fine, "{tenures:?}");
        }
        let other = Tenure { address: Ipv4Addr::new(10, 6, 0, 10), ..tenure("b", 20, None) };
        assert!(never_shared(&[tenure("a", 10, None), other]).is_ok());
    }

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
    fn an_object_too_many_or_too_few_is_named() {
        let of = |objects: &[&str]| objects.iter().map(|object| (*object).to_owned()).collect::<BTreeSet<_>>();
        let picture = Picture { objects: of(&["a", "b"]), addresses: BTreeSet::new(), macs: BTreeMap::new() };
        assert!(picture.has_exactly("it", &of(&["a", "b"])).is_ok());
        for (expected, named) in [(of(&["a"]), "has besides"), (of(&["a", "b", "c"]), "\"c\"")] {
            let error = picture.has_exactly("it", &expected).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
