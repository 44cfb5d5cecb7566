//! The demo: two nodes, two Pods with a Calico-like `eth0` and a macvlan `net1`, and what follows from that.
//!
//! It shows what an operator would type, in the order of the documentation's Calico and macvlan page, with live
//! output. Whatever is shown is checked, and by which interface packets leave is seen by packet capture. The first
//! thing that is not as it should be ends the demo with exit status 1.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod endpoints;
mod moved;
mod report;
mod routes;
mod stage;
mod traffic;

use anyhow::Result;
use report::Report;
use stage::Stage;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut report = Report::new();
    match run(&mut report) {
        Ok(()) => {
            report.conclude();
            ExitCode::SUCCESS
        }
        Err(error) => {
            report.fail(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(report: &mut Report) -> Result<()> {
    let stage = Stage::build(report)?;
    endpoints::show(report, &stage)?;
    routes::show(report, &stage)?;
    traffic::show(report, &stage)?;
    moved::show(report, &stage)?;
    stage.end(report)
}
