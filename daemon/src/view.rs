//! What the daemon knows of the world: a snapshot that the feeder replaces as a whole and every call reads without a
//! lock.

use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use spiderpool_core::world::World;
use tokio::sync::watch;

/// The current snapshot.
#[derive(Clone, Default)]
pub(crate) struct View {
    world: Arc<ArcSwap<World>>,
    refused: Arc<RwLock<Vec<String>>>,
    changed: Arc<watch::Sender<()>>,
}

impl View {
    /// The world as it is now; it does not change under the caller.
    pub(crate) fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Replaces the world, and what of its source was refused.
    pub(crate) fn replace(&self, world: Arc<World>, refused: Vec<String>) {
        let is_new = **self.world.load() != *world;
        self.world.store(world);
        *self.refused.write().unwrap_or_else(std::sync::PoisonError::into_inner) = refused;
        if is_new {
            self.changed.send_replace(());
        }
    }

    /// Tells of every change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What of the source was refused, for people.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
