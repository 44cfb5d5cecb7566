//! Node (core v1), of which only name and labels are read.

use serde::{Deserialize, Serialize};
use spiderpool_core::world;

use crate::invalid::{Faults, Invalid};
use crate::metadata::Metadata;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name and labels.
    pub metadata: Metadata,
}

impl Node {
    /// The node as core knows it.
    ///
    /// # Errors
    /// Every field that is not valid.
    pub fn parse(&self) -> Result<world::Node, Vec<Invalid>> {
        let mut faults = Faults::default();
        self.metadata.check_name(&mut faults);
        let Metadata { name, labels, .. } = &self.metadata;
        faults.or(world::Node { name: name.clone(), labels: Some(labels.clone().unwrap_or_default()) })
    }
}
