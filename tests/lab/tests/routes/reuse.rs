//! Addresses that change hands as fast as they can: real chains, too few addresses, no cooldown. macvlan's DEL calls IPAM
//! before it deletes its link, so an address that was given back is still on a link for a moment. macvlan waits for the
//! IPAM program to end: one that lingers makes the moment as long as it is on a busy node.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use spiderpool_lab::{Chain, Deadline, Namespace, Pod, PodSpec, Subnet, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::rig::Rig;

const SOON: Duration = Duration::from_secs(30);
/// ADDs and DELs of each Pod.
const ROUNDS: usize = 25;
/// An IPAM program that is the real one, and ends a while after it is done with a DEL.
const LINGERING: (&str, &str) = (
    "lingering",
    "#!/bin/sh\n\"${0%/*}/spiderpool\"\nstatus=$?\n[ \"$CNI_COMMAND\" != DEL ] || sleep 0.04\nexit $status\n",
);

/// Rule: Live means held. Each ADD waits for an address that was just given back.
#[test]
fn an_address_that_macvlan_gives_back_is_on_one_link_at_a_time() -> Result<()> {
    handed_over("10.8.0.20", 2)
}

/// As above, where an ADD may get the other address or wait.
#[test]
fn addresses_that_are_too_few_are_on_one_link_each() -> Result<()> {
    handed_over("10.8.0.20-10.8.0.21", 3)
}

/// Has Pods take and give back the addresses of a range, and holds each to have been on one link at a time.
fn handed_over(range: &str, pods: u8) -> Result<()> {
    let rig = Rig::start()?;
    rig.node().daemon().stop()?;
    rig.node().standalone().write_pool_of(&Subnet::NET2[0], range)?;
    rig.node().daemon().start_with(&["--cooldown", "0"])?;
    let pods = (1..=pods)
        .map(|number| {
            let address = [10, 233, 73, number].into();
            rig.lab.pod("worker01", PodSpec::new(&format!("web-{number}"), &format!("uid-{number}"), address))
        })
        .collect::<Result<Vec<_>>>()?;
    let monitor = Monitor::start(&rig, &pods)?;
    let (name, text) = LINGERING;
    let program = rig.node().cni_bin().join(name);
    fs::write(&program, text)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let chains = ["spiderpool", name].map(|program| {
        let ipam = json!({ "type": program, "default_ipv4_ippool": [Subnet::NET2[0].pool] });
        Chain::macvlan(&ipam).version("1.0.0").then(json!({ "type": "coordinator" }))
    });
    thread::scope(|scope| {
        let takes_turns = |pod: &Pod| -> Result<()> {
            for (round, chain) in (0..ROUNDS).zip(chains.iter().cycle()) {
                let context = || format!("round {round} of {}", pod.spec().name);
                takes(pod, chain).with_context(context)?;
                pod.del(chain, "net1", &[]).with_context(context)?;
            }
            Ok(())
        };
        let callers: Vec<_> = pods.iter().map(|pod| scope.spawn(move || takes_turns(pod))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().expect("no panic"))
    })?;
    let tenures = never_doubled(&monitor.end(&pods)?, "10.8.0.")?;
    ensure!(tenures == ROUNDS * pods.len(), "{tenures} were seen of {ROUNDS} rounds of {} Pods", pods.len());
    Ok(())
}

/// ADD until there is an address: one that is in use is not waited for, one that is dying is.
fn takes(pod: &Pod, chain: &Chain) -> Result<()> {
    let deadline = Deadline::after(SOON);
    loop {
        let added = pod.cni("add", chain, "net1", &[])?;
        if added.status.success() || deadline.passed() {
            return added.success().map(drop);
        }
        ensure!(
            added.stdout.contains("no free address") || added.stderr.contains("no free address"),
            "{}{}",
            added.stdout,
            added.stderr
        );
        // As a runtime does: macvlan leaves its link behind.
        pod.del(chain, "net1", &[])?;
    }
}

