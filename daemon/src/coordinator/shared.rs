//! What sandboxes share of the host: such objects go with the last plan that wants them.
//!
//! An ADD is inside from its look at the host until its changes are made; whoever takes something away on the host closes
//! the gate: no ADD is between the two then, and nobody else takes away.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use spiderpool_core::node::Node;
use spiderpool_core::plan::Object;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::keeper::{Keeper, Stopped};

/// Who wants what of the host, and the gate.
pub(super) struct Shared {
    keeper: Keeper,
    gate: RwLock<()>,
    leaving: Arc<Leaving>,
}

/// Host objects that sandboxes have given up while their records still say that they want them.
#[derive(Default)]
struct Leaving {
    by_container: Mutex<HashMap<Arc<str>, BTreeSet<Object>>>,
}

/// Ends what [`Shared::leave`] said: the sandbox's record says so itself by now, or nothing was given up.
pub(super) struct Left {
    leaving: Arc<Leaving>,
    container: Arc<str>,
}

impl Shared {
    pub(super) fn new(keeper: Keeper) -> Shared {
        Shared { keeper, gate: RwLock::default(), leaving: Arc::default() }
    }

    /// For an ADD, beside others.
    pub(super) async fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// For who takes away, alone.
    pub(super) async fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// Which of these host objects plans of other sandboxes want too.
    pub(super) async fn wanted_beside(
        &self,
        container: &Arc<str>,
        objects: BTreeSet<Object>,
    ) -> Result<BTreeSet<Object>, Stopped> {
        if objects.is_empty() {
            return Ok(objects);
        }
        let container = Arc::clone(container);
        let leaving = self.leaving.by_container.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let look = move |node: &Node| {
            let attachments = node.attachments();
            let still = |object: &Object, other: &Arc<str>| {
                *other != container && leaving.get(other).is_none_or(|given_up| !given_up.contains(object))
            };
            let wanted = |object: &Object| attachments.wanting(object).any(|other| still(object, other));
            objects.into_iter().filter(wanted).collect()
        };
        self.keeper.read(move |node, _| look(node)).await
    }

    /// Says that a sandbox gives up host objects, until what is returned is dropped. The gate is closed.
    pub(super) fn leave(&self, container: &Arc<str>, objects: BTreeSet<Object>) -> Left {
        let mut leaving = self.leaving.by_container.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.insert(Arc::clone(container), objects);
        Left { leaving: Arc::clone(&self.leaving), container: Arc::clone(container) }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let mut leaving = self.leaving.by_container.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.remove(&self.container);
    }
}
