//! More than anybody should ask for: the daemon answers or says clearly why not, and its memory stays bounded.

mod calls;
mod client;
mod input;
mod interfaces;
mod reader;
mod rig;
