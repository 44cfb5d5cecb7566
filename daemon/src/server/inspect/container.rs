//! One sandbox: found by what its ID begins with, over everything that is remembered.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::Attachment;
use spiderpool_core::node::fact::Fact;
use spiderpool_proto::node as wire;
use tonic::Status;

use super::dying::Dead;
use super::waiting::of_container;
use super::{Inspector, allocation};
use crate::clock;

/// Most IDs in an answer.
const MATCHES: usize = 100;

/// What an ID, or its first characters, leads to.
pub(super) enum Match {
    /// This sandbox.
    One(Arc<str>),
    /// The IDs that begin so, the first ones.
    Several(Vec<String>),
}

impl Inspector {
    /// The sandbox whose ID is `asked` or alone begins with it, or the IDs that do. The history is asked only for an ID
    /// that is not known without it.
    pub(super) async fn find(&self, asked: &str) -> Result<Match, Status> {
        if asked.is_empty() {
            return Err(Status::invalid_argument("container_id is empty; write an ID or its first characters"));
        }
        let beginning: Arc<str> = asked.into();
        let begins = Arc::clone(&beginning);
        let mut found = self.look(move |node, _| Ok(known(node, &begins))).await?;
        if !found.contains(asked) {
            let told = move |found: &mut BTreeSet<Arc<str>>, _, fact: &Fact| {
                if fact.attachment.container.starts_with(&*beginning) {
                    found.insert(Arc::clone(&fact.attachment.container));
                }
            };
            found = self.facts(found, told).await?;
        }
        let exact = found.get(asked).or_else(|| if found.len() == 1 { found.first() } else { None });
        match exact {
            Some(id) => Ok(Match::One(Arc::clone(id))),
            None if found.is_empty() => Err(Status::not_found(format!(
                "no container that this node remembers has an ID that begins with {asked:?}; ListAllocations lists those \
                 that hold addresses"
            ))),
            None => Ok(Match::Several(found.iter().take(MATCHES).map(ToString::to_string).collect())),
        }
    }
}

/// The IDs that begin so: of holders, of plans, of the dying and of calls that wait. More than `MATCHES` are not looked
/// for among holders and plans, of which there may be many.
fn known(node: &Node, asked: &str) -> BTreeSet<Arc<str>> {
    let begins = |id: &Arc<str>| id.starts_with(asked);
    let mut found = holders(node, asked);
    let first: Arc<str> = asked.into();
    let sandboxes = node.attachments().sandboxes().range::<Arc<str>, _>((Bound::Included(first), Bound::Unbounded));
    found.extend(sandboxes.map(|(id, _)| id).take_while(|id| begins(id)).take(MATCHES + 1).cloned());
    found.extend(node.leases().dying().values().map(|dying| &dying.holder.container).filter(|id| begins(id)).cloned());
    found.extend(node.waits().map(|(add, _)| &add.who.container).filter(|id| begins(id)).cloned());
    found
}

/// The IDs of holders that begin so, the first ones; a step each, however many attachments a container has.
fn holders(node: &Node, asked: &str) -> BTreeSet<Arc<str>> {
    let (mut found, mut from) = (BTreeSet::new(), Arc::from(asked));
    while found.len() <= MATCHES {
        let least = Attachment { container: from, interface: "".into(), network: "".into() };
        let Some((next, _)) = node.attachments().held().range(least..).next() else { break };
        if !next.container.starts_with(asked) {
            break;
        }
        found.insert(Arc::clone(&next.container));
        // The least text behind it.
        from = format!("{}\0", next.container).into();
    }
    found
}

/// All that is recorded of a sandbox. What is dying is yet to be explained, what happened to be read.
pub(super) fn show(node: &Node, name: &str, id: &Arc<str>) -> (wire::Container, Vec<Dead>) {
    let held = node.attachments().of_container(id);
    let sandbox = node.attachments().sandboxes().get(id);
    let planned = sandbox.into_iter().flat_map(|sandbox| sandbox.parts.keys());
    let dead = node.leases().dying().iter().filter(|(_, dying)| dying.holder.container == *id);
    let dead = dead.map(|(address, dying)| Dead::new(*address, dying)).collect();
    let container = wire::Container {
        container_id: id.to_string(),
        allocations: held.map(|(who, held)| allocation(who, held, name)).collect(),
        planned: planned.map(|who| format!("{}/{}", who.interface, who.network)).collect(),
        plan: sandbox.map(|sandbox| sandbox.plan.to_string()).unwrap_or_default(),
        waiting: of_container(node, id, clock::boot()),
        ..wire::Container::default()
    };
    (container, dead)
}
