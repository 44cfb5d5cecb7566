//! The built CNI programs and the real daemon, as a runtime and an operator meet them: nothing is known of the product
//! here but its interfaces. One node of the lab, with real namespaces; each test has a node of its own.

mod add;
mod check;
mod coordinator;
mod del;
mod environment;
mod gc;
mod inspect;
mod pools;
mod rig;
mod shortage;
mod spool;
mod stamp;
mod standalone;
mod status;
