//! The journal is lost while sandboxes live: wiped, or no longer readable.

use anyhow::{Context, Result, ensure};
use spiderpool_lab::example::{self, POOL};
use spiderpool_lab::{Chain, Lab, Node, Pod, PodSpec, Program, wait_for};
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const SANDBOXES: u8 = 50;

/// The pool's addresses, up to one with this last byte.
fn to(last: u8) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 6, 213, 1), Ipv4Addr::new(10, 6, 213, last))
}

fn pods(lab: &Lab, node: &str, kind: u8) -> Result<Vec<Pod>> {
    let pod = |number: u8| {
        let name = format!("pod-{kind}-{number}");
        lab.pod(node, PodSpec::new(&name, &name, Ipv4Addr::new(10, 233, 80 + kind, number)))
    };
    (1..=SANDBOXES).map(pod).collect()
}

fn two_pods(lab: &Lab, node: &Node) -> Result<[Pod; 2]> {
    let first = lab.pod(node.name(), PodSpec::new("first", "first", Ipv4Addr::new(10, 233, 80, 7)))?;
    Ok([first, lab.pod(node.name(), PodSpec::new("second", "second", Ipv4Addr::new(10, 233, 80, 8)))?])
}

/// Adds net1 to each; the addresses that their kernels show.
fn attach(pods: &[Pod]) -> Result<Vec<Ipv4Addr>> {
    let add = |pod: &Pod| {
        pod.add(&Chain::overlay(), "net1", &[])?;
        Ok(pod.address("net1")?.0)
    };
    pods.iter().map(add).collect()
}

fn lose(node: &Node, how: &str) -> Result<()> {
    let journal = node.daemon().state().join("journal");
    match how {
        "wiped" => fs::remove_dir_all(&journal).context("wipe the journal"),
        _ => fs::write(journal.join("db"), vec![0x5a; 64 * 1024]).context("spoil the journal"),
    }
}

/// Rule: One holder. Rule: Live means held. No address of a living sandbox is given again, and the DELs of those
/// that were there before work as if nothing had happened.
fn survives(how: &str) -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write_pool(&[to(200)])?;
    node.daemon().start_with(&["--cooldown", "0"])?;
    let first = pods(&lab, node.name(), 0)?;
    let mut addresses: BTreeSet<Ipv4Addr> = attach(&first)?.into_iter().collect();
    ensure!(addresses.len() == usize::from(SANDBOXES), "{addresses:?}");

    node.daemon().kill()?;
    lose(node, how)?;
    node.daemon().start_with(&["--cooldown", "0"])?;
    let log = node.daemon().log()?;
    let kept = fs::read_dir(node.daemon().state())?
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("journal.corrupt-"));
    ensure!(kept.count() == usize::from(how != "wiped"), "what could not be read is set aside: {log}");
    let known = lab.inspect(node).allocations()?;
    ensure!(known.len() == usize::from(SANDBOXES), "{} attachments are known again: {log}", known.len());
    ensure!(known.iter().all(|held| held["ipv4Pool"] == POOL && held["podName"] != ""), "{known:?}");

    let second = pods(&lab, node.name(), 1)?;
    for address in attach(&second)? {
        ensure!(addresses.insert(address), "{address} was given twice");
    }
    for pod in first.iter().chain(&second) {
        pod.del(&Chain::overlay(), "net1", &[])?;
    }
    wait_for("every address to come back", SOON, || {
        let counts = lab.inspect(node).counts(POOL)?;
        Ok((counts.in_use == 0 && counts.dying == 0 && counts.free == 200).then_some(()))
    })
}

#[test]
fn a_wiped_journal_is_rebuilt_from_kernel_and_runtime() -> Result<()> {
    survives("wiped")
}

#[test]
fn a_journal_that_cannot_be_read_is_set_aside_and_rebuilt() -> Result<()> {
    survives("spoilt")
}

