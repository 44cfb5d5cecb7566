//! The run loop that both CNI programs share: read standard input and `CNI_*`, ask the daemon once, print its answer.
//!
//! Guarantees:
//! - The start is stamped before anything else is done.
//! - Standard output gets one JSON document in a single write, or nothing.
//! - A DEL whose daemon is away, or does not answer, leaves a durable tombstone and succeeds.
//! - No path is taken from standard input: socket and spool come from the file beside the program ([`Settings`]).
//!
//! Nothing here writes a log, starts a thread or keeps a file: a runtime starts these programs for every call.

mod call;
mod environment;
mod input;
mod settings;
mod verb;

use std::{
    env,
    fs::File,
    io,
    io::{IsTerminal as _, Write as _},
    os::fd::AsFd as _,
    process::ExitCode,
};

use serde_json::json;
pub use settings::Settings;
pub use spiderpool_proto::node::Plugin;
use spiderpool_proto::node::{CniRequest, Stamp, cni_reply::Outcome};

use self::{environment::Environment, verb::Verb};
use crate::{
    stamp,
    types::{CniError, CniVersion, Code},
};

/// The whole life of a CNI program. Exit status 0: done; 1: an error was printed.
pub fn run(plugin: Plugin) -> ExitCode {
    let started = stamp::now();
    let argument = env::args().nth(1);
    match argument.as_deref() {
        Some("--version" | "-V") => return print(&format!("{}\n", identity(plugin)), true),
        Some("--help" | "-h") => return print(&help(plugin), true),
        _ => {}
    }
    let environment = Environment::new(|name| env::var_os(name));
    let Some(command) = environment.command() else {
        // As the reference implementation does: for people, so not on standard output.
        let about = format!("{}\nCNI protocol versions supported: {}\n", identity(plugin), CniVersion::list());
        return if io::stderr().write_all(about.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    // VERSION needs no input, and a person at a terminal gives none.
    let skips_input = command == "VERSION" && io::stdin().is_terminal();
    let text = if skips_input { Ok(String::new()) } else { input::read(io::stdin().lock()) };
    let (document, success) = answer(plugin, started, &environment, text);
    print(&document, success)
}

/// The JSON document to print (empty if the verb prints none), and whether it is a result.
fn answer(
    plugin: Plugin,
    started: io::Result<Stamp>,
    environment: &Environment<'_>,
    text: Result<String, CniError>,
) -> (String, bool) {
    let version = text.as_ref().map_err(CniError::clone).and_then(|text| input::version(text));
    let spoken = version.clone().unwrap_or(CniVersion::NEWEST);
    match ask(plugin, started, environment, text, version) {
        Ok(Outcome::Result(document)) => (document, true),
        Ok(Outcome::Error(document)) => (document, false),
        Err(error) => (error.render(spoken), false),
    }
}

fn ask(
    plugin: Plugin,
    started: io::Result<Stamp>,
    environment: &Environment<'_>,
    text: Result<String, CniError>,
    version: Result<CniVersion, CniError>,
) -> Result<Outcome, CniError> {
    let verb = Verb::parse(environment.command().unwrap_or_default())?;
    if verb == Verb::Version {
        return Ok(Outcome::Result(versions(version.unwrap_or(CniVersion::NEWEST))));
    }
    let variables = environment.read(verb)?;
    let config = text?;
    verb.check_version(version?)?;
    if matches!(verb, Verb::Add | Verb::Check) && !environment.may_share_namespace() {
        environment::check_namespace(&variables.netns)?;
    }
    let settings = Settings::beside_program()?;
    let started =
        started.map_err(|error| CniError::new(Code::Io, format!("cannot tell when this program started: {error}")))?;
    let request = CniRequest {
        plugin: plugin.into(),
        container_id: variables.container_id,
        netns: variables.netns,
        interface: variables.interface,
        args: variables.args,
        path: variables.path,
        started: Some(started),
        config,
    };
    call::call(verb, request, &settings)
}

/// The answer to VERSION (CNI specification 1.1.0, section 2, "VERSION").
fn versions(spoken: CniVersion) -> String {
    json!({ "cniVersion": spoken.as_str(), "supportedVersions": CniVersion::ALL.map(CniVersion::as_str) }).to_string()
}

/// The program's file name.
fn name(plugin: Plugin) -> &'static str {
    match plugin {
        Plugin::Coordinator => "coordinator",
        Plugin::Ipam | Plugin::Unspecified => "spiderpool",
    }
}

fn identity(plugin: Plugin) -> String {
    format!("CNI plugin {} v{}", name(plugin), env!("CARGO_PKG_VERSION"))
}

fn help(plugin: Plugin) -> String {
    let (name, identity, versions) = (name(plugin), identity(plugin), CniVersion::list());
    let task = match plugin {
        Plugin::Coordinator => "sets the routes and rules of a Pod's interface, as a chained plugin",
        Plugin::Ipam | Plugin::Unspecified => "gives interfaces their addresses, as an IPAM plugin",
    };
    let file = settings::FILE;
    let Settings { socket, spool, timeout } = Settings::default();
    format!(
        "{identity}\n\n\
         A container runtime starts this program; it {task}.\n\
         All work is done by the node's daemon, spiderpool-agent.\n\n\
         \x20 CNI_COMMAND=VERSION {name}    print the CNI versions spoken: {versions}\n\
         \x20 {name} --version | --help\n\n\
         Settings are read from {file} in the folder of this program, if it is there; only root may be able\n\
         to write the file and its folder. Its keys, with what holds without them:\n\n\
         \x20 {{\"socket\": \"{}\", \"spool\": \"{}\", \"timeout\": {}}}\n\n\
         socket is the daemon's; spool keeps the DELs that found no daemon; timeout is in seconds.\n",
        socket.display(),
        spool.display(),
        timeout.as_secs(),
    )
}

/// One write: a reader of the pipe sees the whole document or none of it.
fn print(document: &str, success: bool) -> ExitCode {
    let written = document.is_empty()
        || io::stdout()
            .as_fd()
            .try_clone_to_owned()
            // Not by way of `Stdout`, which writes line by line.
            .and_then(|stdout| File::from(stdout).write_all(document.as_bytes()))
            .is_ok();
    if success && written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
