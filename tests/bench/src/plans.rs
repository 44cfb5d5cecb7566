//! What the coordinator's calls cost with many other sandboxes on the node that have plans.
//!
//! Two daemons on nodes of their own: one has the plans of the Pods that are called alone, the other gets more. They all
//! are of one more Pod, under many container IDs: the daemon compares what they want, not what they are.

use anyhow::{Context, Result};
use spiderpool_lab::{Lab, Node, Stopwatch};
use spiderpool_proto::node::Plugin;

use crate::fill::Filler;
use crate::routes::Wired;
use crate::scale::{CALLS, PODS, Verbs};

/// Names of the two nodes.
pub(crate) const NODES: [&str; 2] = ["alone", "beside"];
/// Plans of others.
const LEVELS: [usize; 3] = [100, 1_000, 10_000];
/// One namespace takes few at a time.
const AT_A_TIME: usize = 4;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// By how many plans of others.
    pub(crate) levels: Vec<(usize, Verbs)>,
    pub(crate) complaint: Option<String>,
}

/// Runs everything on nodes of these names whose daemons do not run yet.
pub(crate) fn run(lab: &Lab) -> Result<Outcome> {
    let nodes = [lab.node(NODES[0])?, lab.node(NODES[1])?];
    let pods = [wire(lab, nodes[0], 109)?, wire(lab, nodes[1], 110)?];
    let other = Wired::build(lab, nodes[1], 110, PODS as u8)?;
    let filler = Filler {
        socket: nodes[1].daemon().socket().to_owned(),
        netns: other.namespace().path().to_owned(),
        config: other.config.clone(),
        plugin: Plugin::Coordinator,
    };
    let (mut outcome, mut filled) = (Outcome::default(), 0);
    for plans in LEVELS {
        let clock = Stopwatch::start();
        filler.fill(filled..plans, AT_A_TIME).with_context(|| format!("make {plans} plans"))?;
        println!("  {plans} plans, made at {:.0} a second", (plans - filled) as f64 / clock.elapsed().as_secs_f64());
        filled = plans;
        let mut verbs = Verbs::default();
        for _ in 0..CALLS / PODS {
            verbs
                .take(0..PODS, &mut outcome.complaint, |who, verb, number| pods[who][number].call(nodes[who], verb))?;
        }
        outcome.levels.push((plans, verbs));
    }
    Ok(outcome)
}

fn wire(lab: &Lab, node: &Node, block: u8) -> Result<Vec<Wired>> {
    node.daemon().start()?;
    (0..PODS as u8).map(|number| Wired::build(lab, node, block, number)).collect()
}
