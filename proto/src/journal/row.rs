//! Every record but a plan, to its message and back.

use std::sync::Arc;

use spiderpool_core::journal::{Binding, BootId, Lease, MachineId, Meta, Released};
use spiderpool_core::message::JournalId;
use spiderpool_core::node::attachment::{Allocation, Attachment, Held, Netns, Sandbox, Stranger};
use spiderpool_core::node::fact::{Fact, FactKind};
use spiderpool_core::select::Terms;
use spiderpool_core::world::PodId;

use super::{Malformed, maybe_address, required, value, wire};

impl From<&Meta> for wire::Meta {
    fn from(meta: &Meta) -> wire::Meta {
        wire::Meta {
            schema: meta.schema,
            journal: meta.journal.0.to_be_bytes().to_vec(),
            boot: meta.bound.boot.0.to_be_bytes().to_vec(),
            session: meta.session,
            adopted: meta.adopted,
            node: meta.bound.node.as_deref().unwrap_or_default().to_owned(),
            machine: meta.bound.machine.map(|machine| machine.0.to_be_bytes().to_vec()).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::Meta> for Meta {
    type Error = Malformed;

    fn try_from(meta: wire::Meta) -> Result<Meta, Malformed> {
        let number =
            |bytes: Vec<u8>, name| bytes.try_into().map(u128::from_be_bytes).map_err(|_| Malformed::Field(name));
        let journal = JournalId(number(meta.journal, "journal")?);
        let machine = Some(meta.machine).filter(|bytes| !bytes.is_empty());
        let bound = Binding {
            boot: BootId(number(meta.boot, "boot")?),
            node: Some(meta.node).filter(|name| !name.is_empty()).map(Arc::from),
            machine: machine.map(|bytes| number(bytes, "machine")).transpose()?.map(MachineId),
        };
        Ok(Meta { schema: meta.schema, journal, bound, session: meta.session, adopted: meta.adopted })
    }
}

impl From<&Lease> for wire::Lease {
    fn from(lease: &Lease) -> wire::Lease {
        wire::Lease { pool: lease.pool.to_string(), addresses: value::set(&lease.addresses) }
    }
}

impl TryFrom<wire::Lease> for Lease {
    type Error = Malformed;

    fn try_from(lease: wire::Lease) -> Result<Lease, Malformed> {
        Ok(Lease { pool: lease.pool.into(), addresses: value::as_set(&lease.addresses, "addresses")? })
    }
}

impl From<&Attachment> for wire::Attachment {
    fn from(who: &Attachment) -> wire::Attachment {
        wire::Attachment {
            network: who.network.to_string(),
            container: who.container.to_string(),
            interface: who.interface.to_string(),
        }
    }
}

impl From<wire::Attachment> for Attachment {
    fn from(who: wire::Attachment) -> Attachment {
        Attachment { container: who.container.into(), interface: who.interface.into(), network: who.network.into() }
    }
}

impl From<&Netns> for wire::Netns {
    fn from(netns: &Netns) -> wire::Netns {
        wire::Netns { path: netns.path.clone(), inode: netns.inode, cookie: netns.cookie }
    }
}

impl From<wire::Netns> for Netns {
    fn from(netns: wire::Netns) -> Netns {
        Netns { path: netns.path, inode: netns.inode, cookie: netns.cookie }
    }
}

impl From<&PodId> for wire::Pod {
    fn from(pod: &PodId) -> wire::Pod {
        wire::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
    }
}

impl From<wire::Pod> for PodId {
    fn from(pod: wire::Pod) -> PodId {
        PodId { namespace: pod.namespace, name: pod.name, uid: pod.uid }
    }
}

impl From<&Allocation> for wire::Allocation {
    fn from(allocation: &Allocation) -> wire::Allocation {
        let Allocation { address, pool, terms: Terms { prefix, gateway, default_route, routes }, stranger } =
            allocation;
        wire::Allocation {
            address: value::address(*address),
            pool: pool.to_string(),
            prefix: (*prefix).into(),
            gateway: gateway.map(value::address).unwrap_or_default(),
            default_route: *default_route,
            routes: value::routes(routes),
            stranger: stranger.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Allocation> for Allocation {
    type Error = Malformed;

    fn try_from(allocation: wire::Allocation) -> Result<Allocation, Malformed> {
        let terms = Terms {
            prefix: allocation.prefix.try_into().map_err(|_| Malformed::Field("prefix"))?,
            gateway: maybe_address(&allocation.gateway, "gateway")?,
            default_route: allocation.default_route,
            routes: value::as_routes(&allocation.routes)?,
        };
        let address = required(value::as_address(&allocation.address), "address")?;
        let stranger = allocation.stranger.map(TryInto::try_into).transpose()?;
        Ok(Allocation { address, pool: allocation.pool.into(), terms, stranger })
    }
}

impl From<&Stranger> for wire::Stranger {
    fn from(stranger: &Stranger) -> wire::Stranger {
        wire::Stranger { mac: stranger.mac.0.to_vec(), seen: stranger.seen }
    }
}

impl TryFrom<wire::Stranger> for Stranger {
    type Error = Malformed;

    fn try_from(stranger: wire::Stranger) -> Result<Stranger, Malformed> {
        Ok(Stranger { mac: value::as_mac(&stranger.mac, "mac")?, seen: stranger.seen })
    }
}

impl From<&Held> for wire::Held {
    fn from(held: &Held) -> wire::Held {
        wire::Held {
            started: held.started,
            pod: Some((&held.pod).into()),
            netns: Some((&held.netns).into()),
            since: held.since,
            allocations: held.allocations.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Held> for Held {
    type Error = Malformed;

    fn try_from(held: wire::Held) -> Result<Held, Malformed> {
        Ok(Held {
            started: held.started,
            pod: required(held.pod, "pod")?.into(),
            netns: required(held.netns, "netns")?.into(),
            since: held.since,
            allocations: held.allocations.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Released> for wire::Released {
    fn from(released: &Released) -> wire::Released {
        use wire::released::{Dying, Quarantined, Resting, State};
        let state = match released {
            Released::Dying { holder, netns } => {
                State::Dying(Dying { holder: Some(holder.into()), netns: Some(netns.into()) })
            }
            Released::Resting { order, until } => State::Resting(Resting { order: *order, until: *until }),
            Released::Quarantined { stranger, probed } => {
                State::Quarantined(Quarantined { stranger: Some(stranger.into()), probed: *probed })
            }
        };
        wire::Released { state: Some(state) }
    }
}

impl TryFrom<wire::Released> for Released {
    type Error = Malformed;

    fn try_from(released: wire::Released) -> Result<Released, Malformed> {
        use wire::released::{Quarantined, State};
        Ok(match required(released.state, "state")? {
            State::Dying(dying) => Released::Dying {
                holder: required(dying.holder, "holder")?.into(),
                netns: required(dying.netns, "netns")?.into(),
            },
            State::Resting(resting) => Released::Resting { order: resting.order, until: resting.until },
            State::Quarantined(Quarantined { stranger, probed }) => {
                Released::Quarantined { stranger: required(stranger, "stranger")?.try_into()?, probed }
            }
        })
    }
}

impl From<&Sandbox> for wire::Sandbox {
    fn from(sandbox: &Sandbox) -> wire::Sandbox {
        let parts = sandbox.parts.iter();
        wire::Sandbox {
            netns: Some((&sandbox.netns).into()),
            pod: Some((&sandbox.pod).into()),
            parts: parts
                .map(|(who, started)| wire::sandbox::Part { attachment: Some(who.into()), started: *started })
                .collect(),
            plan: Some((&sandbox.plan).into()),
        }
    }
}

impl TryFrom<wire::Sandbox> for Sandbox {
    type Error = Malformed;

    fn try_from(sandbox: wire::Sandbox) -> Result<Sandbox, Malformed> {
        let part = |part: wire::sandbox::Part| Ok((required(part.attachment, "attachment")?.into(), part.started));
        Ok(Sandbox {
            netns: required(sandbox.netns, "netns")?.into(),
            pod: required(sandbox.pod, "pod")?.into(),
            parts: sandbox.parts.into_iter().map(part).collect::<Result<_, Malformed>>()?,
            plan: required(sandbox.plan, "plan")?.try_into()?,
        })
    }
}

impl From<&Fact> for wire::Fact {
    fn from(fact: &Fact) -> wire::Fact {
        let kind = match fact.kind {
            FactKind::Allocated => wire::fact::Kind::Allocated,
            FactKind::Released => wire::fact::Kind::Released,
            FactKind::Taken(_) => wire::fact::Kind::Taken,
        };
        let by = if let FactKind::Taken(by) = fact.kind { by.0.to_vec() } else { Vec::new() };
        wire::Fact {
            by,
            at: fact.at,
            kind: kind.into(),
            address: value::address(fact.address),
            pool: fact.pool.to_string(),
            attachment: Some((&fact.attachment).into()),
            pod: Some((&fact.pod).into()),
        }
    }
}

impl TryFrom<wire::Fact> for Fact {
    type Error = Malformed;

    fn try_from(fact: wire::Fact) -> Result<Fact, Malformed> {
        let kind = match fact.kind() {
            wire::fact::Kind::Allocated => FactKind::Allocated,
            wire::fact::Kind::Released => FactKind::Released,
            wire::fact::Kind::Taken => FactKind::Taken(value::as_mac(&fact.by, "by")?),
            wire::fact::Kind::Unspecified => return Err(Malformed::Field("kind")),
        };
        Ok(Fact {
            at: fact.at,
            kind,
            address: required(value::as_address(&fact.address), "address")?,
            pool: Arc::from(fact.pool),
            attachment: required(fact.attachment, "attachment")?.into(),
            pod: required(fact.pod, "pod")?.into(),
        })
    }
}
