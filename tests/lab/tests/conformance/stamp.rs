//! Callers that go away, come at once, or say strange things of when they started.

use anyhow::{Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use spiderpool_lab::wait_for;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use crate::rig::{Document, Rig, SOON, Stamp, address, example_pool, pools};

/// A retry may overtake its first try: all get one answer, and there is one allocation.
#[test]
fn calls_of_one_attachment_at_once_get_one_address() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let addresses = thread::scope(|scope| {
        let call = || rig.ipam("c", &sandbox).call("ADD", example_pool())?.result().and_then(|result| address(&result));
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(call)).collect();
        callers.into_iter().map(|caller| caller.join().map_err(|_| anyhow!("panicked"))?).collect::<Result<Vec<_>>>()
    })?;
    ensure!(addresses.iter().all(|address| address == "10.6.212.145"), "{addresses:?}");
    let counts = rig.inspect().counts("10-6-v4")?;
    ensure!((counts.in_use, counts.free) == (1, 29), "{counts:?}");
    Ok(())
}

/// Design 3, cancellation: nobody waits for a caller that was killed, and no address goes to it.
#[test]
fn a_caller_that_is_killed_while_it_waits_is_forgotten() -> Result<()> {
    let rig = Rig::start_with(&["--cooldown", "0"])?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    rig.ipam("first", &first).call("ADD", pools(&["one"]))?.result()?;
    first.ip(&["addr", "add", "10.8.0.10/24", "dev", "lo"])?;
    rig.ipam("first", &first).call("DEL", pools(&["one"]))?.silent()?;
    let mut command = Command::new(rig.node().cni_bin().join("spiderpool"));
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "ghost").env("CNI_IFNAME", "net1");
    command.env("CNI_NETNS", second.path()).env("CNI_PATH", rig.node().cni_path());
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut ghost = rig.node().namespace().spawn(command)?;
    if let Some(mut stdin) = ghost.stdin.take() {
        stdin.write_all(pools(&["one"]).to_string().as_bytes())?;
    }
    let waiting = |count: &str| {
        wait_for(&format!("{count} to wait"), SOON, || Ok((rig.inspect().node()?["waiting"] == count).then_some(())))
    };
    waiting("1")?;
    kill(Pid::from_raw(i32::try_from(ghost.id())?), Signal::SIGKILL)?;
    ghost.wait()?;
    waiting("0")?;
    first.ip(&["addr", "del", "10.8.0.10/24", "dev", "lo"])?;
    wait_for("the address to be free", SOON, || Ok((rig.inspect().counts("one")?.free == 1).then_some(())))?;
    ensure!(rig.inspect().allocations()?.is_empty());
    Ok(())
}

/// Rule: Last word by start. What another boot, or no clock, says does not touch what lives now.
#[test]
fn a_stamp_of_another_boot_or_none_has_no_last_word() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    rig.ipam("c", &sandbox).call("ADD", example_pool())?.result()?;
    let inspect = rig.inspect();
    let now = rig.stamp()?;
    let other = Stamp { boot_id: "00000000-0000-4000-8000-000000000000".to_owned(), nanoseconds: u64::MAX };
    let request = |started: &Stamp| rig.request("c", &sandbox, started, &example_pool());
    let mut without = request(&now);
    without["started"] = Value::Null;
    for request in [request(&other), without] {
        ensure!(inspect.cni("Del", &request)? == Ok(Value::Null));
        ensure!(inspect.allocations()?.len() == 1, "it is of this boot");
        let error = inspect.cni("Add", &request)?.expect_err("an ADD of no known time");
        ensure!(error["code"] == 4 && error["msg"].as_str().is_some_and(|msg| msg.contains("started")), "{error}");
    }
    // One from the future counts as now: it has no word over what begins later.
    let future = now.plus(3_600_000);
    ensure!(inspect.cni("Del", &request(&future))? == Ok(Value::Null));
    ensure!(inspect.allocations()?.is_empty());
    rig.ipam("c", &sandbox).call("ADD", example_pool())?.result()?;
    // An ADD of long ago cannot be told from one whose DEL is forgotten.
    let old = now.plus(-700_000);
    let error = inspect.cni("Add", &rig.request("d", &sandbox, &old, &example_pool()))?.expect_err("an old ADD");
    ensure!(error["code"] == 11, "{error}");
    Ok(())
}
