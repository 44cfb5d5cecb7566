//! Every decision of the underlay network, as values in and values out.
//!
//! Nothing here does IO, awaits, reads a clock or draws a random number: whatever a decision needs is given in, so
//! that a simulator or a model checker can drive the same code as the daemon. A test in `tests/pure.rs` holds the
//! crate's dependency tree to that.

pub mod address;
pub mod journal;
pub mod message;
pub mod node;
pub mod plan;
pub mod select;
pub mod world;
