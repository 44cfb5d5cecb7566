//! The Container Network Interface as this product speaks it (CNI specification 1.1.0, versions 0.3.0 to 1.1.0).
//!
//! - [`types`]: network configuration, result, error, arguments. The daemon parses and renders with them.
//! - [`cause`]: what is behind an error of a call, for both ends of the socket.
//! - [`cache`]: the results that a runtime's CNI library keeps.
//! - [`failpoint`]: where a test ends a program of either end.
//! - [`shim`]: the run loop that both CNI programs share. It parses nothing but `cniVersion`.
//! - [`spool`]: tombstones, the DEL requests that wait on disk for a daemon that was away. Both ends are here.
//! - [`stamp`]: when a program started.

pub mod cache;
pub mod cause;
pub mod failpoint;
pub mod shim;
pub mod spool;
pub mod stamp;
mod trust;
pub mod types;
