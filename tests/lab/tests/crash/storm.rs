//! SIGKILL of the daemon under many callers.
//!
//! Every call is recorded with the time it began and the time it was answered. A caller owns an address from the
//! answer of its ADD until it calls DEL. Whatever the daemon did or forgot in between shows in these intervals, in
//! its list of allocations and in the counts of its pool.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Inspect, Lab, Namespace, Node, Shim, Stopwatch, comes_true, example, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const CALLERS: usize = 32;
/// At least; more, until enough ADDs were served to say something: see that addresses went round.
const ROUNDS: u32 = 6;
const SERVED: usize = 10 * CALLERS;
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two kills. Shorter than the time of all ADDs and DELs that are under way at once.
const LIFE: Duration = Duration::from_millis(1100);
const POOL: &str = "storm";
/// Fewer than the callers, so that addresses are given out again all the time and some ADDs must wait.
const ADDRESSES: u128 = 28;
const FLAGS: [&str; 4] = ["--cooldown", "0", "--budget", "2"];

/// An address from the answer of an ADD to the call of its DEL.
#[derive(Clone, Debug)]
struct Interval {
    address: String,
    container: String,
    from: Duration,
    /// None: never deleted.
    to: Option<Duration>,
}

/// What callers and killer have in common.
struct Storm {
    clock: Stopwatch,
    over: AtomicBool,
    /// ADDs.
    served: AtomicUsize,
}

/// What one caller saw.
#[derive(Default)]
struct Diary {
    intervals: Vec<Interval>,
    /// ADDs without an address, each with what was said.
    refused: Vec<String>,
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn pool() -> String {
    format!(
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: {POOL}\n\
         spec:\n  subnet: 10.8.0.0/24\n  ips: [10.8.0.10-10.8.0.{}]\n",
        9 + ADDRESSES
    )
}

/// How long a caller keeps an address: most for a moment, some over a kill or two.
fn hold(caller: u64, turn: u64) -> Duration {
    let milliseconds =
        if caller.is_multiple_of(4) { 700 + (caller * 71 + turn * 130) % 900 } else { (caller * 7 + turn * 13) % 50 };
    Duration::from_millis(milliseconds)
}

/// ADD, hold for a moment, DEL, again and again; every third container's name is used twice. The last address is kept.
fn call_until(storm: &Storm, node: &Node, caller: usize, sandbox: &Namespace) -> Result<Diary> {
    let Storm { clock, over, served } = storm;
    let mut diary = Diary::default();
    for turn in 0.. {
        let container = format!("c{caller:02}-{}", if turn % 3 == 0 { turn } else { turn - turn % 3 + 1 });
        let shim = shim(node, &container, sandbox);
        let answer = shim.call("ADD", config())?;
        let from = clock.elapsed();
        if answer.is_success() {
            let result = answer.result()?;
            let address = result["ips"][0]["address"].as_str().context("no address")?.to_owned();
            let last = over.load(Ordering::Relaxed);
            served.fetch_add(1, Ordering::Relaxed);
            if !last {
                thread::sleep(hold(caller as u64, turn));
            }
            let to = (!last).then(|| clock.elapsed());
            diary.intervals.push(Interval { address, container, from, to });
            if last {
                return Ok(diary);
            }
        } else {
            // Used out for the moment, or the daemon was away for too long; never anything else.
            let error = answer.error(11, &[])?;
            diary.refused.push(error["msg"].as_str().unwrap_or_default().to_owned());
            if over.load(Ordering::Relaxed) {
                shim.call("DEL", config())?.silent()?;
                return Ok(diary);
            }
        }
        shim.call("DEL", config())?.silent()?;
    }
    Ok(diary)
}

/// Rule: One holder. No address was two callers' at one time.
fn never_given_twice(intervals: &[Interval]) -> Result<()> {
    let mut by_address: BTreeMap<&str, Vec<&Interval>> = BTreeMap::new();
    for interval in intervals {
        by_address.entry(&interval.address).or_default().push(interval);
    }
    for (address, mut owners) in by_address {
        owners.sort_by_key(|interval| interval.from);
        for pair in owners.windows(2) {
            ensure!(pair[0].to.is_some_and(|to| to <= pair[1].from), "{address} was given twice: {pair:?}");
        }
    }
    Ok(())
}

/// Rule: Durable first. What was acknowledged and not deleted is listed with its address, and nothing else is.
fn nothing_lost(inspect: &Inspect, intervals: &[Interval]) -> Result<()> {
    let text = |held: &Value, field: &str| held[field].as_str().unwrap_or_default().to_owned();
    let listed: BTreeSet<_> =
        inspect.allocations()?.iter().map(|held| (text(held, "containerId"), text(held, "ipv4"))).collect();
    let kept = intervals.iter().filter(|interval| interval.to.is_none());
    let kept: BTreeSet<_> = kept.map(|interval| (interval.container.clone(), interval.address.clone())).collect();
    let lost: Vec<_> = kept.difference(&listed).collect();
    let leaked: Vec<_> = listed.difference(&kept).collect();
    ensure!(lost.is_empty() && leaked.is_empty(), "lost: {lost:?}\nnever acknowledged, or deleted: {leaked:?}");
    Ok(())
}

/// Rule: Live means held, to its end: whatever was let go can be given out again.
fn nothing_leaked(inspect: &Inspect) -> Result<()> {
    wait_for("all addresses to be free", Duration::from_secs(10), || {
        let counts = inspect.counts(POOL)?;
        ensure!(counts.total == ADDRESSES, "{counts:?}");
        ensure!(
            counts.total == counts.in_use + counts.dying + counts.cooling + counts.quarantined + counts.free,
            "{counts:?}"
        );
        Ok((counts.in_use == 0 && counts.dying == 0).then_some(()))
    })
    .with_context(|| format!("{:?}", inspect.counts(POOL)))
}

/// The callers while the daemon is killed and started.
fn storm(lab: &Lab, node: &Node, sandboxes: &[Namespace]) -> Result<Vec<Diary>> {
    let storm = Storm { clock: Stopwatch::start(), over: AtomicBool::new(false), served: AtomicUsize::new(0) };
    let mut rounds = (0..).take_while(|round| {
        let is_enough = *round >= ROUNDS && storm.served.load(Ordering::Relaxed) > SERVED;
        !is_enough && storm.clock.elapsed() < PATIENCE
    });
    thread::scope(|scope| {
        let callers: Vec<_> = sandboxes
            .iter()
            .enumerate()
            .map(|(caller, sandbox)| {
                let storm = &storm;
                scope.spawn(move || call_until(storm, node, caller, sandbox))
            })
            .collect();
        let killed = rounds.try_for_each(|round| -> Result<()> {
            thread::sleep(LIFE);
            node.daemon().kill()?;
            // Sometimes at once, sometimes so late that DELs leave tombstones.
            thread::sleep(Duration::from_millis(u64::from(round % ROUNDS) * 60));
            node.daemon().start_with(&FLAGS)?;
            // What it says of itself adds up at any moment.
            let counts = lab.inspect(node).counts(POOL)?;
            ensure!(counts.total == ADDRESSES, "round {round}: {counts:?}");
            Ok(())
        });
        // The last two by which the callers end: alive, then gone for good.
        storm.over.store(true, Ordering::Relaxed);
        let diaries = callers.into_iter().map(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?);
        let diaries = diaries.collect::<Result<Vec<_>>>();
        killed.and(diaries)
    })
}

#[test]
fn nothing_is_lost_given_twice_or_leaked_when_the_daemon_is_killed() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write("storm.yaml", &pool())?;
    node.daemon().start_with(&FLAGS)?;
    let sandboxes = (0..CALLERS).map(|index| node.sandbox(&format!("s{index}"))).collect::<Result<Vec<_>>>()?;
    let diaries = storm(&lab, node, &sandboxes).with_context(|| log_end(node))?;

