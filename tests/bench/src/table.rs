//! The one table that the bench prints.

use std::fmt::Write as _;
use std::time::Duration;

use crate::contest::{Outcome, Pair};
use crate::figures::Figures;
use crate::machine::Memory;
use crate::routes;

/// The most that a sequential ADD may take, as a part of host-local's median.
const TARGET_RATIO: f64 = 0.45;
/// The most that 200 ADDs at once may take.
const TARGET_TOTAL: Duration = Duration::from_millis(400);
/// Bytes that a shim may have.
const TARGET_SHIM: u64 = 2_500_000;

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) machine: String,
    pub(crate) contest: Outcome,
    pub(crate) routes: routes::Outcome,
    /// Names of the programs with their sizes in bytes; the daemon is the last.
    pub(crate) sizes: Vec<(&'static str, u64)>,
}

impl Findings {
    /// How many calls failed.
    pub(crate) fn failures(&self) -> usize {
        let Outcome { version, add, del, add_at_once, del_at_once, .. } = &self.contest;
        let pairs =
            [version, add, del, add_at_once, del_at_once].map(|pair| pair.ours.failures() + pair.theirs.failures());
        pairs.iter().sum::<usize>() + self.routes.add.failures() + self.routes.del.failures()
    }

    /// The table, with what it was taken on above and what it means below.
    pub(crate) fn render(&self) -> String {
        let Outcome { version, add, del, add_held, add_at_once, del_at_once, idle, loaded, .. } = &self.contest;
        let rounds = crate::contest::ROUNDS;
        let mut text = format!("\n{}\n\n", self.machine);
        text += &format!("{:33}{:^25}  {:^25}  {:>6}\n", "", "ours", "host-local", "ratio");
        text += &format!(
            "{:27}{:>6}{:>8}{:>8}{:>9}  {:>8}{:>8}{:>9}  {:>6}{:>8}  {}\n",
            "milliseconds", "calls", "p50", "p99", "total", "p50", "p99", "total", "of p50", "failed", "target"
        );
        let ratio = ratio(&add.ours, &add.theirs);
        let total = add_at_once.ours.total();
        row(&mut text, "process alone (VERSION)", version, "");
        row(&mut text, "ADD, one after another", add, &target("ratio", TARGET_RATIO, ratio <= TARGET_RATIO));
        row(&mut text, "  the same with 250 held", add_held, "");
        row(&mut text, "DEL, one after another", del, "");
        let at_once = target("total", format!("{} ms", TARGET_TOTAL.as_millis()), total <= TARGET_TOTAL);
        row(&mut text, "ADD, 200 at once", add_at_once, &at_once);
        row(&mut text, "DEL, 200 at once", del_at_once, "");
        alone(&mut text, "coordinator ADD", &self.routes.add, &add.theirs);
        alone(&mut text, "coordinator DEL", &self.routes.del, &del.theirs);
        text += &format!("\n{:27}{:>14}{:>14}\n", "daemon's memory, MB", "VmRSS", "VmHWM");
        memory(&mut text, "idle", *idle);
        memory(&mut text, "with 250 allocations", *loaded);
        text += &format!("\n{:27}{:>14}\n", "programs, MB", "size");
        for (name, bytes) in &self.sizes {
            let shim = *name != "spiderpool-agent";
            let met = if shim { target("size", "2.50 MB", *bytes <= TARGET_SHIM) } else { String::new() };
            text += format!("{name:27}{:>14.2}{:19}{met}", megabytes(*bytes), "").trim_end();
            text.push('\n');
        }
        text += &format!(
            "\nA call is timed from spawn to exit, input and output included; the two programs take turns.\n\
             \"At once\" are {rounds} rounds; total is the median round, from the first spawn to the last exit.\n\
             Ours answers when its record is durable (fdatasync); host-local writes files and does not sync them.\n\
             The coordinator has no peer: its ratio is to host-local's call of the same verb.\n"
        );
        text
    }
}

fn row(text: &mut String, name: &str, pair: &Pair, target: &str) {
    let Pair { ours, theirs } = pair;
    let ratio = ratio(ours, theirs);
    let failed = ours.failures() + theirs.failures();
    let line = format!(
        "{name:27}{:>6}{}  {}  {ratio:>6.2}{failed:>8}  {target}",
        ours.count(),
        figures(ours),
        figures(theirs)
    );
    // A String takes whatever is written.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn alone(text: &mut String, name: &str, ours: &Figures, theirs: &Figures) {
    let (ratio, failed) = (ratio(ours, theirs), ours.failures());
    let _ = writeln!(text, "{name:27}{:>6}{}  {:25}  {ratio:>6.2}{failed:>8}", ours.count(), figures(ours), "");
}

fn memory(text: &mut String, name: &str, memory: Memory) {
    let (resident, highest) = (megabytes(memory.resident), megabytes(memory.highest));
    let _ = writeln!(text, "{name:27}{resident:>14.1}{highest:>14.1}");
}

fn figures(figures: &Figures) -> String {
    let [p50, p99, total] = [figures.p50(), figures.p99(), figures.total()].map(milliseconds);
    format!("{p50:>8.2}{p99:>8.2}{total:>9.1}")
}

fn target(what: &str, bound: impl std::fmt::Display, met: bool) -> String {
    format!("{what} <= {bound}: {}", if met { "met" } else { "NOT MET" })
}

fn ratio(ours: &Figures, theirs: &Figures) -> f64 {
    ours.p50().as_secs_f64() / theirs.p50().as_secs_f64()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
