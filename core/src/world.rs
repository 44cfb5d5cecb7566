//! What a decision may know of the cluster: pools, Pods, namespaces, the node, the coordinator's settings. Parsed
//! values, whatever they came from; `api` makes them from Kubernetes objects and refuses what is not valid, so code
//! that holds one of these needs no further check.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::{AddressSet, Family};

/// Name of a pool.
pub type PoolName = Arc<str>;

/// Labels of a Kubernetes object.
pub type Labels = BTreeMap<String, String>;

/// Addresses that may be given out, and to whom (SpiderIPPool).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// The object's name.
    pub name: PoolName,
    /// Subnet of the addresses; its prefix length is the one that Pods configure.
    pub subnet: IpNet,
    /// `ips` without `excludeIPs`; all inside the subnet.
    pub addresses: AddressSet,
    /// Default gateway inside the subnet; never one of `addresses`.
    pub gateway: Option<IpAddr>,
    /// Further routes; no default route, gateways inside the subnet.
    pub routes: Vec<Route>,
    /// Serves Pods that name no pool.
    pub default: bool,
    /// Gives out nothing new.
    pub disabled: bool,
    /// Being deleted: gives out nothing new, still takes back.
    pub terminating: bool,
    /// Nodes that may use the pool.
    pub node: Affinity,
    /// Namespaces whose Pods may use the pool.
    pub namespace: Affinity,
    /// Pods that may use the pool; none: all.
    pub pod: Option<Selector>,
    /// Networks that may use the pool, as `name` or `namespace/name`; empty: all.
    pub multus_names: Vec<String>,
}

impl Pool {
    /// The family of the pool's addresses.
    pub fn family(&self) -> Family {
        Family::of_net(&self.subnet)
    }
}

/// A route to a network by a gateway. Both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Destination in canonical form (no host bits).
    pub destination: IpNet,
    /// Next hop.
    pub gateway: IpAddr,
}

/// Which objects of a kind are meant. Names win over labels where both are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// All.
    #[default]
    Any,
    /// Those of these names.
    Names(Vec<String>),
    /// Those with matching labels.
    Labels(Selector),
}

/// A label selector: all requirements hold (metav1.LabelSelector, parsed).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector(pub Vec<Requirement>);

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What its value must be.
    pub condition: Condition,
}

/// What a selector asks of one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Present, with one of these values.
    In(Vec<String>),
    /// Absent, or with none of these values.
    NotIn(Vec<String>),
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl Selector {
    /// Whether the labels meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|Requirement { key, condition }| {
            let value = labels.get(key);
            match condition {
                Condition::In(values) => value.is_some_and(|value| values.contains(value)),
                Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Condition::Exists => value.is_some(),
                Condition::DoesNotExist => value.is_none(),
            }
        })
    }
}

/// A Pod as its sandbox names it (CNI_ARGS). Empty where a runtime gives none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// A namespace, as far as decisions need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Its labels.
    pub labels: Labels,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels; none: no Node object is known.
    pub labels: Option<Labels>,
}

/// Everything that is known at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    pools: BTreeMap<PoolName, Arc<Pool>>,
    reserved: AddressSet,
    /// Of each pool, the addresses that are not reserved.
    allowed: BTreeMap<PoolName, Arc<AddressSet>>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// This node.
    pub node: Node,
    /// The cluster's settings for routes (SpiderCoordinator).
    pub coordinator: Option<Coordinator>,
}

impl World {
    /// A world of these pools and reserved addresses (SpiderReservedIP), of which no pool gives out any. What each
    /// pool may give out is worked out here, once. Of two pools of one name the later one counts.
    pub fn new(pools: impl IntoIterator<Item = Arc<Pool>>, reserved: AddressSet) -> World {
        let pools: BTreeMap<PoolName, Arc<Pool>> = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
        let allowed =
            pools.iter().map(|(name, pool)| (name.clone(), Arc::new(pool.addresses.difference(&reserved)))).collect();
        World { pools, reserved, allowed, ..World::default() }
    }

    /// The pools by name.
    pub fn pools(&self) -> &BTreeMap<PoolName, Arc<Pool>> {
        &self.pools
    }

    /// The addresses that no pool gives out.
    pub fn reserved(&self) -> &AddressSet {
        &self.reserved
    }

    /// What a pool may give out: its addresses without the reserved ones. None: no such pool.
    pub fn allowed(&self, pool: &str) -> Option<&Arc<AddressSet>> {
        self.allowed.get(pool)
    }
}

/// The cluster's settings for routes, and what is known of its subnets (SpiderCoordinator, spec and status).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// The object's name.
    pub name: String,
    /// Whether the subnets below are known; a reason if not.
    pub synced: Result<(), String>,
    /// Subnets of the default CNI's Pods.
    pub overlay_pod_cidr: Vec<IpNet>,
    /// Subnets of Services.
    pub service_cidr: Vec<IpNet>,
    /// Defaults that a network's own configuration may override.
    pub settings: Settings,
    /// What is probed for every Pod.
    pub probes: Probes,
}

/// What is probed from a Pod's namespace before an address is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Probes {
    /// Whether a stranger uses the address.
    pub conflict: bool,
    /// Whether the gateway is there.
    pub gateway: bool,
}

impl Probes {
    /// What either asks for.
    pub fn or(self, other: Probes) -> Probes {
        Probes { conflict: self.conflict || other.conflict, gateway: self.gateway || other.gateway }
    }

    /// Whether there is anything to probe.
    pub fn any(self) -> bool {
        self.conflict || self.gateway
    }
}

/// Settings of the coordinator, each optional: a network's configuration comes first, then the cluster's, then the
/// built-in default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How a NIC is treated; default auto.
    pub mode: Option<Mode>,
    /// Whether default routes and rules are tuned; default true.
    pub tune_pod_routes: Option<bool>,
    /// The NIC that keeps the Pod's default route; default: the one that has it.
    pub pod_default_route_nic: Option<String>,
    /// The default CNI's interface; default `eth0`.
    pub pod_default_cni_nic: Option<String>,
    /// Further destinations that leave by the default CNI.
    pub hijack_cidr: Vec<IpNet>,
    /// Table of the host's routes to Pods; default 500.
    pub host_rule_table: Option<u32>,
    /// The reverse path filter inside the Pod; default off.
    pub pod_rp_filter: Option<RpFilter>,
    /// Transmit queue length of the NIC inside the Pod; 0, the default, leaves it alone.
    pub tx_queue_length: Option<u32>,
    /// First two bytes of the NIC's MAC address; none: left alone.
    pub pod_mac_prefix: Option<[u8; 2]>,
    /// Routes by the NIC itself.
    pub policy_routes: Vec<Route>,
}

/// The kernel's reverse path filter (`rp_filter`, Documentation/networking/ip-sysctl). That it is left alone is a
/// setting like the others: a network's configuration may ask for it against the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpFilter {
    /// As it is found.
    Leave,
    /// 0: no check.
    Off,
    /// 1: strict, RFC 3704.
    Strict,
    /// 2: loose, RFC 3704.
    Loose,
}

impl RpFilter {
    /// What to write to the sysctl; none: nothing.
    pub fn value(self) -> Option<u8> {
        match self {
            RpFilter::Leave => None,
            RpFilter::Off => Some(0),
            RpFilter::Strict => Some(1),
            RpFilter::Loose => Some(2),
        }
    }
}

/// How the coordinator treats a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Overlay or underlay, by what is in the Pod.
    #[default]
    Auto,
    /// Beside a default CNI.
    Overlay,
    /// As the Pod's first NIC.
    Underlay,
    /// Not at all.
    Disabled,
}