    let intervals: Vec<_> = diaries.iter().flat_map(|diary| diary.intervals.clone()).collect();
    let refused: BTreeSet<_> = diaries.iter().flat_map(|diary| diary.refused.clone()).collect();
    ensure!(intervals.len() > SERVED, "only {} ADDs were served; refused: {refused:?}", intervals.len());
    never_given_twice(&intervals)?;
    let inspect = lab.inspect(node);
    // The last DEL may wait as a tombstone.
    comes_true(Duration::from_secs(20), || nothing_lost(&inspect, &intervals))?;
    // What a kill leaves is the same.
    node.daemon().kill()?;
    node.daemon().start_with(&FLAGS)?;
    nothing_lost(&inspect, &intervals)?;
    for interval in intervals.iter().filter(|interval| interval.to.is_none()) {
        let sandbox =
            sandboxes.iter().zip(0..).find(|(_, caller)| interval.container.starts_with(&format!("c{caller:02}-")));
        let Some((sandbox, _)) = sandbox else { bail!("whose is {interval:?}?") };
        // A retry is answered with what is held.
        let again = shim(node, &interval.container, sandbox).call("ADD", config())?.result()?;
        ensure!(again["ips"][0]["address"] == interval.address, "{again} {interval:?}");
        shim(node, &interval.container, sandbox).call("DEL", config())?.silent()?;
    }
    nothing_leaked(&inspect)
}

/// Rule: DEL always ends. Sandboxes end while the daemon is killed: DELs by tombstone and deaths without any.
#[test]
fn nothing_is_leaked_when_sandboxes_end_while_the_daemon_is_away() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write("storm.yaml", &pool())?;
    let inspect = lab.inspect(node);
    let mut kept = Vec::new();
    for round in 0..4 {
        node.daemon().start_with(&FLAGS)?;
        nothing_leaked(&inspect).with_context(|| format!("round {round}"))?;
        let sandboxes = (0..12).map(|index| node.sandbox(&format!("r{round}-{index}"))).collect::<Result<Vec<_>>>()?;
        for (index, sandbox) in sandboxes.iter().enumerate() {
            let answer = shim(node, &format!("r{round}-{index}"), sandbox).call("ADD", config())?.result()?;
            let address = answer["ips"][0]["address"].as_str().context("no address")?;
            sandbox.ip(&["addr", "add", address, "dev", "lo"])?;
        }
        node.daemon().kill()?;
        for (index, sandbox) in sandboxes.into_iter().enumerate() {
            if index % 3 != 0 {
                shim(node, &format!("r{round}-{index}"), &sandbox).call("DEL", config())?.silent()?;
            }
            if index % 3 == 1 {
                // Deleted, and the namespace stays: the address goes, as macvlan's link would.
                sandbox.ip(&["addr", "flush", "dev", "lo"])?;
                kept.push(sandbox);
            }
        }
    }
    node.daemon().start_with(&FLAGS)?;
    nothing_leaked(&inspect).with_context(|| log_end(node))
}

fn log_end(node: &Node) -> String {
    let log = node.daemon().log().unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
