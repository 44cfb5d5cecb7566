//! Both IPAM programs, call by call in turn, so that whatever drifts on the machine hits both.

use anyhow::{Context, Result, bail};
use spiderpool_lab::Lab;
use std::collections::HashSet;

use crate::call::{Call, Ended, at_once};
use crate::contender::{Contender, Sandbox};
use crate::figures::Figures;
use crate::machine::Memory;
use crate::sustained::{self, Churn, address};

/// Calls after each other.
pub(crate) const SEQUENTIAL: usize = 50;
/// Calls at once.
pub(crate) const AT_ONCE: usize = 200;
/// Pairs of bursts.
pub(crate) const ROUNDS: usize = 5;
/// Calls before the first one that counts.
const WARM_UP: usize = 10;

/// The same kind of call by both.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) ours: Figures,
    pub(crate) theirs: Figures,
}

/// What the contest found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) version: Pair,
    pub(crate) add: Pair,
    pub(crate) del: Pair,
    /// ADD while `AT_ONCE` + `SEQUENTIAL` addresses are held.
    pub(crate) add_held: Pair,
    pub(crate) add_at_once: Pair,
    pub(crate) del_at_once: Pair,
    /// Ours and theirs.
    pub(crate) churn: [Churn; 2],
    pub(crate) idle: Memory,
    pub(crate) loaded: Memory,
    /// The first thing that went wrong.
    pub(crate) complaint: Option<String>,
}

/// The two programs and the sandboxes they serve.
struct Contest {
    contenders: [Contender; 2],
    complaint: Option<String>,
}

/// Runs everything on a node whose daemon serves.
pub(crate) fn run(lab: &Lab) -> Result<Outcome> {
    let node = lab.nodes().first().context("the lab has no node")?;
    let process = node.daemon().id().context("the daemon does not run")?;
    let namespaces = (0..SEQUENTIAL + AT_ONCE)
        .map(|number| node.sandbox(&format!("sandbox-{number}")))
        .collect::<Result<Vec<_>>>()?;
    let fresh = |round: &str, count: usize| -> Vec<Sandbox> {
        let pods = namespaces.iter().take(count).enumerate();
        pods.map(|(number, namespace)| Sandbox::new(&format!("{round}-{number}"), namespace)).collect()
    };
    let data = lab.folder().join("host-local");
    let contenders = [Contender::spiderpool(node), Contender::host_local(node, &data)];
    let mut contest = Contest { contenders, complaint: None };

    let (mut version, mut add, mut del) = Default::default();
    let idle = Memory::of(process)?;
    let warm_up = fresh("warm-up", WARM_UP);
    let mut uncounted = Pair::default();
    contest.in_turn("VERSION", &warm_up, &mut uncounted)?;
    contest.in_turn("ADD", &warm_up, &mut uncounted)?;
    contest.in_turn("DEL", &warm_up, &mut uncounted)?;

    let one_by_one = fresh("one-by-one", SEQUENTIAL);
    contest.in_turn("VERSION", &one_by_one, &mut version)?;
    contest.in_turn("ADD", &one_by_one, &mut add)?;
    let (mut add_at_once, mut del_at_once, mut add_held) = Default::default();
    let mut loaded = idle;
    for round in 0..ROUNDS {
        let pods = fresh(&format!("at-once-{round}"), AT_ONCE);
        contest.at_once("ADD", &pods, round, &mut add_at_once)?;
        if round == 0 {
            loaded = Memory::of(process)?;
            let more = fresh("held", SEQUENTIAL);
            contest.in_turn("ADD", &more, &mut add_held)?;
            contest.in_turn("DEL", &more, &mut uncounted)?;
        }
        contest.at_once("DEL", &pods, round, &mut del_at_once)?;
    }
    contest.in_turn("DEL", &one_by_one, &mut del)?;
    let (churn, complaint) = sustained::run(&contest.contenders, &namespaces)?;
    contest.complaint = contest.complaint.or(complaint);
    let failed = uncounted.ours.failures() + uncounted.theirs.failures();
    if failed > 0 {
        bail!("{failed} calls failed that only prepare others: {}", contest.complaint.unwrap_or_default());
    }
    let complaint = contest.complaint;
    Ok(Outcome { version, add, del, add_held, add_at_once, del_at_once, churn, idle, loaded, complaint })
}

impl Contest {
    /// One call after the other; who begins changes with each Pod.
    fn in_turn(&mut self, verb: &str, pods: &[Sandbox], pair: &mut Pair) -> Result<()> {
        let mut given = [HashSet::new(), HashSet::new()];
        for (number, pod) in pods.iter().enumerate() {
            for turn in 0..2 {
                let who = (number + turn) % 2;
                let call = self.contenders[who].call(verb, pod);
                let ended = call.run()?;
                let ended = self.judge(verb, &call, ended, &mut given[who]);
                pair.of(who).add(&ended);
            }
        }
        Ok(())
    }

    /// All calls of the one, then all of the other; who begins changes with each round.
    fn at_once(&mut self, verb: &str, pods: &[Sandbox], round: usize, pair: &mut Pair) -> Result<()> {
        for turn in 0..2 {
            let who = (round + turn) % 2;
            let calls: Vec<_> = pods.iter().map(|pod| self.contenders[who].call(verb, pod)).collect();
            let mut burst = at_once(&calls)?;
            let mut given = HashSet::new();
            let judged = calls.iter().zip(burst.ended);
            burst.ended = judged.map(|(call, ended)| self.judge(verb, call, ended, &mut given)).collect();
            pair.of(who).add_burst(&burst);
        }
        Ok(())
    }

    /// A call has failed by its status, or if its address was given before.
    fn judge(&mut self, verb: &str, call: &Call, ended: Ended, given: &mut HashSet<String>) -> Ended {
        let served =
            ended.success && (verb != "ADD" || address(&ended.stdout).is_some_and(|address| given.insert(address)));
        if !served && self.complaint.is_none() {
            self.complaint = Some(format!("{verb} by {} printed: {}", call.program.display(), ended.stdout));
        }
        Ended { success: served, ..ended }
    }
}

impl Pair {
    fn of(&mut self, who: usize) -> &mut Figures {
        if who == 0 { &mut self.ours } else { &mut self.theirs }
    }
}
