//! What is there: the Pod's namespace in full, the host's as far as it matters to one Pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use spiderpool_core::address::Family;
use spiderpool_core::plan::{Ask, Mac, Observation, Seen, SeenAddress, SeenLink, Side};

use super::answer::{self, Names};
use super::{Connection, NetError, Sandbox, request};

/// Both namespaces; without a sandbox the Pod's is empty.
///
/// # Errors
/// The kernel refused.
pub(crate) fn observe(
    ask: &Ask,
    sandbox: Option<&mut Sandbox>,
    host: &mut Connection,
) -> Result<Observation, NetError> {
    let pod = match sandbox {
        Some(sandbox) => Seen { sysctls: sandbox.sysctls.read(), ..whole(ask, &mut sandbox.netlink)? },
        None => Seen::default(),
    };
    let mut preferred_sources = Vec::new();
    let own = ask.addresses.iter().copied().chain(pod_addresses(ask, &pod));
    let families: BTreeSet<Family> = own.map(|address| Family::of(&address)).collect();
    for address in pod_addresses(ask, &pod) {
        preferred_sources.extend(host.preferred_source(address)?);
    }
    let peer = pod.link(&ask.towards_host).and_then(|link| link.peer);
    let (host, in_use) = of_host(ask, peer, &families, host)?;
    Ok(Observation { pod, host, preferred_sources, elsewhere: BTreeSet::new(), in_use })
}

/// All addresses.
pub(super) fn addresses(netlink: &mut Connection) -> Result<BTreeSet<IpAddr>, NetError> {
    let found = netlink.dump(&request::get_addresses())?;
    Ok(found.iter().filter_map(answer::address).map(|(_, address, ..)| address.addr()).collect())
}

/// The Ethernet address of the link that has an address; none: no link has it.
pub(super) fn owner(netlink: &mut Connection, address: IpAddr) -> Result<Option<Mac>, NetError> {
    let found = netlink.dump(&request::get_addresses())?;
    let mut links = found.iter().filter_map(answer::address).filter(|(_, known, ..)| known.addr() == address);
    let Some((index, ..)) = links.next() else { return Ok(None) };
    Ok(netlink.get(&request::get_link(Some(index)))?.as_ref().and_then(answer::link).and_then(|link| link.mac))
}

/// The Pod's addresses that the node may know, the default CNI's first as its link is older. Not those that the kernel
/// learnt from a router: what is planned must not depend on when it spoke.
fn pod_addresses<'a>(ask: &'a Ask, pod: &'a Seen) -> impl Iterator<Item = IpAddr> + 'a {
    let loopback = |device: &str| pod.link(device).is_none_or(|link| link.loopback);
    let given = |seen: &&SeenAddress| seen.permanent || ask.addresses.contains(&seen.address.addr());
    let known = move |seen: &&SeenAddress| seen.global && given(seen) && !loopback(&seen.device);
    pod.addresses.iter().filter(known).map(|seen| seen.address.addr())
}

fn names(links: &[SeenLink]) -> Names {
    links.iter().map(|link| (link.index, link.name.clone())).collect()
}

fn links(netlink: &mut Connection) -> Result<Vec<SeenLink>, NetError> {
    Ok(netlink.dump(&request::get_link(None))?.iter().filter_map(answer::link).collect())
}

/// A namespace in full.
fn whole(ask: &Ask, netlink: &mut Connection) -> Result<Seen, NetError> {
    let links = links(netlink)?;
    let names = names(&links);
    let addresses: Vec<SeenAddress> = netlink
        .dump(&request::get_addresses())?
        .iter()
        .filter_map(|message| answer::named_address(message, &names))
        .collect();
    let neighbours = netlink
        .dump(&request::get_neighbours(None))?
        .iter()
        .filter_map(|message| answer::neighbour(message, Side::Pod, &names))
        .collect();
    let (mut routes, mut rules) = (Vec::new(), Vec::new());
    for family in families_of(ask, &addresses) {
        let found = netlink.dump(&request::get_routes(family, None))?;
        routes.extend(found.iter().flat_map(|message| answer::routes(message, Side::Pod, &names)));
        let found = netlink.dump(&request::get_rules(family))?;
        rules.extend(found.iter().filter_map(|message| answer::rule(message, Side::Pod)));
    }
    Ok(Seen { links, addresses, routes, rules, neighbours, sysctls: BTreeMap::new() })
}

