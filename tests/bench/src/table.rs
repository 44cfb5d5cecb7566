//! The one table that the bench prints.

use std::fmt::Write as _;
use std::time::Duration;

use crate::contest::{Outcome, Pair};
use crate::figures::Figures;
use crate::instructions::Count;
use crate::machine::Memory;
use crate::plans;
use crate::routes;
use crate::scale::{self, Level, Verbs, Versus};
use crate::sustained::{Churn, SECONDS};

/// The most that a sequential ADD may take, as a part of host-local's median.
const TARGET_RATIO: f64 = 0.45;
/// The most that 200 ADDs at once may take.
const TARGET_TOTAL: Duration = Duration::from_millis(400);
/// The most that an ADD of the coordinator may take.
const TARGET_ROUTES: Duration = Duration::from_millis(5);
/// The most that a call may take with many allocations, as a part of what it takes with ten.
const TARGET_FLAT: f64 = 1.3;
/// Until a daemon with 10,000 allocations serves.
const TARGET_START: Duration = Duration::from_secs(1);
/// Bytes resident with 1,000 allocations.
const TARGET_MEMORY: u64 = 25 << 20;
/// Bytes that a shim may have.
const TARGET_SHIM: u64 = 2_500_000;

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) machine: String,
    pub(crate) contest: Outcome,
    pub(crate) routes: routes::Outcome,
    pub(crate) instructions: Vec<Count>,
    pub(crate) scale: scale::Outcome,
    pub(crate) plans: plans::Outcome,
    /// Names of the programs with their sizes in bytes; the daemon is the last.
    pub(crate) sizes: Vec<(&'static str, u64)>,
}

impl Findings {
    /// How many calls failed.
    pub(crate) fn failures(&self) -> usize {
        let Outcome { version, add, del, add_at_once, del_at_once, .. } = &self.contest;
        let pairs =
            [version, add, del, add_at_once, del_at_once].map(|pair| pair.ours.failures() + pair.theirs.failures());
        let levels = self.scale.levels.iter().filter_map(|level| level.calls.as_ref());
        pairs.iter().sum::<usize>()
            + self.contest.churn.iter().chain([&self.routes.churn]).map(Churn::failures).sum::<usize>()
            + levels.map(|calls| calls.ipam.failures() + calls.coordinator.failures()).sum::<usize>()
            + self.plans.levels.iter().map(|(_, verbs)| verbs.failures()).sum::<usize>()
            + self.routes.add.failures()
            + self.routes.del.failures()
            + self.routes.add_at_once.failures()
            + self.routes.del_at_once.failures()
    }

