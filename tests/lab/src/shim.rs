//! A CNI program called as a runtime calls it, with nothing between.

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::namespace::Namespace;
use crate::program::{Finished, Program};
use crate::software::FAIL_POINTS;

/// An installed CNI program with the environment of one attachment. Each method that changes it gives a new one.
#[derive(Clone, Debug)]
pub struct Shim {
    node: Namespace,
    program: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Shim {
    pub(crate) fn new(node: Namespace, program: PathBuf, path: String) -> Self {
        let variables = [("CNI_PATH".to_owned(), path), ("CNI_IFNAME".to_owned(), "net1".to_owned())];
        Self { node, program, variables: variables.into() }
    }

    /// For a container (`CNI_CONTAINERID`).
    #[must_use]
    pub fn container(self, id: &str) -> Self {
        self.variable("CNI_CONTAINERID", id)
    }

    /// For a sandbox (`CNI_NETNS`).
    #[must_use]
    pub fn sandbox(self, namespace: &Namespace) -> Self {
        self.variable("CNI_NETNS", &namespace.path().to_string_lossy())
    }

    /// For an interface (`CNI_IFNAME`); `net1` unless said.
    #[must_use]
    pub fn interface(self, name: &str) -> Self {
        self.variable("CNI_IFNAME", name)
    }

    /// For a Pod (`CNI_ARGS`).
    #[must_use]
    pub fn pod(self, namespace: &str, name: &str, uid: &str) -> Self {
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}");
        self.variable("CNI_ARGS", &arguments)
    }

    /// With a variable set.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Built with fail points: to kill itself at one of them.
    #[must_use]
    pub fn failing(self, point: &str) -> Self {
        self.variable(FAIL_POINTS, &format!("{point}:1"))
    }

    /// Without a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// Calls the program with a verb and its standard input.
    ///
    /// # Errors
    /// It could not be started or did not end.
    pub fn call(&self, verb: &str, input: impl Display) -> Result<Answer> {
        self.run(Program::new(&self.program), verb, input)
    }

    /// As [`Shim::call`], but the program is killed if it runs for longer.
    ///
    /// # Errors
    /// It could not be started.
    pub fn call_killed(&self, after: Duration, verb: &str, input: impl Display) -> Result<Answer> {
        let limit = format!("{:.4}", after.as_secs_f64());
        self.run(Program::new("timeout").args(["-s", "KILL", &limit]).arg(&self.program), verb, input)
    }

    fn run(&self, program: Program, verb: &str, input: impl Display) -> Result<Answer> {
        let program = program.env("CNI_COMMAND", verb).input(input.to_string());
        let program = self.variables.iter().fold(program, |program, (name, value)| program.env(name, value.as_str()));
        Ok(Answer { verb: verb.to_owned(), finished: self.node.run(&program)? })
    }
}

/// What a CNI program answered. No assertion of it passes while there is anything on standard error.
#[derive(Clone, Debug)]
pub struct Answer {
    verb: String,
    finished: Finished,
}

impl Answer {
    /// Whether it ended well.
    pub fn is_success(&self) -> bool {
        self.finished.status.success()
    }

    /// Whether SIGKILL ended it.
    pub fn was_killed(&self) -> bool {
        self.finished.status.signal() == Some(Signal::SIGKILL as i32)
    }

    /// The result that it printed.
    ///
    /// # Errors
    /// It failed, or printed something else.
    pub fn result(&self) -> Result<Value> {
        let text = self.succeeded()?;
        Ok(serde_json::from_str(text)?)
    }

    /// Holds it to have succeeded and to have printed nothing.
    ///
    /// # Errors
    /// It did otherwise.
    pub fn silent(&self) -> Result<()> {
        let text = self.succeeded()?;
        ensure!(text.is_empty(), "{} should print nothing: {text}", self.verb);
        Ok(())
    }

    /// Holds it to have failed with an error of `code` in which all `words` occur, and returns the error.
    ///
    /// # Errors
    /// It did otherwise.
    pub fn error(&self, code: u32, words: &[&str]) -> Result<Value> {
        let Finished { status, stdout, stderr, .. } = &self.finished;
        ensure!(status.code() == Some(1) && stderr.is_empty(), "{} ended with {status}: {stdout}{stderr}", self.verb);
        let error: Value = serde_json::from_str(stdout)?;
        ensure!(error["code"] == code, "{} should fail with code {code}: {error}", self.verb);
        ensure!(error["cniVersion"].is_string(), "an error without cniVersion: {error}");
        let text = format!("{} {}", error["msg"].as_str().unwrap_or_default(), error["details"]);
        for word in words {
            ensure!(text.contains(word), "{} should say {word:?}: {error}", self.verb);
        }
        Ok(error)
    }

    fn succeeded(&self) -> Result<&str> {
        let Finished { status, stdout, stderr, .. } = &self.finished;
        if !status.success() || !stderr.is_empty() {
            bail!("{} ended with {status}: {stdout}{stderr}", self.verb);
        }
        Ok(stdout)
    }
}
