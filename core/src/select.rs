//! Which pools serve a request, in which order, and why the others do not.
//!
//! The first source that names a pool decides alone: the network's configuration, else the pools that are marked as
//! default. Each family that is listed there must find a pool, or the request is refused as a whole with the reason
//! of every pool tried.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{AddressSet, Family};
use crate::world::{Affinity, Labels, PodId, Pool, PoolName, Route, World};

mod pattern;
mod refusal;

pub use pattern::{Pattern, PatternError};
pub use refusal::{Reason, Refusals, Tried, Unserved, WrongInput};

/// What an ADD asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// The Pod, as its sandbox names it.
    pub pod: PodId,
    /// Names or patterns of IPv4 pools in the network's configuration (`default_ipv4_ippool`).
    pub default_v4: Vec<String>,
    /// Names or patterns of IPv6 pools in the network's configuration (`default_ipv6_ippool`).
    pub default_v6: Vec<String>,
    /// Leave out the default route (`clean_gateway`).
    pub clean_gateway: bool,
    /// The Pod's labels; none: not known.
    pub pod_labels: Option<Labels>,
    /// The network that the interface belongs to; none: not known.
    pub network: Option<Network>,
}

/// A NetworkAttachmentDefinition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The namespace that an entry of `multusName` means when it names none: the one of the installation.
    pub default_namespace: String,
}

/// The pools that may serve one family, the best first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The family.
    pub family: Family,
    /// Pools in the order of trying.
    pub candidates: Vec<Candidate>,
}

/// A pool that may serve the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub pool: PoolName,
    /// What it may give out: its addresses without the reserved ones.
    pub allowed: Arc<AddressSet>,
    /// What an address from it brings along.
    pub terms: Terms,
}

/// What the answer says beside the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Prefix length of the pool's subnet.
    pub prefix: u8,
    /// The pool's gateway; also given where the default route is left out.
    pub gateway: Option<IpAddr>,
    /// Whether a default route by the gateway belongs to the answer.
    pub default_route: bool,
    /// The pool's further routes.
    pub routes: Vec<Route>,
}

/// The wants of a request, IPv4 before IPv6, or why it cannot be served.
///
/// Within a family the listed order holds, patterns standing for their matches by name, except that pools with a
/// narrower affinity come first. Pools that may not serve the request are left out; a listed pool that does not exist
/// refuses the request, since an error in a name is never made good by another pool.
pub fn select(request: &Request, world: &World) -> Result<Vec<Want>, Refusals> {
    let listed = listed(request, world)?;
    if listed.is_empty() {
        return Err(Refusals::NoneNamed);
    }
    let (mut wants, mut unserved) = (Vec::new(), Vec::new());
    for list in listed {
        match want(&list, request, world) {
            Ok(want) => wants.push(want),
            Err(refused) => unserved.push(refused),
        }
    }
    if unserved.is_empty() { Ok(wants) } else { Err(Refusals::NoneFits(unserved)) }
}

/// The pools that a source offers one family.
struct List {
    family: Family,
    entries: Vec<Entry>,
}

/// One entry of a list: a pool's name, or a pattern with the pools that it matches.
enum Entry {
    Name(String),
    Pattern(String, Vec<PoolName>),
}

/// The lists of the first source that has any.
fn listed(request: &Request, world: &World) -> Result<Vec<List>, Refusals> {
    let configured = [(Family::V4, &request.default_v4), (Family::V6, &request.default_v6)];
    if configured.iter().any(|(_, names)| !names.is_empty()) {
        let named = configured.into_iter().filter(|(_, names)| !names.is_empty());
        return named.map(|(family, names)| expand(family, names, world).map_err(Refusals::WrongInput)).collect();
    }
    let defaults = |family| {
        let pools = world.pools().values().filter(|pool| pool.default && pool.family() == family);
        List { family, entries: pools.map(|pool| Entry::Name(pool.name.to_string())).collect() }
    };
    let lists = [Family::V4, Family::V6].map(defaults);
    Ok(lists.into_iter().filter(|list| !list.entries.is_empty()).collect())
}

/// Reads a list of names and patterns, and sees to it that no pool is in it twice.
fn expand(family: Family, names: &[String], world: &World) -> Result<List, WrongInput> {
    let mut seen = BTreeSet::new();
    let mut entries = Vec::new();
    for text in names {
        let twice = |pool: PoolName, pattern| WrongInput::Twice { family, pool, pattern };
        if !Pattern::is_pattern(text) {
            let name = PoolName::from(text.as_str());
            if !seen.insert(name.clone()) {
                return Err(twice(name, None));
            }
            entries.push(Entry::Name(text.clone()));
            continue;
        }
        let pattern =
            Pattern::parse(text).map_err(|error| WrongInput::Pattern { family, pattern: text.clone(), error })?;
        let of_family = world.pools().values().filter(|pool| pool.family() == family);
        let matches: Vec<PoolName> =
            of_family.filter(|pool| pattern.matches(&pool.name)).map(|pool| pool.name.clone()).collect();
        if let Some(name) = matches.iter().find(|name| !seen.insert(PoolName::clone(name))) {
            return Err(twice(name.clone(), Some(text.clone())));
        }
        entries.push(Entry::Pattern(text.clone(), matches));
    }
    Ok(List { family, entries })
}

