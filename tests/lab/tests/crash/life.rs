//! Ends and beginnings of the daemon, each alone.

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use spiderpool_lab::example::{self, POOL};
use spiderpool_lab::{Lab, Namespace, Node, Shim, Stopwatch, wait_for};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

fn lab() -> Result<Lab> {
    Lab::start_with(vec![example::worker01()])
}

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

fn shim(node: &Node, container: &str, sandbox: &Namespace) -> Shim {
    node.shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
}

fn address(result: &Value) -> Result<String> {
    Ok(result["ips"][0]["address"].as_str().with_context(|| format!("no address: {result}"))?.to_owned())
}

fn held(lab: &Lab, node: &Node) -> Result<Vec<(String, String)>> {
    let text = |held: &Value, field: &str| held[field].as_str().unwrap_or_default().to_owned();
    let all = lab.inspect(node).allocations()?;
    Ok(all.iter().map(|held| (text(held, "containerId"), text(held, "ipv4"))).collect())
}

/// Rule: Durable first. An answered ADD survives SIGKILL, and the next daemon serves at once from its journal.
#[test]
fn a_daemon_that_was_killed_serves_at_once_what_it_knew() -> Result<()> {
    let lab = lab()?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let sandbox = node.sandbox("a")?;
    let mut known = Vec::new();
    for index in 0..5 {
        let container = format!("c{index}");
        known.push((container.clone(), address(&shim(node, &container, &sandbox).call("ADD", config())?.result()?)?));
        // Right after the answer.
        node.daemon().kill()?;
        let stopwatch = Stopwatch::start();
        node.daemon().start()?;
        ensure!(stopwatch.elapsed() < Duration::from_secs(10), "the start took {:?}", stopwatch.elapsed());
        ensure!(held(&lab, node)? == known, "{:?}, not {known:?}", held(&lab, node)?);
    }
    for (container, before) in &known {
        let again = address(&shim(node, container, &sandbox).call("ADD", config())?.result()?)?;
        ensure!(again == *before, "{container} had {before} and was answered {again}");
    }
    let counts = lab.inspect(node).counts(POOL)?;
    ensure!((counts.in_use, counts.free) == (5, 25), "{counts:?}");
    Ok(())
}

/// Rule: DEL always ends. A sandbox that died while no daemon ran, with or without a DEL, is found at the start.
#[test]
fn sandboxes_that_ended_while_no_daemon_ran_give_back_what_they_held() -> Result<()> {
    let lab = lab()?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let (deleted, dead, live) = (node.sandbox("deleted")?, node.sandbox("dead")?, node.sandbox("live")?);
    for (container, sandbox) in [("deleted", &deleted), ("dead", &dead), ("live", &live)] {
        shim(node, container, sandbox).call("ADD", config())?.result()?;
    }
    node.daemon().kill()?;
    shim(node, "deleted", &deleted).call("DEL", config())?.silent()?;
    drop(dead);
    node.daemon().start()?;
    let held = held(&lab, node)?;
    ensure!(held.iter().map(|(container, _)| container.as_str()).eq(["live"]), "{held:?}");
    wait_for("both addresses to cool", SOON, || {
        let counts = lab.inspect(node).counts(POOL)?;
        Ok((counts.in_use == 1 && counts.dying == 0 && counts.cooling == 2).then_some(()))
    })
}

/// Rule: One daemon, one journal. A lock that is held means wait.
#[test]
fn a_second_daemon_waits_for_the_first_and_says_so() -> Result<()> {
    let lab = lab()?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let sandbox = node.sandbox("a")?;
    let first = address(&shim(node, "c1", &sandbox).call("ADD", config())?.result()?)?;
    let mut second = node.daemon().start_second()?;
    wait_for("the second daemon to say that it waits", SOON, || {
        Ok(node.daemon().log()?.contains("Another daemon serves this node; waiting until it ends").then_some(()))
    })?;
    thread::sleep(Duration::from_millis(300));
    ensure!(second.try_wait()?.is_none(), "it should wait, not end");
    // The first one serves as before.
    shim(node, "c2", &sandbox).call("ADD", config())?.result()?;
    let before = lab.inspect(node).node()?;
    // Then it is killed, and the second one takes over with all that was answered.
    node.daemon().kill()?;
    shim(node, "c3", &sandbox).call("ADD", config())?.result()?;
    let after = lab.inspect(node).node()?;
    ensure!(before["journalId"] == after["journalId"] && after["attachments"] == "3", "{before} {after}");
    ensure!(held(&lab, node)?[0] == ("c1".to_owned(), first));
    kill(Pid::from_raw(i32::try_from(second.id())?), Signal::SIGTERM)?;
    let status = second.wait()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What a killed daemon left at the socket's path goes; what is somebody else's stays.
#[test]
fn only_a_stale_socket_is_removed() -> Result<()> {
    let lab = lab()?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    node.daemon().kill()?;
    ensure!(node.daemon().socket().exists(), "it is left behind");
    node.daemon().start()?;
    node.daemon().stop()?;
    let refused = |words: &str| {
        let error = node.daemon().start().err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains(words), "it should say {words:?}: {error}");
        node.daemon().ended().map(drop)
    };
    fs::remove_file(node.daemon().socket()).or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    fs::write(node.daemon().socket(), "precious")?;
    refused("a file that is no socket is there")?;
    ensure!(fs::read_to_string(node.daemon().socket())? == "precious");
    fs::remove_file(node.daemon().socket())?;
    let _stranger = UnixDatagram::bind(node.daemon().socket())?;
    refused("--socket")?;
    ensure!(node.daemon().socket().exists(), "a stranger's socket stays");
    Ok(())
}