    /// The table, with what it was taken on above and what it means below.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("\n{}\n\n", self.machine);
        self.calls(&mut text);
        scaled(&mut text, &self.scale);
        beside(&mut text, &self.scale, &self.plans);
        self.programs(&mut text);
        text += &format!(
            "\nA call is timed from spawn to exit, input and output included; the two programs take turns.\n\
             \"At once\" are {} rounds; total is the median round, from the first spawn to the last exit.\n\
             Ours answers when its record is durable (fdatasync); host-local writes files and does not sync them.\n\
             The coordinator has no peer: its ratio is to host-local's call of the same verb.\n\
             With allocations: they were made by 32 callers at a time, those above 1,000 by 512 ({:.0} a second); start is\n\
             from a SIGKILL until it serves. {} calls of each kind in turn by two daemons, one of which has ten allocations,\n\
             or no plans but those of the {} Pods that are called; the ratio is to that one.\n",
            crate::contest::ROUNDS,
            self.scale.rate,
            scale::CALLS,
            scale::PODS
        );
        text
    }

    fn calls(&self, text: &mut String) {
        let Outcome { version, add, del, add_held, add_at_once, del_at_once, churn: [ours, theirs], .. } =
            &self.contest;
        let coordinator = &self.routes;
        *text += &format!("{:35}{:^25}  {:^25}  {:>6}\n", "", "ours", "host-local", "ratio");
        *text += &format!(
            "{:29}{:>6}{:>8}{:>8}{:>9}  {:>8}{:>8}{:>9}  {:>6}{:>8}  {}\n",
            "milliseconds", "calls", "p50", "p99", "total", "p50", "p99", "total", "of p50", "failed", "target"
        );
        let ratio = ratio(&add.ours, &add.theirs);
        let total = add_at_once.ours.total();
        row(text, "process alone (VERSION)", version, "");
        row(text, "ADD, one after another", add, &target("ratio", TARGET_RATIO, ratio <= TARGET_RATIO));
        row(text, "  the same with 250 held", add_held, "");
        row(text, "DEL, one after another", del, "");
        let at_once = target("total", format!("{} ms", TARGET_TOTAL.as_millis()), total <= TARGET_TOTAL);
        row(text, "ADD, 200 at once", add_at_once, &at_once);
        row(text, "DEL, 200 at once", del_at_once, "");
        sustained(text, "ADD, 32 callers for 30 s", &ours.add, Some(&theirs.add), &theirs.add);
        sustained(text, "DEL, 32 callers for 30 s", &ours.del, Some(&theirs.del), &theirs.del);
        let p50 = coordinator.add.p50();
        let quick = target("p50", format!("{} ms", TARGET_ROUTES.as_millis()), p50 <= TARGET_ROUTES);
        alone(text, "coordinator ADD", &coordinator.add, &add.theirs, &quick);
        alone(text, "coordinator DEL", &coordinator.del, &del.theirs, "");
        alone(text, "coordinator ADD, 200 at once", &coordinator.add_at_once, &add_at_once.theirs, "");
        alone(text, "coordinator DEL, 200 at once", &coordinator.del_at_once, &del_at_once.theirs, "");
        sustained(text, "coordinator ADD, 32, 30 s", &coordinator.churn.add, None, &theirs.add);
        sustained(text, "coordinator DEL, 32, 30 s", &coordinator.churn.del, None, &theirs.del);
        *text += &format!(
            "calls a second by 32 callers: {:.0} by ours, {:.0} by host-local, {:.0} by coordinator\n",
            ours.rate(),
            theirs.rate(),
            coordinator.churn.rate()
        );
    }

    fn programs(&self, text: &mut String) {
        *text += &format!("\n{:29}{:>14}{:>14}\n", "daemon's memory, MB", "VmRSS", "VmHWM");
        memory(text, "idle", self.contest.idle);
        memory(text, "with 250 allocations", self.contest.loaded);
        *text += &format!("\n{:29}{:>14}{:>14}\n", "instructions of a call", "least", "most");
        for Count { name, least, most } in self.instructions.iter().chain(&self.routes.instructions) {
            *text += &format!("{name:29}{least:>14}{most:>14}\n");
        }
        *text += &format!("\n{:29}{:>14}\n", "programs, MB", "size");
        for (name, bytes) in &self.sizes {
            let shim = *name != "spiderpool-agent";
            let met = if shim { target("size", "2.50 MB", *bytes <= TARGET_SHIM) } else { String::new() };
            *text += format!("{name:29}{:>14.2}{:19}{met}", megabytes(*bytes), "").trim_end();
            text.push('\n');
        }
    }
}

fn row(text: &mut String, name: &str, pair: &Pair, target: &str) {
    let Pair { ours, theirs } = pair;
    let ratio = ratio(ours, theirs);
    let failed = ours.failures() + theirs.failures();
    let line = format!(
        "{name:29}{:>6}{}  {}  {ratio:>6.2}{failed:>8}  {target}",
        ours.count(),
        figures(ours),
        figures(theirs)
    );
    // A String takes whatever is written.
    let _ = writeln!(text, "{}", line.trim_end());
}

fn alone(text: &mut String, name: &str, ours: &Figures, theirs: &Figures, target: &str) {
    let (ratio, failed) = (ratio(ours, theirs), ours.failures());
    let line = format!("{name:29}{:>6}{}  {:25}  {ratio:>6.2}{failed:>8}  {target}", ours.count(), figures(ours), "");
    let _ = writeln!(text, "{}", line.trim_end());
}

