//! SIGKILL at every fail point, under 32 callers of both plugins. Most attach one interface with IPv4, some two with both
//! families.
//!
//! Every place that the programs name is visited: those of the daemon in an order that is drawn, those of the CNI programs
//! by the callers all the while. After each round the callers keep what they have, and the checker holds kernel, records
//! and answers against each other; then everything is deleted, and nothing may be left. In the last rounds somebody else has
//! some of the addresses, and every address is probed.

mod caller;
mod home;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use spiderpool_lab::example::{self, UNDERLAY_LINK};
use spiderpool_lab::{
    Checker, Kept, Lab, Namespace, Node, Product, Stopwatch, Subnet, comes_true, never_shared, wait_for,
};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use caller::{Caller, Lots, Shared};
use home::Nic;

const CALLERS: usize = 32;
/// At each place, unless SPIDERPOOL_KILLS says more or fewer.
const KILLS: usize = 100;
/// The kills are spread over so many rounds, each of which visits all places in an order of its own and is judged.
const ROUNDS: usize = 10;
/// No address rests, so that each is given out again at once; an ADD that finds none fails soon. The gateway is probed, and
/// answers at once.
const FLAGS: [&str; 5] = ["--cooldown", "0", "--budget", "1", "--enable-gateway-detection"];
/// In the last rounds, as an ADD takes longer then.
const PROBED: [&str; 6] =
    ["--cooldown", "0", "--budget", "1", "--enable-gateway-detection", "--enable-ip-conflict-detection"];
const PROBED_ROUNDS: usize = 2;
/// Last bytes of the pool's addresses: a few less than there are callers, so that somebody waits for each that comes free.
const BYTES: RangeInclusive<u8> = 145..=174;
/// The same of the pools that those with two interfaces share: there are ten.
const FEW: RangeInclusive<u8> = 11..=18;
/// Of the places at one time.
const ARMED: usize = 8;
/// How long a daemon may live without getting to one of its places.
const LIFE: Duration = Duration::from_secs(10);
/// Lives in a row that do not get to one: then nothing leads there.
const IN_VAIN: usize = 5;
/// Between two GCs.
const PAUSE: Duration = Duration::from_millis(150);
/// Of the MAC addresses that some callers ask for, and that others have.
const PREFIX: &str = "0a:1b";

/// Most times that a place is passed before the daemon is killed there: some are passed many times a call, others in few.
fn passes(point: &str) -> u64 {
    match point {
        "kernel-request" => 40,
        "kernel-setting" => 6,
        _ if point.starts_with("journal-") => 6,
        _ if point.starts_with("ipam-") => 3,
        _ => 1,
    }
}

/// The pools of both interfaces and both families.
fn write_pools(node: &Node) -> Result<()> {
    let [first, last] = [BYTES.start(), BYTES.end()].map(|byte| Ipv4Addr::new(10, 6, 212, *byte));
    node.standalone().write_pool(&[(first, last)])?;
    let (few, [four, six]) = (FEW, Subnet::NET2);
    node.standalone().write_pool_of(&four, &format!("10.8.0.{}-10.8.0.{}", few.start(), few.end()))?;
    for (subnet, start) in [(Subnet::NET1[1], "fd00:10:6::"), (six, "fd00:10:8::")] {
        node.standalone().write_pool_of(&subnet, &format!("{start}{:x}-{start}{:x}", few.start(), few.end()))?;
    }
    Ok(())
}

/// Somebody has every MAC address that the prefix makes of an IPv4 address of the pools: setting it is refused by the
/// kernel.
fn rivals(node: &Node) -> Result<Namespace> {
    let rivals = node.sandbox("rivals")?;
    let reference = rivals.reference();
    let (mut links, mut up) = (String::new(), String::new());
    let net1 = BYTES.map(|byte| [10, 6, 212, byte]);
    for [a, b, c, d] in net1.chain(FEW.map(|byte| [10, 8, 0, byte])) {
        links += &format!(
            "link add link {UNDERLAY_LINK} name r{b}-{d} netns {reference} address {PREFIX}:{a:02x}:{b:02x}:{c:02x}:{d:02x} \
             type macvlan mode bridge\n"
        );
        up += &format!("link set r{b}-{d} up\n");
    }
    node.namespace().ip_batch(&links)?;
    rivals.ip_batch(&up)?;
    Ok(rivals)
}