/// Rule: Live means held. Plans are lost with the journal; what the sandboxes share on the host stays while one of them
/// has a route there.
#[test]
fn a_pod_whose_plan_was_lost_is_reached_when_another_goes() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write_pool(&[to(200)])?;
    node.daemon().start()?;
    let [first, second] = two_pods(&lab, node)?.map(|pod| [pod]);
    let before = node.namespace().ip(&["rule"])?;
    let address = attach(&first)?[0];
    node.daemon().kill()?;
    lose(node, "wiped")?;
    node.daemon().start()?;
    let come_and_go = || {
        attach(&second)?;
        second[0].del(&Chain::overlay(), "net1", &[])
    };
    come_and_go()?;
    node.namespace().run(&Program::ping(&[], address))?.success().context("when the other is gone")?;
    first[0].del(&Chain::overlay(), "net1", &[])?;
    let link = first[0].host_link().to_owned();
    drop(first);
    // Its route in the table goes with it.
    wait_for("the Pod's link to go", Duration::from_secs(10), || {
        Ok((!node.namespace().ip(&["link"])?.contains(&link)).then_some(()))
    })?;
    come_and_go()?;
    let left = node.namespace().ip(&["rule"])?;
    ensure!(left == before, "the last that leaves takes the rule along: {left}");
    Ok(())
}

/// An address that no result of a runtime speaks of, on a link of a living sandbox, is not given out.
#[test]
fn an_address_that_nobody_knows_but_the_kernel_is_not_given_out() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write_pool(&[to(200)])?;
    let stranger = node.sandbox("stranger")?;
    stranger.ip(&["link", "set", "lo", "up"])?;
    stranger.ip(&["address", "add", "10.6.213.1/32", "dev", "lo"])?;
    node.daemon().start()?;
    let pod = lab.pod(node.name(), PodSpec::new("pod", "pod", Ipv4Addr::new(10, 233, 80, 9)))?;
    ensure!(attach(&[pod])? == [Ipv4Addr::new(10, 6, 213, 2)]);
    let seen = lab.inspect(node).address(Ipv4Addr::new(10, 6, 213, 1))?;
    ensure!(seen["state"] == "ADDRESS_STATE_DYING", "{seen}");
    drop(stranger);
    wait_for("the address to come free with its sandbox", SOON, || {
        let seen = lab.inspect(node).address(Ipv4Addr::new(10, 6, 213, 1))?;
        Ok((seen["state"] != "ADDRESS_STATE_DYING").then_some(()))
    })
}

/// Rule: One holder. The same for addresses that a pool gets while no daemon is there, and the journal is kept.
#[test]
fn what_a_pool_gets_between_two_daemons_is_looked_at_first() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write_pool(&[to(1)])?;
    node.daemon().start()?;
    node.daemon().kill()?;
    let stranger = node.sandbox("stranger")?;
    stranger.ip(&["address", "add", "10.6.213.2/32", "dev", "lo"])?;
    node.standalone().write_pool(&[to(3)])?;
    node.daemon().start()?;
    ensure!(attach(&two_pods(&lab, node)?)? == [Ipv4Addr::new(10, 6, 213, 1), Ipv4Addr::new(10, 6, 213, 3)]);
    Ok(())
}

/// The same for addresses that a pool gets while the daemon serves.
#[test]
fn what_a_pool_gets_later_is_looked_at_first() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write_pool(&[to(1)])?;
    node.daemon().start()?;
    let stranger = node.sandbox("stranger")?;
    stranger.ip(&["address", "add", "10.6.213.2/32", "dev", "lo"])?;
    node.standalone().write_pool(&[to(3)])?;
    wait_for("the pool to grow", SOON, || Ok((lab.inspect(node).counts(POOL)?.total == 3).then_some(())))?;
    ensure!(attach(&two_pods(&lab, node)?)? == [Ipv4Addr::new(10, 6, 213, 1), Ipv4Addr::new(10, 6, 213, 3)]);
    Ok(())
}