/// The candidates of one list, the best first, or the reason of each pool.
fn want(list: &List, request: &Request, world: &World) -> Result<Want, Unserved> {
    let (mut fit, mut tried, mut unknown) = (Vec::new(), Vec::new(), false);
    let mut try_pool = |name: &str| match offer(name, list.family, request, world) {
        Ok(offer) => fit.push(offer),
        Err(reason) => {
            unknown |= matches!(reason, Reason::Unknown);
            tried.push(Tried { name: name.into(), reason });
        }
    };
    let mut unmatched = Vec::new();
    for entry in &list.entries {
        match entry {
            Entry::Name(name) => try_pool(name),
            Entry::Pattern(text, names) if names.is_empty() => {
                unmatched.push(Tried { name: text.clone(), reason: Reason::NoMatch(list.family) });
            }
            Entry::Pattern(_, names) => names.iter().for_each(|name| try_pool(name)),
        }
    }
    if unknown || fit.is_empty() {
        tried.extend(unmatched);
        return Err(Unserved { family: list.family, tried });
    }
    // A stable sort: what has the same affinities stays as it was listed.
    fit.sort_by_key(|(pool, _)| Reverse(affinities(pool)));
    let candidates = fit.into_iter().map(|(pool, allowed)| candidate(pool, allowed, request)).collect();
    Ok(Want { family: list.family, candidates })
}

/// A pool with what it may give out, if it may serve the request.
fn offer<'a>(
    name: &str,
    family: Family,
    request: &Request,
    world: &'a World,
) -> Result<(&'a Pool, &'a Arc<AddressSet>), Reason> {
    let (Some(pool), Some(allowed)) = (world.pools().get(name), world.allowed(name)) else {
        return Err(Reason::Unknown);
    };
    admits(pool, family, request, world)?;
    if allowed.is_empty() {
        return Err(Reason::Empty);
    }
    Ok((pool, allowed))
}

/// Whether a pool may serve the request, as far as its settings go.
fn admits(pool: &Pool, family: Family, request: &Request, world: &World) -> Result<(), Reason> {
    if pool.terminating {
        return Err(Reason::Terminating);
    }
    if pool.disabled {
        return Err(Reason::Disabled);
    }
    if pool.family() != family {
        return Err(Reason::OtherFamily(pool.family()));
    }
    admits_node(&pool.node, world)?;
    admits_namespace(&pool.namespace, &request.pod.namespace, world)?;
    match (&pool.pod, &request.pod_labels) {
        (None, _) => {}
        (Some(_), None) => return Err(Reason::PodUnknown),
        (Some(selector), Some(labels)) if selector.matches(labels) => {}
        (Some(_), Some(_)) => return Err(Reason::Pod),
    }
    match &request.network {
        _ if pool.multus_names.is_empty() => Ok(()),
        None => Err(Reason::NetworkUnknown),
        Some(network) if pool.multus_names.iter().any(|entry| network.is(entry)) => Ok(()),
        Some(network) => Err(Reason::Network(format!("{}/{}", network.namespace, network.name))),
    }
}

fn admits_node(affinity: &Affinity, world: &World) -> Result<(), Reason> {
    let name = &world.node.name;
    match affinity {
        Affinity::Any => Ok(()),
        Affinity::Names(names) if names.contains(name) => Ok(()),
        Affinity::Names(_) => Err(Reason::NodeName(name.clone())),
        Affinity::Labels(selector) => match &world.node.labels {
            None => Err(Reason::NodeUnknown(name.clone())),
            Some(labels) if selector.matches(labels) => Ok(()),
            Some(_) => Err(Reason::NodeLabels(name.clone())),
        },
    }
}

fn admits_namespace(affinity: &Affinity, name: &str, world: &World) -> Result<(), Reason> {
    match affinity {
        Affinity::Any => Ok(()),
        Affinity::Names(_) | Affinity::Labels(_) if name.is_empty() => Err(Reason::NoNamespace),
        Affinity::Names(names) if names.iter().any(|listed| listed == name) => Ok(()),
        Affinity::Names(_) => Err(Reason::NamespaceName(name.into())),
        Affinity::Labels(selector) => match world.namespaces.get(name) {
            None => Err(Reason::NamespaceUnknown(name.into())),
            Some(namespace) if selector.matches(&namespace.labels) => Ok(()),
            Some(_) => Err(Reason::NamespaceLabels(name.into())),
        },
    }
}

/// Which affinities a pool has, the weightiest first; the greater comes first.
fn affinities(pool: &Pool) -> [bool; 6] {
    let names = |affinity: &Affinity| matches!(affinity, Affinity::Names(_));
    let labels = |affinity: &Affinity| matches!(affinity, Affinity::Labels(_));
    [
        pool.pod.is_some(),
        names(&pool.node),
        labels(&pool.node),
        names(&pool.namespace),
        labels(&pool.namespace),
        !pool.multus_names.is_empty(),
    ]
}

fn candidate(pool: &Pool, allowed: &Arc<AddressSet>, request: &Request) -> Candidate {
    let terms = Terms {
        prefix: pool.subnet.prefix_len(),
        gateway: pool.gateway,
        default_route: pool.gateway.is_some() && !request.clean_gateway,
        routes: pool.routes.clone(),
    };
    Candidate { pool: pool.name.clone(), allowed: allowed.clone(), terms }
}

impl Network {
    /// Whether an entry of `multusName` means this network.
    fn is(&self, entry: &str) -> bool {
        let (namespace, name) = entry.split_once('/').unwrap_or((&self.default_namespace, entry));
        (namespace, name) == (&self.namespace, &self.name)
    }
}

#[cfg(test)]
mod tests;