/// From now on another machine uses the first address of each pool of IPv4, and of one of IPv6.
fn intrude(lab: &Lab) -> Result<[IpAddr; 3]> {
    let [four, further] = [Ipv4Addr::new(10, 6, 212, *BYTES.start()), Ipv4Addr::new(10, 8, 0, *FEW.start())];
    let six: Ipv6Addr = format!("fd00:10:6::{:x}", FEW.start()).parse()?;
    lab.topology().gateway.ip_batch(&format!(
        "addr add {four}/16 dev underlay\naddr add {further}/24 dev underlay\naddr add {six}/64 dev underlay nodad\n"
    ))?;
    Ok([four.into(), further.into(), six.into()])
}

fn kills() -> Result<usize> {
    env::var("SPIDERPOOL_KILLS")
        .map_or(Ok(KILLS), |text| text.parse().with_context(|| format!("SPIDERPOOL_KILLS={text}")))
}

/// Calls GC of both plugins now and then; the kernel decides, so an empty list is safe. It may find no daemon.
fn collect_garbage(node: &Node) -> Result<()> {
    for (network, program) in Nic::networks().iter().flat_map(|name| [(name, "spiderpool"), (name, "coordinator")]) {
        let config = json!({
            "cniVersion": "1.1.0", "name": network, "type": program, "cni.dev/valid-attachments": [],
        });
        drop(node.shim(program).call("GC", config)?);
    }
    Ok(())
}

/// How often the daemon was killed at each of its places.
type Kills<'a> = BTreeMap<&'a str, usize>;

/// Kills the daemon until it has died at each place so many times. Each life is to end at one of the places that have seen
/// the fewest deaths, whichever comes first.
fn kill_at_each(shared: &Shared<'_>, kills: &mut Kills<'_>, times: usize, lots: &mut Lots) -> Result<()> {
    let (node, mut in_vain) = (shared.node, 0);
    // A caller that has seen something wrong ends it.
    while !shared.over.load(Ordering::Relaxed) {
        let mut places: Vec<&str> =
            kills.iter().filter(|(_, count)| **count < times).map(|(place, _)| *place).collect();
        if places.is_empty() {
            return Ok(());
        }
        lots.shuffle(&mut places);
        places.sort_by_key(|place| kills[place]);
        let armed: Vec<_> = places.iter().take(ARMED).map(|place| (*place, 1 + lots.below(passes(place)))).collect();
        node.daemon().start_failing(&armed, shared.flags())?;
        match node.daemon().ends_within(LIFE)? {
            Some(status) if status.signal() == Some(Signal::SIGKILL as i32) => {
                let place = node.daemon().failed_at()?;
                *kills.get_mut(&*place).with_context(|| format!("nobody asked for {place}"))? += 1;
                in_vain = 0;
            }
            Some(status) => bail!("the daemon ended by itself: {status}"),
            None => {
                node.daemon().kill()?;
                in_vain += 1;
                ensure!(in_vain < IN_VAIN, "the daemon gets to none of {places:?}");
            }
        }
    }
    Ok(())
}

/// The callers at work while the daemon is killed. At the end each of them holds what it may hold.
fn storm(shared: &Shared<'_>, callers: &mut [Caller<'_>], kill: impl FnOnce() -> Result<()>) -> Result<()> {
    shared.over.store(false, Ordering::Relaxed);
    let collecting = AtomicBool::new(true);
    thread::scope(|scope| {
        let callers: Vec<_> = callers
            .iter_mut()
            .map(|caller| {
                scope.spawn(move || caller.work().inspect_err(|_| caller.shared.over.store(true, Ordering::Relaxed)))
            })
            .collect();
        let collector = scope.spawn(|| -> Result<()> {
            while collecting.load(Ordering::Relaxed) {
                collect_garbage(shared.node)?;
                thread::sleep(PAUSE);
            }
            Ok(())
        });
        let killed = kill();
        let killed = killed.and_then(|()| shared.node.daemon().start_with(shared.flags()));
        shared.over.store(true, Ordering::Relaxed);
        let worked =
            callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?);
        collecting.store(false, Ordering::Relaxed);
        let collected = collector.join().map_err(|_| anyhow!("the collector panicked"))?;
        killed.and(worked).and(collected)
    })
}

