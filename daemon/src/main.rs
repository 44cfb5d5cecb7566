//! The node's daemon of the underlay network.

use std::process::ExitCode;

use clap::Parser as _;

mod call;
mod client;
mod clock;
mod config;
mod coordinator;
mod evidence;
mod http;
mod install;
mod ipam;
mod journal;
mod keeper;
mod metrics;
mod net;
mod room;
mod run;
mod server;
mod spool;
mod standalone;
mod status;
mod table;
mod view;
mod why;

use config::{Cli, Command};

#[allow(clippy::print_stderr)] // logging may not be set up yet, and a person is looking
#[cfg_attr(feature = "failpoints", allow(clippy::print_stdout))] // a test is reading
fn main() -> ExitCode {
    limit_arenas();
    let ended = match Cli::parse().command {
        Command::Run(args) => run::run(*args),
        Command::Install(args) => install::install(&args),
        Command::Status(args) => status::status(&args),
        Command::Why(args) => why::why(&args),
        #[cfg(feature = "failpoints")]
        Command::FailPoints => {
            spiderpool_cni::failpoint::Point::ALL.iter().for_each(|point| println!("{}", point.name()));
            Ok(())
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spiderpool-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps what many threads have freed in one place: by default glibc has eight heaps a core, and under a burst of calls
/// each grows to what one alone would need (mallopt(3)).
#[allow(unsafe_code)]
#[cfg(target_env = "gnu")]
fn limit_arenas() {
    // SAFETY: no other thread runs yet. If it is refused the default stays.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

#[cfg(not(target_env = "gnu"))]
fn limit_arenas() {}
