//! The Kubernetes vocabulary: the objects as they are written, and the parse into core's types.
//!
//! The parse is the static validation: what comes out of it needs no further check, and what is refused says which
//! field is wrong and how to write it. An object's faults are all reported, not only the first.
//!
//! The types hold an object without its envelope, `apiVersion` and `kind`: whoever reads one has looked at these to
//! know the type.

pub mod coordinator;
pub mod folder;
pub mod metadata;
pub mod namespace;
pub mod network;
pub mod node;
pub mod overlap;
pub mod pool;
pub mod reserved;
pub mod selector;
pub mod setting;

mod document;
mod invalid;

pub use invalid::Invalid;

/// `apiVersion` of the kinds that this product defines.
pub const API_VERSION: &str = "spiderpool.spidernet.io/v2beta1";
