//! A small cluster's network, built in namespaces on one machine.
//!
//! Two nodes stand on one underlay segment; each has its own network namespace, folders and daemon. Pods get
//! an `eth0` wired as Calico wires it, and further interfaces by real CNI chains: the reference runner
//! `cnitool`, Debian's macvlan plugin and the built shims.
//!
//! ```text
//!                 outside 172.16.5.20        host 10.7.212.101
//!                        │                          │
//!               gateway 10.6.0.1 ────────── router 10.7.0.1
//!                        │
//!   ─────────────────── segment 10.6.0.0/16 ───────────────────
//!        │ ens192                               │ ens192
//!   controller 10.6.212.131                worker01 10.6.212.132
//!        │ cali…  └ net1 (macvlan)              │ cali…  └ net1 (macvlan)
//!       Pod eth0 10.233.x.x                    Pod eth0 10.233.x.x
//! ```
//!
//! Guarantees: nothing is made in the namespaces of the machine itself; two labs may run at once; when the
//! process that owns a lab ends, in whatever way, its processes, namespaces and folders are gone.
//! It shares no code with the product: what it says of the kernel comes from `ip` and from packets.

mod capture;
mod chain;
mod checker;
mod clock;
mod daemon;
pub mod example;
mod folder;
mod inspect;
mod lab;
mod launcher;
mod listener;
mod namespace;
mod node;
mod pod;
mod program;
mod shim;
mod software;
mod standalone;
mod subnet;
mod tables;
mod topology;

pub use capture::{Capture, Direction, Packet, Payload};
pub use chain::Chain;
pub use checker::{Attached, Checker, Kept, Picture, Tenure, never_shared};
pub use clock::{Deadline, Stopwatch, comes_true, wait_for};
pub use daemon::Daemon;
pub use folder::Folder;
pub use inspect::{Counts, Inspect};
pub use lab::Lab;
pub use launcher::{Bind, Launcher};
pub use listener::SilentListener;
pub use namespace::Namespace;
pub use node::{Node, NodeSpec};
pub use pod::{Pod, PodSpec};
pub use program::{Finished, Program};
pub use shim::{Answer, Shim};
pub use software::{Product, Tools};
pub use standalone::Standalone;
pub use subnet::Subnet;
pub use tables::{PodTables, difference};
pub use topology::Topology;
