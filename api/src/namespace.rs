//! Namespace (core v1), of which only name and labels are read.

use serde::{Deserialize, Serialize};
use spiderpool_core::world;

use crate::invalid::{Faults, Invalid};
use crate::metadata::{Metadata, is_label, not_a_label};

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Name and labels.
    pub metadata: Metadata,
}

impl Namespace {
    /// The namespace as core knows it.
    ///
    /// # Errors
    /// Every field that is not valid.
    pub fn parse(&self) -> Result<world::Namespace, Vec<Invalid>> {
        let mut faults = Faults::default();
        if !is_label(&self.metadata.name) {
            faults.add("metadata.name", not_a_label(&self.metadata.name));
        }
        faults.or(world::Namespace { labels: self.metadata.labels.clone().unwrap_or_default() })
    }
}
