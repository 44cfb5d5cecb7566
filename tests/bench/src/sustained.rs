//! Many callers for half a minute, each with calls after each other: what a node does when Pods come and go all the time.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use spiderpool_lab::{Deadline, Namespace};

use crate::call::{Call, Ended};
use crate::contender::{Contender, Sandbox};
use crate::figures::Figures;

/// Callers at a time.
pub(crate) const CALLERS: usize = 32;
/// How long each program is called.
pub(crate) const SECONDS: u64 = 30;
/// Each contender's time is cut into as many slices, so that both see what drifts on the machine.
const SLICES: usize = 2;
/// Attachments that a caller keeps before the oldest goes.
const KEPT: usize = 4;

/// Both verbs of one program.
#[derive(Debug, Default)]
pub(crate) struct Churn {
    pub(crate) add: Figures,
    pub(crate) del: Figures,
}

impl Churn {
    /// Calls a second, both verbs together.
    pub(crate) fn rate(&self) -> f64 {
        (self.add.count() + self.del.count()) as f64 / SECONDS as f64
    }

    /// How many calls failed.
    pub(crate) fn failures(&self) -> usize {
        self.add.failures() + self.del.failures()
    }

    fn count(&mut self, verb: &str, ended: &Ended) {
        if verb == "ADD" { self.add.add(ended) } else { self.del.add(ended) }
    }

    fn append(&mut self, more: Churn) {
        self.add.append(more.add);
        self.del.append(more.del);
    }
}

/// The addresses that are out, and the first thing that went wrong.
#[derive(Default)]
struct Judge {
    out: Mutex<HashSet<String>>,
    complaint: Mutex<Option<String>>,
}

/// Both IPAM programs in turn; each caller has a namespace of its own.
pub(crate) fn run(contenders: &[Contender; 2], namespaces: &[Namespace]) -> Result<([Churn; 2], Option<String>)> {
    let mut outcome = [Churn::default(), Churn::default()];
    let judges = [Judge::default(), Judge::default()];
    for slice in 0..SLICES {
        for ((contender, judge), churn) in contenders.iter().zip(&judges).zip(&mut outcome) {
            let callers = namespaces.iter().enumerate().take(CALLERS);
            churn.append(together(callers.map(|(caller, namespace)| {
                let until = Deadline::after(Duration::from_secs(SECONDS) / SLICES as u32);
                move || come_and_go(contender, namespace, &format!("churn-{slice}-{caller}"), until, judge)
            }))?);
        }
    }
    let complaint = judges.into_iter().find_map(|judge| judge.complaint.into_inner().ok().flatten());
    Ok((outcome, complaint))
}

/// Pairs of ADD and DEL for as long; each caller has a Pod of its own. The first complaint comes beside.
pub(crate) fn pairs(calls: &[[Call; 2]]) -> Result<(Churn, Option<String>)> {
    let judge = Judge::default();
    let until = Deadline::after(Duration::from_secs(SECONDS));
    let callers = calls.iter().map(|pair| {
        let judge = &judge;
        move || {
            let mut churn = Churn::default();
            while !until.passed() {
                for (verb, call) in ["ADD", "DEL"].into_iter().zip(pair) {
                    let ended = call.run()?;
                    if !ended.success {
                        judge.complain(verb, call, &ended);
                    }
                    churn.count(verb, &ended);
                }
            }
            Ok(churn)
        }
    });
    let churn = together(callers)?;
    Ok((churn, judge.complaint.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

fn together<F: FnOnce() -> Result<Churn> + Send>(callers: impl Iterator<Item = F>) -> Result<Churn> {
    thread::scope(|scope| {
        let callers: Vec<_> = callers.map(|caller| scope.spawn(caller)).collect();
        let mut sum = Churn::default();
        for caller in callers {
            sum.append(caller.join().map_err(|_| anyhow!("a caller panicked"))??);
        }
        Ok(sum)
    })
}

fn come_and_go(
    contender: &Contender,
    namespace: &Namespace,
    name: &str,
    until: Deadline,
    judge: &Judge,
) -> Result<Churn> {
    let (mut churn, mut kept) = (Churn::default(), VecDeque::new());
    for number in 0.. {
        if !until.passed() {
            let sandbox = Sandbox::new(&format!("{name}-{number}"), namespace);
            let call = contender.call("ADD", &sandbox);
            let ended = judge.came(&call, call.run()?);
            churn.count("ADD", &ended);
            kept.push_back((sandbox, ended.stdout));
        }
        if kept.len() > KEPT || until.passed() {
            let Some((sandbox, answer)) = kept.pop_front() else { break };
            judge.goes(&answer);
            let call = contender.call("DEL", &sandbox);
            let ended = call.run()?;
            if !ended.success {
                judge.complain("DEL", &call, &ended);
            }
            churn.count("DEL", &ended);
        }
    }
    Ok(churn)
}

impl Judge {
    /// An ADD has failed by its status, or if somebody has its address.
    fn came(&self, call: &Call, ended: Ended) -> Ended {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let served = ended.success && address(&ended.stdout).is_some_and(|address| out.insert(address));
        if !served {
            self.complain("ADD", call, &ended);
        }
        Ended { success: served, ..ended }
    }

    fn goes(&self, answer: &str) {
        if let Some(address) = address(answer) {
            self.out.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        }
    }

    fn complain(&self, verb: &str, call: &Call, ended: &Ended) {
        let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        complaint.get_or_insert_with(|| format!("{verb} by {} printed: {}", call.program.display(), ended.stdout));
    }
}

/// The first address of a CNI result.
pub(crate) fn address(result: &str) -> Option<String> {
    let result: serde_json::Value = serde_json::from_str(result).ok()?;
    Some(result["ips"][0]["address"].as_str()?.to_owned())
}
