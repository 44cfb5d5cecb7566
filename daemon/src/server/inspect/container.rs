//! One sandbox: found by what its ID begins with, over everything that is remembered.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use spiderpool_core::journal::{Journal, Key, Record, Table};
use spiderpool_core::node::Node;
use spiderpool_core::node::attachment::Attachment;
use spiderpool_proto::node as wire;
use tonic::Status;

use super::dying::Dead;
use super::waiting::of_container;
use super::{allocation, history};
use crate::clock;

/// Most IDs in an answer.
const MATCHES: usize = 100;

/// The sandbox whose ID is `asked` or alone begins with it, or the IDs that do. What is dying is yet to be explained.
pub(super) fn container(
    node: &Node,
    journal: &dyn Journal,
    name: &str,
    asked: &str,
) -> Result<(wire::Container, Vec<Dead>), Status> {
    if asked.is_empty() {
        return Err(Status::invalid_argument("container_id is empty; write an ID or its first characters"));
    }
    let found = matches(node, journal, asked)?;
    let exact = found.get(asked).or_else(|| if found.len() == 1 { found.first() } else { None });
    match exact {
        Some(id) => show(node, journal, name, id),
        None if found.is_empty() => Err(Status::not_found(format!(
            "no container that this node remembers has an ID that begins with {asked:?}; ListAllocations lists those \
             that hold addresses"
        ))),
        None => {
            let matches = found.iter().take(MATCHES).map(ToString::to_string).collect();
            Ok((wire::Container { matches, ..wire::Container::default() }, Vec::new()))
        }
    }
}

/// The IDs that begin so: of holders, of plans, of the dying, of calls that wait, and of the history unless the ID is
/// known without it. More than `MATCHES` are not looked for among holders and plans, of which there may be many.
fn matches(node: &Node, journal: &dyn Journal, asked: &str) -> Result<BTreeSet<Arc<str>>, Status> {
    let begins = |id: &Arc<str>| id.starts_with(asked);
    let mut found = holders(node, asked);
    let first: Arc<str> = asked.into();
    let sandboxes = node.attachments().sandboxes().range::<Arc<str>, _>((Bound::Included(first), Bound::Unbounded));
    found.extend(sandboxes.map(|(id, _)| id).take_while(|id| begins(id)).take(MATCHES + 1).cloned());
    found.extend(node.leases().dying().values().map(|dying| &dying.holder.container).filter(|id| begins(id)).cloned());
    found.extend(node.waits().map(|(add, _)| &add.who.container).filter(|id| begins(id)).cloned());
    if found.contains(asked) {
        return Ok(found);
    }
    for row in journal.rows(Table::Facts) {
        if let (Key::Fact(_), Record::Fact(fact)) = row.map_err(|damage| Status::data_loss(damage.to_string()))?
            && begins(&fact.attachment.container)
        {
            found.insert(fact.attachment.container);
        }
    }
    Ok(found)
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

fn show(node: &Node, journal: &dyn Journal, name: &str, id: &Arc<str>) -> Result<(wire::Container, Vec<Dead>), Status> {
    let held = node.attachments().of_container(id);
    let sandbox = node.attachments().sandboxes().get(id);
    let planned = sandbox.into_iter().flat_map(|sandbox| sandbox.parts.keys());
    let dead = node.leases().dying().iter().filter(|(_, dying)| dying.holder.container == *id);
    let dead = dead.map(|(address, dying)| Dead::new(*address, dying)).collect();
    let container = wire::Container {
        container_id: id.to_string(),
        allocations: held.map(|(who, held)| allocation(who, held, name)).collect(),
        dying: Vec::new(),
        planned: planned.map(|who| format!("{}/{}", who.interface, who.network)).collect(),
        plan: sandbox.map(|sandbox| sandbox.plan.to_string()).unwrap_or_default(),
        history: history(journal, |fact| fact.attachment.container == *id)?,
        matches: Vec::new(),
        waiting: of_container(node, id, clock::boot()),
    };
    Ok((container, dead))
}
