//! What a call, a start and the memory cost with more and more allocations in the journal.
//!
//! Two daemons on nodes of their own: one keeps ten allocations, the other gets more. They are called in turn, so that
//! whatever drifts on the machine hits both.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result};
use spiderpool_lab::{Lab, Namespace, Node, Stopwatch};
use spiderpool_proto::node::Plugin;

use crate::call::Call;
use crate::contender::Sandbox;
use crate::figures::Figures;
use crate::fill::Filler;
use crate::machine::Memory;
use crate::routes::Wired;
use crate::sustained::CALLERS;

/// Names of the two nodes.
pub(crate) const NODES: [&str; 2] = ["few", "many"];
/// Allocations, and what is measured with them.
const LEVELS: [(usize, bool); 5] = [(10, true), (100, false), (1_000, false), (10_000, true), (1_000_000, true)];
/// ADDs in turn at a level, and the DELs that take them back, by each program.
pub(crate) const CALLS: usize = 200;
/// Pods of each daemon that have routes in turn.
pub(crate) const PODS: usize = 10;
/// Above this they are made in bulk: more calls at a time than the daemon takes into one commit.
const MANY: usize = 1_000;
const BULK: usize = 512;
/// A start may take its time: it is measured, not tested.
const PATIENCE: Duration = Duration::from_secs(120);
/// 2,097,152 addresses.
const POOL: &str = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: scale\n\
    spec:\n  ips: [100.64.0.0-100.95.255.255]\n  subnet: 100.64.0.0/10\n";

/// What was found with some number of allocations.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) allocations: usize,
    /// After they were made.
    pub(crate) memory: Memory,
    pub(crate) calls: Option<Calls>,
}

/// The same calls by two daemons in turn.
#[derive(Debug, Default)]
pub(crate) struct Versus {
    pub(crate) few: Figures,
    pub(crate) many: Figures,
}

/// Both verbs of one program.
#[derive(Debug, Default)]
pub(crate) struct Verbs {
    pub(crate) add: Versus,
    pub(crate) del: Versus,
}

/// Calls and a start.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) ipam: Verbs,
    pub(crate) coordinator: Verbs,
    /// From the start of the process, after a SIGKILL, to a socket that answers.
    pub(crate) start: Duration,
    /// After that start.
    pub(crate) memory: Memory,
}

/// All levels.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) levels: Vec<Level>,
    /// Allocations a second while they were made.
    pub(crate) rate: f64,
    pub(crate) complaint: Option<String>,
}

/// A daemon with the namespace that all its attachments are in.
struct Side<'a> {
    node: &'a Node,
    namespace: Namespace,
    config: String,
    pods: Vec<Wired>,
    filled: usize,
}

impl Verbs {
    /// ADD for each of these numbers, by one daemon and the other; then their DELs. `call` is told which daemon.
    ///
    /// # Errors
    /// A program could not be started. The first call that failed goes into `complaint`.
    pub(crate) fn take(
        &mut self,
        numbers: Range<usize>,
        complaint: &mut Option<String>,
        call: impl Fn(usize, &str, usize) -> Call,
    ) -> Result<()> {
        for (verb, versus) in [("ADD", &mut self.add), ("DEL", &mut self.del)] {
            for number in numbers.clone() {
                for turn in 0..2 {
                    let who = (number + turn) % 2;
                    let ended = call(who, verb, number).run()?;
                    if !ended.success {
                        complaint.get_or_insert_with(|| format!("{verb} printed: {}", ended.stdout));
                    }
                    if who == 0 { versus.few.add(&ended) } else { versus.many.add(&ended) }
                }
            }
        }
        Ok(())
    }

    /// How many calls failed.
    pub(crate) fn failures(&self) -> usize {
        [&self.add, &self.del].map(|versus| versus.few.failures() + versus.many.failures()).iter().sum()
    }
}

/// Runs everything on nodes of these names whose daemons do not run yet.
pub(crate) fn run(lab: &Lab) -> Result<Outcome> {
    let [mut few, mut many] = [Side::begin(lab, NODES[0], 107)?, Side::begin(lab, NODES[1], 108)?];
    few.fill(LEVELS[0].0)?;
    let mut outcome = Outcome { levels: Vec::new(), rate: 0.0, complaint: None };
    for (allocations, measured) in LEVELS {
        let (clock, before) = (Stopwatch::start(), many.filled);
        many.fill(allocations)?;
        outcome.rate = (allocations - before) as f64 / clock.elapsed().as_secs_f64();
        let memory = many.memory()?;
        println!("  {allocations} allocations, made at {:.0} a second", outcome.rate);
        let calls = if measured { Some(calls(&few, &many, &mut outcome.complaint)?) } else { None };
        outcome.levels.push(Level { allocations, memory, calls });
    }
    Ok(outcome)
}

fn calls(few: &Side<'_>, many: &Side<'_>, complaint: &mut Option<String>) -> Result<Calls> {
    let sides = [few, many];
    let (mut ipam, mut coordinator) = (Verbs::default(), Verbs::default());
    ipam.take(0..CALLS, complaint, |who, verb, number| sides[who].call(verb, number))?;
    for _ in 0..CALLS / PODS {
        coordinator
            .take(0..PODS, complaint, |who, verb, number| sides[who].pods[number].call(sides[who].node, verb))?;
    }
    let start = many.restart()?;
    Ok(Calls { ipam, coordinator, start, memory: many.memory()? })
}

impl<'a> Side<'a> {
    fn begin(lab: &'a Lab, name: &str, block: u8) -> Result<Self> {
        let node = lab.node(name)?;
        node.standalone().write("scale.yaml", POOL)?;
        node.daemon().start()?;
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "scale", "type": "macvlan",
            "ipam": { "type": "spiderpool", "default_ipv4_ippool": ["scale"] },
        });
        let pods = (0..PODS as u8).map(|number| Wired::build(lab, node, block, number)).collect::<Result<_>>()?;
        Ok(Self { node, namespace: node.sandbox("all")?, config: config.to_string(), pods, filled: 0 })
    }

    fn fill(&mut self, allocations: usize) -> Result<()> {
        let filler = Filler {
            socket: self.node.daemon().socket().to_owned(),
            netns: self.namespace.path().to_owned(),
            config: self.config.clone(),
            plugin: Plugin::Ipam,
        };
        let at_a_time = if allocations > MANY { BULK } else { CALLERS };
        filler.fill(self.filled..allocations, at_a_time).with_context(|| format!("make {allocations} allocations"))?;
        self.filled = allocations;
        Ok(())
    }

    fn call(&self, verb: &str, number: usize) -> Call {
        let sandbox = Sandbox::new(&format!("with-{}-{number}", self.filled), &self.namespace);
        let (path, arguments) = (self.node.cni_path(), sandbox.arguments());
        let program = self.node.cni_bin().join("spiderpool");
        Call::new(&program, verb, &sandbox.environment("net1", &path, &arguments), &self.config)
    }

    fn memory(&self) -> Result<Memory> {
        Memory::of(self.node.daemon().id().context("the daemon does not run")?)
    }

    fn restart(&self) -> Result<Duration> {
        let daemon = self.node.daemon();
        daemon.kill()?;
        let clock = Stopwatch::start();
        daemon.start_within(PATIENCE)?;
        Ok(clock.elapsed())
    }
}
