//! Plans and the kernel objects in them, to their messages and back.

use std::collections::BTreeSet;

use spiderpool_core::address::Family;
use spiderpool_core::plan::{Attached, Link, LinkAttribute, Neighbour, Object, Plan, Route, Rule, Scope, Side, Sysctl};

use super::wire::object::{self, Kind};
use super::{Malformed, maybe_address, required, value, wire};

impl From<&Plan> for wire::Plan {
    fn from(plan: &Plan) -> wire::Plan {
        let owned = |(interface, object): &(String, Object)| wire::plan::Owned {
            interface: interface.clone(),
            object: Some(object.into()),
        };
        wire::Plan {
            attached: plan.attached.iter().map(Into::into).collect(),
            want: plan.want.iter().map(owned).collect(),
            absent: plan.absent.iter().map(owned).collect(),
        }
    }
}

impl TryFrom<wire::Plan> for Plan {
    type Error = Malformed;

    fn try_from(plan: wire::Plan) -> Result<Plan, Malformed> {
        let owned = |owned: wire::plan::Owned| Ok((owned.interface, required(owned.object, "object")?.try_into()?));
        let objects = |all: Vec<_>| all.into_iter().map(owned).collect::<Result<BTreeSet<_>, Malformed>>();
        Ok(Plan {
            attached: plan.attached.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            want: objects(plan.want)?,
            absent: objects(plan.absent)?,
        })
    }
}

impl From<&Attached> for wire::Attached {
    fn from(attached: &Attached) -> wire::Attached {
        let nets = |nets: &[ipnet::IpNet]| nets.iter().copied().map(value::net).collect();
        wire::Attached {
            interface: attached.interface.clone(),
            table: attached.table,
            addresses: nets(&attached.addresses),
            default_cni_nic: attached.default_cni_nic.clone(),
            default_route_nic: attached.default_route_nic.clone(),
            tune_pod_routes: attached.tune_pod_routes,
            destinations: nets(&attached.destinations),
            host_rule_table: attached.host_rule_table,
            rp_filter: attached.rp_filter.map(Into::into),
            tx_queue_length: attached.tx_queue_length,
            mac: attached.mac.map(|mac| mac.0.to_vec()).unwrap_or_default(),
            policy_routes: value::routes(&attached.policy_routes),
        }
    }
}

impl TryFrom<wire::Attached> for Attached {
    type Error = Malformed;

    fn try_from(attached: wire::Attached) -> Result<Attached, Malformed> {
        let rp_filter = attached.rp_filter.map(u8::try_from).transpose();
        let mac = if attached.mac.is_empty() { None } else { Some(value::as_mac(&attached.mac, "mac")?) };
        Ok(Attached {
            addresses: value::as_nets(&attached.addresses, "addresses")?,
            destinations: value::as_nets(&attached.destinations, "destinations")?,
            policy_routes: value::as_routes(&attached.policy_routes)?,
            interface: attached.interface,
            table: attached.table,
            default_cni_nic: attached.default_cni_nic,
            default_route_nic: attached.default_route_nic,
            tune_pod_routes: attached.tune_pod_routes,
            host_rule_table: attached.host_rule_table,
            rp_filter: rp_filter.map_err(|_| Malformed::Field("rp_filter"))?,
            tx_queue_length: attached.tx_queue_length,
            mac,
        })
    }
}

