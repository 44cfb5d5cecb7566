//! Stories of one sandbox follow each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// One turn a sandbox.
#[derive(Default)]
pub(super) struct Turns {
    by_container: Mutex<HashMap<Arc<str>, Weak<AsyncMutex<()>>>>,
}

impl Turns {
    /// Waits for the sandbox's turn.
    pub(super) async fn take(&self, container: &Arc<str>) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.by_container.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(container).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(AsyncMutex::new(()));
                    turns.insert(Arc::clone(container), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}