/// IPv4, and IPv6 where an address of global scope shows that it is in use, or an attachment has one: a link that was
/// set down has lost it, and its rules are still there.
fn families_of(ask: &Ask, addresses: &[SeenAddress]) -> Vec<Family> {
    let six = addresses.iter().any(|seen| seen.global && Family::of_net(&seen.address) == Family::V6)
        || ask.addresses.iter().any(IpAddr::is_ipv6);
    if six { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
}

/// Of the host: the Pod's other end, links with global addresses, the tables asked for, rules, and neighbours on the
/// links that routes to the Pod name. And which of those tables have routes to others.
fn of_host(
    ask: &Ask,
    peer: Option<u32>,
    families: &BTreeSet<Family>,
    netlink: &mut Connection,
) -> Result<(Seen, BTreeSet<(Family, u32)>), NetError> {
    let mut known = Links { netlink, by_index: BTreeMap::new() };
    if let Some(peer) = peer {
        known.learn(peer)?;
    }
    let found = known.netlink.dump(&request::get_addresses())?;
    for (index, _, global, _) in found.iter().filter_map(answer::address) {
        if global {
            known.learn(index)?;
        }
    }
    let mut dumped: Vec<RouteNetlinkMessage> = Vec::new();
    let (mut rules, mut in_use) = (Vec::new(), BTreeSet::new());
    for &family in families {
        for &table in &ask.host_tables {
            let found = known.table(family, table)?;
            if found.iter().any(|message| answer::link_of_route_to(message, &ask.addresses).is_none()) {
                in_use.insert((family, table));
            }
            dumped.extend(found);
        }
        let found = known.netlink.dump(&request::get_rules(family))?;
        rules.extend(found.iter().filter_map(|message| answer::rule(message, Side::Host)));
    }
    let to_pod = known.routes_to(&dumped, &ask.addresses)?;
    let listening: BTreeSet<u32> = peer.into_iter().chain(to_pod).chain(known.indices(&ask.host_devices)?).collect();
    let names = names(&known.all());
    let mut neighbours = Vec::new();
    for index in listening {
        let found = known.netlink.dump(&request::get_neighbours(Some(index)))?;
        neighbours.extend(found.iter().filter_map(|message| answer::neighbour(message, Side::Host, &names)));
    }
    let routes = dumped.iter().flat_map(|message| answer::routes(message, Side::Host, &names));
    let routes = routes.filter(|route| ask.addresses.contains(&route.destination.addr())).collect();
    let addresses = found.iter().filter_map(|message| answer::named_address(message, &names)).collect();
    let seen = Seen { links: known.all(), addresses, routes, rules, neighbours, sysctls: BTreeMap::new() };
    Ok((seen, in_use))
}

/// The host's links, asked for one by one: a node has hundreds, and few matter.
struct Links<'a> {
    netlink: &'a mut Connection,
    by_index: BTreeMap<u32, SeenLink>,
}

impl Links<'_> {
    fn learn(&mut self, index: u32) -> Result<(), NetError> {
        if !self.by_index.contains_key(&index) {
            let found = self.netlink.get(&request::get_link(Some(index)))?;
            if let Some(link) = found.as_ref().and_then(answer::link) {
                self.by_index.insert(index, link);
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<SeenLink> {
        self.by_index.values().cloned().collect()
    }

    /// The messages of one table; a table that does not exist is empty.
    fn table(&mut self, family: Family, table: u32) -> Result<Vec<RouteNetlinkMessage>, NetError> {
        match self.netlink.dump(&request::get_routes(family, Some(table))) {
            Err(NetError::Kernel { source, .. }) if super::netlink::is_absent(&source) => Ok(Vec::new()),
            found => found,
        }
    }

    /// The links of routes to single addresses.
    fn routes_to(
        &mut self,
        dumped: &[RouteNetlinkMessage],
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Vec<u32>, NetError> {
        let mut indices = Vec::new();
        for index in dumped.iter().filter_map(|message| answer::link_of_route_to(message, addresses)) {
            self.learn(index)?;
            indices.push(index);
        }
        Ok(indices)
    }

    /// The indices of links by name.
    fn indices(&mut self, wanted: &BTreeSet<String>) -> Result<Vec<u32>, NetError> {
        let mut indices = Vec::new();
        for name in wanted {
            let known = self.by_index.values().find(|link| link.name == *name).map(|link| link.index);
            let found = match known {
                Some(index) => Some(index),
                None => self.netlink.get(&request::get_link_named(name))?.as_ref().and_then(answer::link).map(|link| {
                    let index = link.index;
                    self.by_index.insert(index, link);
                    index
                }),
            };
            indices.extend(found);
        }
        Ok(indices)
    }
}
