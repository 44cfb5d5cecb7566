//! The checker: holds what callers were answered against what the kernel shows and what the daemon has on record.
//!
//! It judges by `ip -j` in every namespace, by the API of a daemon that has just replayed its journal, and by the times
//! that callers noted. What a Pod must have comes from [`PodTables`], which was derived by hand.

mod picture;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::inspect::Inspect;
use crate::node::Node;
use crate::pod::Pod;
use crate::subnet::Subnet;
use crate::tables::PodTables;

pub use picture::Picture;
use picture::written;

/// An address in a caller's hands: from the answer of its ADD to the moment it lets go of it.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// The address.
    pub address: IpAddr,
    /// The container it was given to.
    pub container: String,
    /// When ADD had been answered.
    pub from: Duration,
    /// Just before the address was taken from its interface, or the sandbox ended; none: it is still there.
    pub to: Option<Duration>,
}

/// An interface whose ADDs were answered and that was not deleted.
#[derive(Clone, Debug)]
pub struct Attached {
    /// `net1` or `net2`.
    pub interface: &'static str,
    /// The addresses that were answered: IPv4, or both families.
    pub addresses: Vec<IpAddr>,
}

/// A sandbox, and what it keeps.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The container.
    pub container: &'a str,
    /// Its sandbox.
    pub pod: &'a Pod,
    /// What the sandbox looked like when it was made.
    pub made: &'a Picture,
    /// What is attached: nothing, `net1`, or `net1` and `net2`.
    pub attached: &'a [Attached],
}

/// Rule: One holder. No address was in two callers' hands at one time.
///
/// # Errors
/// Names the two.
pub fn never_shared(tenures: &[Tenure]) -> Result<()> {
    let mut by_address: BTreeMap<IpAddr, Vec<&Tenure>> = BTreeMap::new();
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

impl Attached {
    fn address(&self, six: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == six)
    }

    /// As the API writes it; empty: none of the family.
    fn with_length(&self, six: bool) -> String {
        let written = |address| Subnet::of(self.interface, address).with_length(address);
        self.address(six).map(written).unwrap_or_default()
    }

    /// The rule that leads to the interface's own table.
    fn rule(&self, address: IpAddr) -> String {
        let (priority, table) = if self.interface == "net2" { (32759, 102) } else { (32760, 101) };
        format!("{priority}: from {address} lookup {table}")
    }
}

