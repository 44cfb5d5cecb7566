//! A hundred interfaces on one Pod.

use anyhow::{Result, ensure};
use spiderpool_lab::{Chain, Lab, PodSpec, Stopwatch, example, wait_for};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::rig::Rig;

const INTERFACES: usize = 100;

fn chain() -> Chain {
    Chain::overlay().version("1.0.0")
}

/// Both plugins serve a hundred interfaces, hold them all in CHECK, and take them back without a trace.
#[test]
fn a_hundred_interfaces_on_a_pod() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    lab.nodes()[0].standalone().write_pool(&[(Ipv4Addr::new(10, 6, 213, 1), Ipv4Addr::new(10, 6, 213, 200))])?;
    lab.nodes()[0].daemon().start_with(&["--cooldown", "0"])?;
    let rig = Rig { lab };
    let pod = rig.lab.pod("worker01", PodSpec::new("many", "many", Ipv4Addr::new(10, 233, 80, 1)))?;
    let before = pod.namespace().ip(&["rule"])?;
    let memory = rig.memory()?;
    let mut took = Vec::new();
    for number in 1..=INTERFACES {
        let stopwatch = Stopwatch::start();
        pod.add(&chain(), &format!("net{number}"), &[])?;
        took.push(stopwatch.elapsed());
    }
    let node = rig.lab.inspect(rig.node()).node()?;
    ensure!(node["attachments"] == "100" && node["plans"] == "1", "{node}");
    for number in [1, 50, 100] {
        pod.check(&chain(), &format!("net{number}"), &[])?;
    }
    let grown = rig.memory()?.saturating_sub(memory);
    println!("the first took {:?}, the last {:?}; {grown} KiB more", took[0], took[INTERFACES - 1]);
    ensure!(grown < 64 << 10, "{memory} KiB and {grown} more");
    ensure!(took[INTERFACES - 1] < Duration::from_secs(8), "{took:?}");
    for number in (1..=INTERFACES).rev() {
        pod.del(&chain(), &format!("net{number}"), &[])?;
    }
    ensure!(pod.namespace().ip(&["rule"])? == before, "{}", pod.namespace().ip(&["rule"])?);
    wait_for("every address to be free", Duration::from_secs(10), || {
        let counts = rig.lab.inspect(rig.node()).counts(example::POOL)?;
        Ok((counts.in_use == 0 && counts.free == 200).then_some(()))
    })
}