/// A daemon that is told to end finishes what runs: no call fails that was begun, and what it answered stands.
#[test]
fn sigterm_under_load_ends_well() -> Result<()> {
    let lab = lab()?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let sandboxes = (0..12).map(|index| node.sandbox(&format!("s{index}"))).collect::<Result<Vec<_>>>()?;
    let answered = thread::scope(|scope| -> Result<Vec<(String, String)>> {
        let callers = sandboxes.iter().enumerate().map(|(index, sandbox)| {
            scope.spawn(move || -> Result<Vec<(String, String)>> {
                let mut answered = Vec::new();
                for round in 0..2 {
                    let container = format!("c{index:02}-{round}");
                    let result = shim(node, &container, sandbox).call("ADD", config())?.result()?;
                    answered.push((container, address(&result)?));
                }
                Ok(answered)
            })
        });
        let callers: Vec<_> = callers.collect();
        thread::sleep(Duration::from_millis(60));
        let stopwatch = Stopwatch::start();
        let status = node.daemon().stop()?;
        ensure!(status.success(), "{status}");
        ensure!(stopwatch.elapsed() < Duration::from_secs(5), "the end took {:?}", stopwatch.elapsed());
        // Calls that came too late wait for the next daemon.
        node.daemon().start()?;
        let mut all = Vec::new();
        for caller in callers {
            all.extend(caller.join().map_err(|_| anyhow!("a caller panicked"))??);
        }
        Ok(all)
    })?;
    ensure!(node.daemon().log()?.contains("Stopped"), "{}", node.daemon().log()?);
    let mut expected = answered;
    expected.sort();
    ensure!(held(&lab, node)? == expected, "{:?}\nnot {expected:?}", held(&lab, node)?);
    Ok(())
}

/// An ADD that waits for an address does not hold up the end for longer than its budget, and is not lost.
#[test]
fn sigterm_while_an_add_waits() -> Result<()> {
    let lab = lab()?;
    let node = &lab.nodes()[0];
    let pool = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\nmetadata:\n  name: 10-6-v4\n\
                spec:\n  subnet: 10.6.0.0/16\n  ips: [10.6.212.145]\n";
    node.standalone().write("pool.yaml", pool)?;
    node.daemon().start_with(&["--budget", "2", "--cooldown", "0"])?;
    let (first, second) = (node.sandbox("a")?, node.sandbox("b")?);
    shim(node, "first", &first).call("ADD", config())?.result()?;
    first.ip(&["addr", "add", "10.6.212.145/16", "dev", "lo"])?;
    shim(node, "first", &first).call("DEL", config())?.silent()?;
    let answer = thread::scope(|scope| -> Result<_> {
        let caller = scope.spawn(|| shim(node, "second", &second).call("ADD", config()));
        wait_for("the ADD to wait", SOON, || Ok((lab.inspect(node).node()?["waiting"] == "1").then_some(())))?;
        let stopwatch = Stopwatch::start();
        let status = node.daemon().stop()?;
        ensure!(status.success() && stopwatch.elapsed() < Duration::from_secs(4), "{status} {:?}", stopwatch.elapsed());
        caller.join().map_err(|_| anyhow!("the caller panicked"))?
    })?;
    answer.error(11, &["1 dying"])?;
    node.daemon().start()?;
    ensure!(held(&lab, node)?.is_empty());
    Ok(())
}
