//! The coordinator on Pods as they are: `eth0` as Calico wires it, `net1` by Debian's macvlan with an address of ours.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use spiderpool_lab::{Lab, Namespace, Node, Pod, PodSpec, Program, example};

use crate::call::{Call, at_once};
use crate::contender::Sandbox;
use crate::contest::{AT_ONCE, ROUNDS};
use crate::figures::Figures;
use crate::instructions::{Count, counts};
use crate::sustained::{CALLERS, Churn, pairs};

/// Pods that take turns.
const PODS: usize = 10;
/// ADDs of each.
const TURNS: usize = 5;
/// Turns before the first one that counts.
const WARM_UP: usize = 1;
const MACVLAN: &str = "/usr/lib/cni/macvlan";

/// What the coordinator needs.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) add: Figures,
    pub(crate) del: Figures,
    /// Of `AT_ONCE` Pods.
    pub(crate) add_at_once: Figures,
    pub(crate) del_at_once: Figures,
    /// As many callers as Pods, each with one of them.
    pub(crate) churn: Churn,
    /// Of both verbs.
    pub(crate) instructions: Vec<Count>,
    /// The first error it printed.
    pub(crate) complaint: Option<String>,
}

/// Runs ADD and DEL after each other, on a node whose daemon serves.
pub(crate) fn run(lab: &Lab) -> Result<Outcome> {
    let node = lab.nodes().first().context("the lab has no node")?;
    let pods = (0..AT_ONCE as u8).map(|number| Wired::build(lab, node, 106, number)).collect::<Result<Vec<_>>>()?;
    let mut outcome = Outcome::default();
    for turn in 0..WARM_UP + TURNS {
        for (verb, counted) in [("ADD", true), ("DEL", false)] {
            for pod in &pods[..PODS] {
                let ended = pod.call(node, verb).run()?;
                if !ended.success {
                    outcome.complaint.get_or_insert_with(|| format!("{verb} by coordinator printed: {}", ended.stdout));
                }
                if turn >= WARM_UP || !ended.success {
                    if counted { outcome.add.add(&ended) } else { outcome.del.add(&ended) }
                }
            }
        }
    }
    for _ in 0..ROUNDS {
        for verb in ["ADD", "DEL"] {
            let calls: Vec<_> = pods.iter().map(|pod| pod.call(node, verb)).collect();
            let burst = at_once(&calls)?;
            if let Some(failed) = burst.ended.iter().find(|ended| !ended.success) {
                outcome.complaint.get_or_insert_with(|| format!("{verb} by coordinator printed: {}", failed.stdout));
            }
            let figures = if verb == "ADD" { &mut outcome.add_at_once } else { &mut outcome.del_at_once };
            figures.add_burst(&burst);
        }
    }
    let callers = &pods[..CALLERS];
    let calls: Vec<_> = callers.iter().map(|pod| ["ADD", "DEL"].map(|verb| pod.call(node, verb))).collect();
    let (churn, complaint) = pairs(&calls)?;
    outcome.complaint = outcome.complaint.or(complaint);
    outcome.churn = churn;
    let pod = pods.first().context("no Pod was wired")?;
    outcome.instructions = counts(lab.folder(), "coordinator", &["ADD", "DEL"], |_, verb| pod.call(node, verb))?;
    Ok(outcome)
}

/// A Pod with both interfaces.
#[derive(Debug)]
pub(crate) struct Wired {
    sandbox: Sandbox,
    /// The coordinator's network configuration.
    pub(crate) config: String,
    pod: Pod,
}

impl Wired {
    /// Its `eth0` has the address 10.233.BLOCK.NUMBER, unique in the lab.
    pub(crate) fn build(lab: &Lab, node: &Node, block: u8, number: u8) -> Result<Self> {
        let name = format!("wired-{number}");
        let address = Ipv4Addr::new(10, 233, block, number);
        let pod = lab.pod(node.name(), PodSpec::new(&name, &format!("uid-of-{name}"), address))?;
        let sandbox = Sandbox::new(&name, pod.namespace());
        let previous = macvlan(node, &sandbox).with_context(|| format!("give net1 to {name}"))?;
        let config = json!({
            "cniVersion": "1.0.0", "name": "macvlan-ens192", "type": "coordinator",
            "mode": "overlay", "tunePodRoutes": true, "detectGateway": false, "detectIPConflict": false,
            "hostRuleTable": 500, "prevResult": previous,
        });
        Ok(Self { sandbox, config: config.to_string(), pod })
    }

    /// Its network namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        self.pod.namespace()
    }

    /// A call of the coordinator.
    pub(crate) fn call(&self, node: &Node, verb: &str) -> Call {
        let (path, arguments) = (node.cni_path(), self.sandbox.arguments());
        let program = node.cni_bin().join("coordinator");
        Call::new(&program, verb, &self.sandbox.environment("net1", &path, &arguments), &self.config)
    }
}

/// ADD by macvlan, with the address from the daemon; returns the CNI result.
fn macvlan(node: &Node, sandbox: &Sandbox) -> Result<Value> {
    let config = json!({
        "cniVersion": "1.0.0", "name": "macvlan-ens192", "type": "macvlan",
        "master": example::UNDERLAY_LINK, "mode": "bridge",
        "ipam": { "type": "spiderpool", "default_ipv4_ippool": [example::POOL] },
    });
    let (path, arguments) = (node.cni_path(), sandbox.arguments());
    let program = Program::new(Path::new(MACVLAN)).env("CNI_COMMAND", "ADD").input(config.to_string());
    let environment = sandbox.environment("net1", &path, &arguments);
    let program = environment.into_iter().fold(program, |program, (name, value)| program.env(name, value));
    node.namespace().run(&program)?.success()?.json()
}
