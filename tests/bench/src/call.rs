//! One CNI call as a process: from its spawn to its end, standard input and output included.
//!
//! The harness does the same for every program, and little: environment, input and pipes are ready before the clock
//! starts, and calls that run at once are started by one thread and collected by another that only polls.

use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use spiderpool_lab::Stopwatch;

/// A program with the environment and the standard input of one CNI call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) config: String,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) took: Duration,
    pub(crate) success: bool,
    pub(crate) stdout: String,
}

/// Calls that were started together.
#[derive(Debug)]
pub(crate) struct Burst {
    /// From the first spawn to the last end.
    pub(crate) total: Duration,
    /// In the order of the calls.
    pub(crate) ended: Vec<Ended>,
}

/// A call with its pipes, about to be started.
struct Ready<'a> {
    command: Command,
    config: &'a [u8],
}

impl Call {
    /// The environment of the CNI specification, section 2.
    pub(crate) fn new(program: &Path, verb: &str, environment: &[(&'static str, &str)], config: &str) -> Self {
        let command = [("CNI_COMMAND", verb)];
        let pairs = command.iter().chain(environment).map(|(name, value)| (*name, (*value).to_owned()));
        Self { program: program.to_owned(), environment: pairs.collect(), config: config.to_owned() }
    }

    /// Runs the call to its end: the process has been waited for.
    ///
    /// # Errors
    /// The program could not be started. A call that fails is not an error here.
    pub(crate) fn run(&self) -> Result<Ended> {
        let (mut ready, mut stdout) = self.prepare()?;
        let mut text = Vec::with_capacity(4096);
        let clock = Stopwatch::start();
        let mut child = ready.start()?;
        drop(ready);
        stdout.read_to_end(&mut text).context("read standard output")?;
        let status = child.wait().context("wait for a program")?;
        let took = clock.elapsed();
        Ok(Ended { took, success: status.success(), stdout: String::from_utf8_lossy(&text).into_owned() })
    }

    fn prepare(&self) -> Result<(Ready<'_>, PipeReader)> {
        let (stdout, end) = pipe().context("make a pipe")?;
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Errors of CNI come on standard output; what else a program may say is for whoever looks on.
        command.stdin(Stdio::piped()).stdout(end).stderr(Stdio::inherit());
        Ok((Ready { command, config: self.config.as_bytes() }, stdout))
    }
}

impl Ready<'_> {
    /// Starts the program and gives it its input, which fits into a pipe.
    fn start(&mut self) -> Result<Child> {
        let mut child = self.command.spawn().with_context(|| format!("start {:?}", self.command.get_program()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading says why on its standard output.
            drop(stdin.write_all(self.config));
        }
        Ok(child)
    }
}

/// Starts all calls as fast as one thread can. A call has ended when its standard output is closed, which the kernel
/// does while the process exits.
///
/// # Errors
/// A program could not be started. A call that fails is not an error here.
pub(crate) fn at_once(calls: &[Call]) -> Result<Burst> {
    let (ready, stdouts): (Vec<_>, Vec<_>) =
        calls.iter().map(Call::prepare).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let clock = Stopwatch::start();
    let (starts, finished) = thread::scope(|scope| {
        let collector = scope.spawn(|| collect(stdouts, clock));
        let starts: Result<Vec<(Duration, Child)>> = ready
            .into_iter()
            .map(|mut one| {
                let begun = clock.elapsed();
                Ok((begun, one.start()?))
            })
            .collect();
        let finished = collector.join().map_err(|_| anyhow!("the collector panicked"))?;
        anyhow::Ok((starts?, finished?))
    })?;
    let total = finished.iter().map(|(end, _)| *end).max().unwrap_or_default();
    let ended = starts.into_iter().zip(finished).map(|((begun, mut child), (end, text))| {
        let success = child.wait().context("wait for a program")?.success();
        Ok(Ended { took: end.saturating_sub(begun), success, stdout: String::from_utf8_lossy(&text).into_owned() })
    });
    Ok(Burst { total, ended: ended.collect::<Result<_>>()? })
}

/// Reads each pipe to its end; returns when that came, and the text.
fn collect(mut pipes: Vec<PipeReader>, clock: Stopwatch) -> Result<Vec<(Duration, Vec<u8>)>> {
    let mut texts: Vec<(Duration, Vec<u8>)> = pipes.iter().map(|_| Default::default()).collect();
    let mut open: Vec<usize> = (0..pipes.len()).collect();
    let mut chunk = [0; 4096];
    while !open.is_empty() {
        let mut polled: Vec<_> =
            open.iter().map(|index| PollFd::new(pipes[*index].as_fd(), PollFlags::POLLIN)).collect();
        poll(&mut polled, PollTimeout::NONE).context("poll standard outputs")?;
        let has_news: Vec<bool> = polled.iter().map(|one| one.any().unwrap_or(true)).collect();
        let now = clock.elapsed();
        let mut news = has_news.into_iter();
        let mut failed = None;
        open.retain(|index| {
            if news.next() == Some(false) {
                return true;
            }
            match pipes[*index].read(&mut chunk) {
                Ok(0) => texts[*index].0 = now,
                Ok(length) => texts[*index].1.extend_from_slice(&chunk[..length]),
                Err(error) => failed = Some(error),
            }
            texts[*index].0.is_zero()
        });
        if let Some(error) = failed {
            return Err(error).context("read standard output");
        }
    }
    Ok(texts)
}