impl Kept<'_> {
    fn name(&self) -> String {
        let interfaces: Vec<_> = self.attached.iter().map(|attached| attached.interface).collect();
        format!("the Pod {} of {} with {interfaces:?}", self.pod.spec().name, self.container)
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.attached.iter().flat_map(|attached| attached.addresses.iter().copied())
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
    pub fn records(&self, kept: &[Kept<'_>]) -> Result<()> {
        let of = |held: &Value, field: &str| text(held, field).unwrap_or_default().to_owned();
        let listed = self.inspect.allocations()?;
        let fields = ["containerId", "interface", "ipv4", "ipv6"];
        let listed: BTreeSet<_> = listed.iter().map(|held| fields.map(|field| of(held, field))).collect();
        let answered = |kept: &Kept<'_>, attached: &Attached| {
            let [four, six] = [false, true].map(|six| attached.with_length(six));
            [kept.container.to_owned(), attached.interface.to_owned(), four, six]
        };
        let expected: BTreeSet<_> =
            kept.iter().flat_map(|kept| kept.attached.iter().map(move |attached| answered(kept, attached))).collect();
        let lost: Vec<_> = expected.difference(&listed).collect();
        let leaked: Vec<_> = listed.difference(&expected).collect();
        ensure!(lost.is_empty() && leaked.is_empty(), "lost: {lost:?}\nheld for nobody: {leaked:?}");
        let (node, plans) = (self.inspect.node()?, kept.iter().filter(|kept| !kept.attached.is_empty()).count());
        ensure!(of(&node, "plans") == plans.to_string(), "{plans} plans should be there: {node}");
        for subnet in Subnet::NET1.iter().chain(&Subnet::NET2) {
            self.in_use(subnet, kept)?;
        }
        Ok(())
    }

    /// A pool counts as in use what is kept of it.
    fn in_use(&self, subnet: &Subnet, kept: &[Kept<'_>]) -> Result<()> {
        let all = kept.iter().flat_map(|kept| kept.attached.iter());
        let of_pool = all.flat_map(|one| one.addresses.iter().map(|address| Subnet::of(one.interface, *address).pool));
        let held = u128::try_from(of_pool.filter(|pool| *pool == subnet.pool).count())?;
        let counts = self.inspect.counts(subnet.pool)?;
        let whole = counts.in_use + counts.dying + counts.cooling + counts.quarantined + counts.free;
        let pool = subnet.pool;
        ensure!(counts.in_use == held && counts.total == whole, "{held} of {pool} should be in use: {counts:?}");
        Ok(())
    }

    /// The recorded plan of each sandbox that keeps something is of its interfaces and of their addresses.
    ///
    /// # Errors
    /// Names one that is not.
    pub fn plans(&self, kept: &[Kept<'_>]) -> Result<()> {
        for Kept { container, attached, .. } in kept.iter().filter(|kept| !kept.attached.is_empty()) {
            let asked = json!({ "container_id": container });
            let record = self.inspect.call("spiderpool.node.v1.Inspect/GetContainer", &asked)?;
            let plan = text(&record, "plan").unwrap_or_default();
            let names = |line: &'_ str| line.rsplit_once('[').map(|(_, names)| names.trim_end_matches(']').to_owned());
            let named: BTreeSet<_> = plan.lines().filter_map(names).collect();
            let named: BTreeSet<_> = named.iter().flat_map(|names| names.split(' ')).collect();
            let expected: BTreeSet<_> = attached.iter().map(|attached| attached.interface).collect();
            ensure!(named == expected, "the plan of {container} should be of {expected:?}: {record:#}");
            for one in *attached {
                for address in &one.addresses {
                    let family = if address.is_ipv6() { "6" } else { "" };
                    let rule = format!("pod rule{family} {}", one.rule(*address));
                    ensure!(plan.contains(&rule), "the plan of {container} should have {rule:?}: {record:#}");
                }
            }
        }
        Ok(())
    }

    /// Rule: All or nothing. A Pod has what the ADDs of its interfaces bring, all of it and nothing else, and the host
    /// has its part.
    ///
    /// # Errors
    /// Names what is missing or too many.
    pub fn attached(&self, kept: Kept<'_>) -> Result<()> {
        let pod = Picture::take(kept.pod.namespace())?;
        pod.has_exactly(&kept.name(), &self.inside(kept)?)?;
        self.outside(kept, &pod)
    }

    /// A Pod has what the ADDs of its interfaces bring, and the host has its part, while something else may be on its
    /// way out.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn untouched(&self, kept: Kept<'_>) -> Result<()> {
        let pod = Picture::take(kept.pod.namespace())?;
        pod.has(&kept.name(), &self.inside(kept)?)?;
        self.outside(kept, &pod)
    }

    /// Rule: All or nothing. Of an interface whose ADD was refused the Pod has what macvlan made, and no more.
    ///
    /// # Errors
    /// Names what is missing or too many.
    pub fn refused(&self, kept: Kept<'_>, refused: &Attached) -> Result<()> {
        let mut expected = self.inside(kept)?;
        for address in &refused.addresses {
            let subnet = Subnet::of(refused.interface, *address);
            for route in [subnet.on_link(refused.interface, *address), subnet.default_by(refused.interface)] {
                expected.insert(written(address.is_ipv6(), &format!("main: {route}")));
            }
        }
        Picture::take(kept.pod.namespace())?.has_exactly(&kept.name(), &expected)
    }

    /// The whole kernel: each Pod has what it keeps, or is as it was made, the host has the part of each and nothing
    /// else, and no address is in two sandboxes.
    ///
    /// # Errors
    /// Names what is missing or too many.
    pub fn kernel(&self, kept: &[Kept<'_>]) -> Result<()> {
        let mut expected = self.host.objects.clone();
        let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for one in kept {
            let (name, link) = (&*one.pod.spec().name, one.pod.host_link());
            let picture = Picture::take(one.pod.namespace())?;
            picture.has_exactly(&one.name(), &self.inside(*one)?)?;
            self.has_addresses(*one, &picture)?;
            expected.insert(format!("main: {} dev {link} scope link", one.pod.spec().address));
            if let Some(eth0) = one.made.address("eth0", true) {
                expected.insert(written(true, &format!("main: {eth0} dev {link} metric 1024")));
            }
            expected.extend(on_host(*one, &picture)?);
            for (_, address) in picture.addresses.iter().filter(|(link, _)| link.starts_with("net")) {
                let other = seen.insert(*address, name);
                ensure!(other.is_none(), "{address} is in {name} and in {other:?}");
            }
        }
        Picture::take(self.node.namespace())?.has_exactly("the host", &expected)
    }

    /// The addresses are on their links, and the host has its part.
    fn outside(&self, kept: Kept<'_>, pod: &Picture) -> Result<()> {
        self.has_addresses(kept, pod)?;
        Picture::take(self.node.namespace())?.has(&format!("the host, of {}", kept.name()), &on_host(kept, pod)?)
    }

    fn has_addresses(&self, kept: Kept<'_>, pod: &Picture) -> Result<()> {
        for Attached { interface, addresses } in kept.attached {
            for address in addresses {
                let there = pod.addresses.contains(&((*interface).to_owned(), *address));
                ensure!(there, "{} should have {address}: {:?}", kept.name(), pod.addresses);
            }
        }
        Ok(())
    }

    /// What a Pod of the example must have, derived by hand; of a family that is not attached, what it was made with.
    fn inside(&self, kept: Kept<'_>) -> Result<BTreeSet<String>> {
        let mut objects = BTreeSet::new();
        for six in [false, true] {
            let Some(tables) = self.tables(kept, six)? else {
                let made = kept.made.objects.iter().filter(|object| object.starts_with("-6 ") == six);
                objects.extend(made.cloned());
                continue;
            };
            objects.extend(tables.rules().iter().map(|rule| written(six, rule)));
            let by_table = [
                ("main", tables.main()),
                ("100", tables.table_100()),
                ("101", tables.table_101()),
                ("102", tables.table_102()),
            ];
            for (table, routes) in by_table {
                objects.extend(routes.iter().map(|route| written(six, &format!("{table}: {route}"))));
            }
            objects.insert(written(six, &format!("neighbour {} dev eth0 lladdr ee:ee:ee:ee:ee:ee", tables.node)));
        }
        Ok(objects)
    }

    fn tables(&self, kept: Kept<'_>, six: bool) -> Result<Option<PodTables<IpAddr>>> {
        let of = |name: &str| kept.attached.iter().find(|one| one.interface == name).and_then(|one| one.address(six));
        let Some(net1) = of("net1") else { return Ok(None) };
        let eth0 = kept.made.address("eth0", six).with_context(|| format!("no eth0 in {}", kept.name()))?;
        let node = if six { self.node.address_six().into() } else { self.node.address().into() };
        Ok(Some(PodTables { node, eth0, net1, net2: of("net2"), default_by_net1: false }))
    }
}

/// The host's part of what a sandbox keeps: the rules are shared by all.
fn on_host(kept: Kept<'_>, pod: &Picture) -> Result<BTreeSet<String>> {
    let (link, mac) = (kept.pod.host_link(), pod.mac("eth0")?);
    let of = |address: IpAddr| {
        let rest = if address.is_ipv6() { "metric 1024" } else { "scope link" };
        let neighbour = format!("neighbour {address} dev {link} lladdr {mac}");
        let route = format!("500: {address} dev {link} {rest}");
        [neighbour, route, "1000: from all lookup 500".to_owned()].map(|object| written(address.is_ipv6(), &object))
    };
    Ok(kept.addresses().flat_map(of).collect())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenure(container: &str, from: u64, to: Option<u64>) -> Tenure {
        let (from, to) = (Duration::from_millis(from), to.map(Duration::from_millis));
        Tenure { address: [10, 6, 0, 9].into(), container: container.to_owned(), from, to }
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
        let other = Tenure { address: [10, 6, 0, 10].into(), ..tenure("b", 20, None) };
        assert!(never_shared(&[tenure("a", 10, None), other]).is_ok());
    }
}