/// Calls by many for a time, which is their total.
fn sustained(text: &mut String, name: &str, ours: &Figures, theirs: Option<&Figures>, beside: &Figures) {
    let total = (SECONDS * 1_000) as f64;
    let side = |figures: &Figures| {
        let [p50, p99] = [figures.p50(), figures.p99()].map(milliseconds);
        format!("{p50:>8.2}{p99:>8.2}{total:>9.1}")
    };
    let failed = ours.failures() + theirs.map_or(0, Figures::failures);
    let (peer, ratio) = (theirs.map(side).unwrap_or_default(), ratio(ours, beside));
    let _ = writeln!(text, "{name:29}{:>6}{}  {peer:25}  {ratio:>6.2}{failed:>8}", ours.count(), side(ours));
}

/// A start and the memory with each number of allocations.
fn scaled(text: &mut String, scale: &scale::Outcome) {
    *text += &format!("\n{:>14}{:>12}{:>12}{:>14}\n", "allocations", "start, ms", "VmRSS, MB", "after start");
    for Level { allocations, memory, calls } in &scale.levels {
        let resident = megabytes(memory.resident);
        let mut line = format!("{allocations:>14}");
        line += &match calls {
            None => format!("{:12}{resident:>12.1}", ""),
            Some(calls) => {
                let (start, after) = (milliseconds(calls.start), megabytes(calls.memory.resident));
                format!("{start:>12.1}{resident:>12.1}{after:>14.1}")
            }
        };
        let aim = match (*allocations, calls) {
            (1_000, _) => target("VmRSS", "25 MiB", memory.resident <= TARGET_MEMORY),
            (10_000, Some(calls)) => target("start", "1000 ms", calls.start <= TARGET_START),
            _ => String::new(),
        };
        let _ = writeln!(text, "{}", format!("{line:80}  {aim}").trim_end());
    }
}

/// Calls with each number of allocations, and of plans.
fn beside(text: &mut String, scale: &scale::Outcome, plans: &plans::Outcome) {
    let head = ["p50", "p99", "p50", "p99"].map(|name| format!("{name:>10}")).concat();
    *text += &format!("\n{:>14}{:19}{:^20}{:^20}\n", "", "", "with them", "beside");
    *text += &format!("{:>14}  {:17}{head}{:>8}\n", "allocations", "milliseconds", "ratio");
    for Level { allocations, calls, .. } in &scale.levels {
        let Some(calls) = calls else { continue };
        verbs(text, *allocations, "", &calls.ipam, true);
        verbs(text, *allocations, "coordinator ", &calls.coordinator, true);
    }
    *text += &format!("{:>14}\n", "plans");
    for (count, of_them) in &plans.levels {
        verbs(text, *count, "coordinator ", of_them, false);
    }
}

fn verbs(text: &mut String, count: usize, program: &str, verbs: &Verbs, flat: bool) {
    for (verb, Versus { few, many }) in [("ADD", &verbs.add), ("DEL", &verbs.del)] {
        let name = format!("{program}{verb}");
        let times = [many.p50(), many.p99(), few.p50(), few.p99()].map(milliseconds);
        let times = times.map(|time| format!("{time:>10.2}")).concat();
        let ratio = ratio(many, few);
        let aim = if flat { target("ratio", TARGET_FLAT, ratio <= TARGET_FLAT) } else { String::new() };
        let line = format!("{count:>14}  {name:17}{times}{ratio:>8.2}");
        let _ = writeln!(text, "{}", format!("{line:80}  {aim}").trim_end());
    }
}

fn memory(text: &mut String, name: &str, memory: Memory) {
    let (resident, highest) = (megabytes(memory.resident), megabytes(memory.highest));
    let _ = writeln!(text, "{name:29}{resident:>14.1}{highest:>14.1}");
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