fn kept<'a>(callers: &'a [Caller<'_>]) -> Vec<Kept<'a>> {
    callers.iter().map(Caller::kept).collect()
}

/// What is kept is kept by all, also by the daemon after this one; then it goes, and nothing is left.
fn judge(checker: &Checker<'_>, shared: &Shared<'_>, callers: &mut [Caller<'_>]) -> Result<()> {
    let node = shared.node;
    let tenures = callers.iter().flat_map(|caller| &caller.tenures).chain(shared.strangers());
    never_shared(&tenures.cloned().collect::<Vec<_>>())?;
    // A sandbox that ended a moment ago is still on its way out of the kernel.
    let agree = |callers: &[Caller<'_>]| {
        let agree = || checker.records(&kept(callers)).and_then(|()| checker.kernel(&kept(callers)));
        comes_true(Duration::from_secs(10), agree)
    };
    collect_garbage(node)?;
    agree(callers).context("after the storm")?;
    checker.plans(&kept(callers))?;
    node.daemon().kill()?;
    node.daemon().start_with(shared.flags())?;
    agree(callers).context("after one more kill")?;
    for subnet in
        [Subnet::NET1[0], Subnet::NET1[1], Subnet::NET2[0]].iter().filter(|_| shared.strangers().next().is_some())
    {
        let counts = shared.inspect.counts(subnet.pool)?;
        ensure!(counts.quarantined == 1, "a probe saw the stranger of {}: {counts:?}", subnet.pool);
    }
    callers.iter_mut().try_for_each(Caller::let_go)?;
    agree(callers).context("after all was deleted")?;
    wait_for("nothing to be dying", Duration::from_secs(15), || {
        let dying = |pool: &Value| pool["dying"] != "0";
        Ok((!shared.inspect.pools()?.iter().any(dying)).then_some(()))
    })
}

/// Rules: Durable first, One holder, All or nothing, Live means held, DEL always ends.
#[test]
fn nothing_is_lost_shared_or_left_behind_wherever_a_program_is_killed() -> Result<()> {
    let programs = Product::with_fail_points()?;
    let points = programs.fail_points()?;
    let (of_shims, of_daemon): (Vec<_>, Vec<_>) = points.iter().cloned().partition(|point| point.starts_with("shim-"));
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.daemon().use_programs(programs)?;
    lab.join_ipv6()?;
    write_pools(node)?;
    node.daemon().start_with(&FLAGS)?;
    node.daemon().kill()?;
    let _rivals = rivals(node)?;
    let checker = Checker::new(node, lab.inspect(node))?;
    let shared = Shared::new(&lab, node, &checker, &of_shims);
    let mut callers = (0..CALLERS).map(|number| Caller::new(&shared, number)).collect::<Result<Vec<_>>>()?;
    let only = env::var("SPIDERPOOL_POINTS").unwrap_or_default();
    let chosen = of_daemon.iter().map(String::as_str).filter(|point| point.contains(&only));
    let (mut lots, mut killed) = (Lots::new(1), chosen.map(|point| (point, 0)).collect::<Kills<'_>>());
    for round in 1..=ROUNDS {
        let stopwatch = Stopwatch::start();
        let times = kills()? * round / ROUNDS;
        if round == ROUNDS - PROBED_ROUNDS + 1 {
            shared.beware(intrude(&lab)?);
        }
        let outcome = storm(&shared, &mut callers, || kill_at_each(&shared, &mut killed, times, &mut lots));
        let stormed = stopwatch.elapsed();
        let outcome = outcome.and_then(|()| judge(&checker, &shared, &mut callers));
        outcome.with_context(|| format!("round {round}; the log ends with:\n{}", log_end(node)))?;
        let (stormed, all) = (stormed.as_secs_f64(), stopwatch.elapsed().as_secs_f64());
        println!("round {round}: {times} kills at each place in {stormed:.1} s, judged in {:.1} s", all - stormed);
        node.daemon().kill()?;
        // What is remembered of old calls makes each start longer.
        fs::remove_dir_all(node.daemon().state().join("journal"))?;
    }
    let served_of = |interfaces: usize| -> usize {
        callers.iter().filter(|caller| caller.interfaces() == interfaces).map(|caller| caller.served).sum()
    };
    let (served, of_two) = (served_of(1) + served_of(2), served_of(2));
    println!("{served} ADDs were served, {of_two} of them for Pods with two interfaces");
    for (point, killed) in of_shims.iter().zip(shared.shim_kills()) {
        println!("{point}: {killed} kills");
        // A few places alone take too little time for all that.
        ensure!(!only.is_empty() || killed >= kills()?, "a CNI program was killed at {point} only {killed} times");
    }
    ensure!(!only.is_empty() || served > kills()? * killed.len() / 4, "only {served} ADDs were served");
    Ok(())
}

fn log_end(node: &Node) -> String {
    let log = node.daemon().log().unwrap_or_default();
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("GC does not list")).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
