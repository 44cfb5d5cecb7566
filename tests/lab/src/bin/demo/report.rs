//! What the demo says.

use anyhow::{Result, bail};
use spiderpool_lab::{Finished, Namespace, Program, Stopwatch};
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Prints steps, commands with their output, and checks.
pub(crate) struct Report {
    started: Stopwatch,
    colour: bool,
    steps: u32,
    /// What is being done, for an error.
    title: String,
    checks: u32,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            started: Stopwatch::start(),
            colour: io::stdout().is_terminal(),
            steps: 0,
            title: "setting up".to_owned(),
            checks: 0,
        }
    }

    /// Something that takes a moment: says what before and how long after.
    pub(crate) fn progress<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        print!("  {what} ... ");
        // Seen at once, also without a line's end.
        io::stdout().flush()?;
        let stopwatch = Stopwatch::start();
        let outcome = work();
        let verdict = if outcome.is_ok() { "done" } else { "failed" };
        println!("{verdict} after {:.1} s", stopwatch.elapsed().as_secs_f64());
        outcome
    }

    /// Begins a step, with a line on what is seen next and why.
    pub(crate) fn step(&mut self, title: &str, why: &str) {
        self.steps += 1;
        self.title = format!("step {}, {title}", self.steps);
        println!("\n{}", self.paint(BOLD, &format!("{}. {title}", self.steps)));
        println!("{}", self.paint(DIM, &format!("   {why}")));
    }

    /// Runs a program, shows its command line and its output.
    pub(crate) fn run(&self, place: &str, namespace: &Namespace, program: &Program) -> Result<Finished> {
        self.command(place, program);
        let finished = namespace.run(program)?;
        for line in finished.stdout.lines().chain(finished.stderr.lines()) {
            println!("{line}");
        }
        Ok(finished)
    }

    /// Shows a command line alone.
    pub(crate) fn command(&self, place: &str, line: &impl Display) {
        println!("{} {}", self.paint(CYAN, &format!("{place} #")), self.paint(BOLD, &line.to_string()));
    }

    /// Prints text as it is.
    pub(crate) fn text(&self, text: &str) {
        println!("{text}");
    }

    /// States a fact that must hold; `found` says what was seen instead.
    pub(crate) fn check(&mut self, fact: &str, holds: bool, found: impl FnOnce() -> String) -> Result<()> {
        if !holds {
            bail!("not so: {fact}. Found:\n{}", found());
        }
        self.checks += 1;
        println!("   {} {fact}", self.paint(GREEN, "ok"));
        Ok(())
    }

    /// The last line, of a demo that failed. Not the error's Debug: a backtrace tells nothing about a route.
    pub(crate) fn fail(&self, error: &anyhow::Error) {
        eprintln!("\nFAILED in {}: {error:#}", self.title);
    }

    /// The last line.
    pub(crate) fn conclude(&self) {
        let line = format!(
            "All {} checks of {} steps hold. The demo took {:.1} s.",
            self.checks,
            self.steps,
            self.started.elapsed().as_secs_f64()
        );
        println!("\n{}", self.paint(GREEN, &line));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
