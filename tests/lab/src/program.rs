//! One run of a program: what to start, and what came of it.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::clock::Deadline;

/// No program of the lab may take longer; one that does is killed and counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a kill, its children may still hold the pipes: their output is not waited for.
const GRACE: Duration = Duration::from_secs(1);

/// A program with its arguments, environment and standard input.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
}

impl Program {
    /// The program at `path`, or of that name in PATH.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned(), arguments: Vec::new(), environment: Vec::new(), input: Vec::new() }
    }

    /// The ping that the lab uses everywhere: two packets, quickly. `options` go before the destination.
    pub fn ping(options: &[&str], destination: impl Into<IpAddr>) -> Self {
        Self::new("ping").args(["-c", "2", "-i", "0.2", "-W", "2"]).args(options).arg(destination.into().to_string())
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_string_lossy().into_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(self, arguments: I) -> Self {
        arguments.into_iter().fold(self, Program::arg)
    }

    /// One more environment variable, beside those of the lab's own process.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// What the program reads from standard input (nothing unless given).
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// As the standard library's command, with all three streams piped.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Feeds the input, collects both outputs and waits for the end.
    pub(crate) fn finish(&self, mut child: Child) -> Result<Finished> {
        let (sender, receiver) = mpsc::channel();
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input.clone();
            // A program may end without reading its input: that is no failure of the lab.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ];
        for (index, stream) in streams.into_iter().enumerate() {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let outcome = stream.map_or(Ok(0), |mut stream| stream.read_to_end(&mut bytes));
                drop(sender.send((index, outcome.map(|_| bytes))));
            });
        }
        let mut texts = [Vec::new(), Vec::new()];
        let mut deadline = Deadline::after(PATIENCE);
        let mut killed = false;
        let mut open = texts.len();
        while open > 0 {
            match receiver.recv_timeout(deadline.remaining()) {
                Ok((index, bytes)) => {
                    texts[index] = bytes.with_context(|| format!("read the output of `{self}`"))?;
                    open -= 1;
                }
                Err(_) if killed => break,
                Err(_) => {
                    child.kill().with_context(|| format!("kill `{self}`"))?;
                    killed = true;
                    deadline = Deadline::after(GRACE);
                }
            }
        }
        let status = child.wait().with_context(|| format!("wait for `{self}`"))?;
        let [stdout, stderr] = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if killed {
            bail!("`{self}` did not end within {} s and was killed\n{stdout}{stderr}", PATIENCE.as_secs());
        }
        Ok(Finished { line: self.to_string(), status, stdout, stderr })
    }
}

/// The command line as one would type it.
impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        write!(formatter, "{}", name.to_string_lossy())?;
        for argument in &self.arguments {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
            if !argument.is_empty() && argument.bytes().all(plain) {
                write!(formatter, " {argument}")?;
            } else {
                write!(formatter, " '{argument}'")?;
            }
        }
        Ok(())
    }
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line.
    pub line: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// The same, if it ended with status 0.
    ///
    /// # Errors
    /// Names the command line, the status and all that was printed.
    pub fn success(self) -> Result<Self> {
        if !self.status.success() {
            bail!("`{}` failed ({})\n{}{}", self.line, self.status, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// Standard output as JSON; an empty output is `null`.
    ///
    /// # Errors
    /// The output is no JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        if self.stdout.trim().is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("`{}` printed no JSON: {}", self.line, self.stdout))
    }
}