/// Holds every address with these digits to have gone from its link before it came to the next, and counts how often
/// one came.
fn never_doubled(events: &str, digits: &str) -> Result<usize> {
    let mut holders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut tenures = 0;
    for (number, line) in events.lines().enumerate() {
        // Such as `[nsid 3]Deleted 4: net1    inet 10.8.0.20/24 …`.
        let Some((namespace, event)) = line.strip_prefix("[nsid ").and_then(|line| line.split_once(']')) else {
            continue;
        };
        let mut words = event.split_whitespace().skip_while(|word| *word != "inet").skip(1);
        let Some(address) = words.next().filter(|address| address.starts_with(digits)) else { continue };
        let held = holders.entry(address).or_default();
        if event.starts_with("Deleted") {
            ensure!(held.remove(namespace), "line {number}: {address} went from where it was not:\n{events}");
        } else if held.insert(namespace) {
            tenures += 1;
            ensure!(held.len() == 1, "line {number}: {address} is in two namespaces, {held:?}:\n{events}");
        }
    }
    Ok(tenures)
}

/// One netlink socket that hears of the addresses of all Pods: it has their events in the order of the kernel.
struct Monitor {
    program: Child,
    printed: PathBuf,
}

impl Monitor {
    fn start(rig: &Rig, pods: &[Pod]) -> Result<Self> {
        let printed = rig.lab.folder().join("addresses");
        let mut command = Command::new("ip");
        command.args(["-4", "-o", "monitor", "all-nsid", "address"]);
        // It complains of namespaces that end while it names their links.
        let out = File::create_new(&printed)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let monitor = Self { program: rig.host().spawn(command)?, printed };
        // It hears nothing before its socket is open, so it is called until it has heard.
        monitor.hears(pods, "10.250.0.1", || {
            pods.iter().map(Pod::namespace).try_for_each(|pod| flash(pod, "10.250.0.1"))
        })?;
        Ok(monitor)
    }

    /// All events until now.
    fn end(self, pods: &[Pod]) -> Result<String> {
        pods.iter().map(Pod::namespace).try_for_each(|pod| flash(pod, "10.250.0.2"))?;
        self.hears(pods, "10.250.0.2", || Ok(()))?;
        Ok(fs::read_to_string(&self.printed)?)
    }

    /// Waits until it has heard of an address in as many namespaces as there are Pods.
    fn hears(&self, pods: &[Pod], address: &str, call: impl Fn() -> Result<()>) -> Result<()> {
        wait_for("events of each Pod's addresses", SOON, || {
            call()?;
            let events = fs::read_to_string(&self.printed)?;
            let of = events.lines().filter(|line| line.contains(address)).filter_map(|line| line.split(']').next());
            Ok((of.collect::<BTreeSet<_>>().len() == pods.len()).then_some(()))
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

/// Gives the loopback an address for a moment.
fn flash(namespace: &Namespace, address: &str) -> Result<()> {
    namespace.ip_batch(&format!("addr add {address}/32 dev lo\naddr del {address}/32 dev lo\n"))
}

/// The judgement can fail.
#[test]
fn an_address_on_two_links_is_seen() {
    let comes =
        |namespace: u8| format!("[nsid {namespace}]4: net1    inet 10.8.0.20/24 brd 10.8.0.255 scope global net1\n");
    let goes = |namespace: u8| format!("[nsid {namespace}]Deleted {}", comes(namespace).split_once(']').unwrap().1);
    let after = comes(1) + &comes(1) + &goes(1) + &comes(2) + &goes(2) + &comes(1);
    assert_eq!(never_doubled(&after, "10.8.0.").unwrap(), 3);
    never_doubled(&(comes(1) + &comes(2) + &goes(1)), "10.8.0.").unwrap_err();
    never_doubled(&goes(1), "10.8.0.").unwrap_err();
}
