//! Waiting with an end.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Measures how long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    #[allow(clippy::disallowed_methods, reason = "the lab runs in real time; nobody simulates it")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A moment after which nobody waits any more.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    started: Stopwatch,
    budget: Duration,
}

impl Deadline {
    /// The moment `budget` from now.
    pub fn after(budget: Duration) -> Self {
        Self { started: Stopwatch::start(), budget }
    }

    /// What is left, zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.budget.saturating_sub(self.started.elapsed())
    }

    /// Whether nothing is left.
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

/// Holds something to be so, now or within `budget`.
///
/// # Errors
/// The last of what `check` found wrong.
pub fn comes_true(budget: Duration, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let mut latest = Ok(());
    let came = wait_for("it to come true", budget, || {
        latest = check();
        Ok(latest.is_ok().then_some(()))
    });
    came.or(latest)
}

/// Asks `probe` every few milliseconds until it yields something.
///
/// # Errors
/// The probe's own error at once; or, after `budget`, one that names `what` was waited for.
pub fn wait_for<T>(what: &str, budget: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Deadline::after(budget);
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if deadline.passed() {
            bail!("waited {:.1} s for {what}, in vain", budget.as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
