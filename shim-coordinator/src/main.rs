//! `coordinator`, the chained route plugin: hands its input to the node's daemon and prints the answer.

use std::process::ExitCode;

use spiderpool_cni::shim::{Plugin, run};

fn main() -> ExitCode {
    run(Plugin::Coordinator)
}