impl From<&Object> for wire::Object {
    fn from(object: &Object) -> wire::Object {
        let kind = match object {
            Object::Sysctl(Sysctl { side: _, key, value }) => {
                Kind::Sysctl(object::Sysctl { key: key.clone(), value: value.clone() })
            }
            Object::Link(Link { side: _, device, attribute }) => {
                let attribute = match attribute {
                    LinkAttribute::Up(up) => object::link::Attribute::Up(*up),
                    LinkAttribute::TxQueueLength(length) => object::link::Attribute::TxQueueLength(*length),
                    LinkAttribute::Mac(mac) => object::link::Attribute::Mac(mac.0.to_vec()),
                };
                Kind::Link(object::Link { device: device.clone(), attribute: Some(attribute) })
            }
            Object::Neighbour(Neighbour { side: _, device, address, mac }) => Kind::Neighbour(object::Neighbour {
                device: device.clone(),
                address: value::address(*address),
                mac: mac.0.to_vec(),
            }),
            Object::Rule(Rule { side: _, family, priority, from, table }) => Kind::Rule(object::Rule {
                ipv6: *family == Family::V6,
                priority: *priority,
                from: from.map(value::net),
                table: *table,
            }),
            Object::Route(route) => Kind::Route(route.into()),
        };
        wire::Object { host: object.side() == Side::Host, kind: Some(kind) }
    }
}

impl TryFrom<wire::Object> for Object {
    type Error = Malformed;

    fn try_from(object: wire::Object) -> Result<Object, Malformed> {
        let side = if object.host { Side::Host } else { Side::Pod };
        Ok(match required(object.kind, "kind")? {
            Kind::Sysctl(object::Sysctl { key, value }) => Sysctl { side, key, value }.into(),
            Kind::Link(link) => {
                let attribute = match required(link.attribute, "attribute")? {
                    object::link::Attribute::Up(up) => LinkAttribute::Up(up),
                    object::link::Attribute::TxQueueLength(length) => LinkAttribute::TxQueueLength(length),
                    object::link::Attribute::Mac(mac) => LinkAttribute::Mac(value::as_mac(&mac, "mac")?),
                };
                Link { side, device: link.device, attribute }.into()
            }
            Kind::Neighbour(object::Neighbour { device, address, mac }) => {
                let address = required(value::as_address(&address), "address")?;
                Neighbour { side, device, address, mac: value::as_mac(&mac, "mac")? }.into()
            }
            Kind::Rule(object::Rule { ipv6, priority, from, table }) => {
                let family = if ipv6 { Family::V6 } else { Family::V4 };
                let from = from.map(|from| value::as_net(&from, "from")).transpose()?;
                Rule { side, family, priority, from, table }.into()
            }
            Kind::Route(route) => as_route(side, route)?.into(),
        })
    }
}

impl From<&Route> for object::Route {
    fn from(route: &Route) -> object::Route {
        object::Route {
            table: route.table,
            destination: Some(value::net(route.destination)),
            gateway: route.gateway.map(value::address).unwrap_or_default(),
            device: route.device.clone(),
            source: route.source.map(value::address).unwrap_or_default(),
            scope: scope(route.scope).into(),
            metric: route.metric,
            onlink: route.onlink,
            mtu: route.mtu,
            protocol: route.protocol.into(),
        }
    }
}

fn as_route(side: Side, route: object::Route) -> Result<Route, Malformed> {
    let destination = required(route.destination.as_ref(), "destination")?;
    Ok(Route {
        side,
        table: route.table,
        destination: value::as_net(destination, "destination")?,
        gateway: maybe_address(&route.gateway, "gateway")?,
        device: route.device,
        source: maybe_address(&route.source, "source")?,
        scope: as_scope(route.scope.try_into().map_err(|_| Malformed::Field("scope"))?),
        metric: route.metric,
        onlink: route.onlink,
        mtu: route.mtu,
        protocol: route.protocol.try_into().map_err(|_| Malformed::Field("protocol"))?,
    })
}

/// `rtm_scope` (rtnetlink(7)).
fn scope(scope: Scope) -> u8 {
    match scope {
        Scope::Global => 0,
        Scope::Link => 253,
        Scope::Host => 254,
        Scope::Other(number) => number,
    }
}

fn as_scope(number: u8) -> Scope {
    match number {
        0 => Scope::Global,
        253 => Scope::Link,
        254 => Scope::Host,
        other => Scope::Other(other),
    }
}
