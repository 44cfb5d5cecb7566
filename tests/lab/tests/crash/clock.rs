//! The wall clock jumps by a year, either way, under a running daemon: decisions go by the boot clock.
//!
//! The machine's clock stays as it is. A library that is loaded before the C library answers the daemon's reads of
//! CLOCK_REALTIME with a shift that a file says.

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Lab, Namespace, Node, Program, Shim, example, wait_for};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);
/// A bit more, so that the calendar shows another year on any day.
const YEAR: i64 = 400 * 24 * 3600;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 6, 212, 145);
const POOL_TEXT: &str = "apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: 10-6-v4
spec:
  subnet: 10.6.0.0/16
  ips: [10.6.212.145]
";
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    long failed = syscall(SYS_clock_gettime, clock, time);
    char text[32] = {0};
    if (failed || clock != CLOCK_REALTIME) return failed;
    int file = open(getenv("WALL_SHIFT"), O_RDONLY);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
    close(file);
    return 0;
}
"#;

/// A node whose daemon sees another wall clock.
struct Rig {
    lab: Lab,
    shift: PathBuf,
}

impl Rig {
    fn start() -> Result<Self> {
        let lab = Lab::start_with(vec![example::worker01()])?;
        let rig = Self { shift: lab.folder().join("shift"), lab };
        let compile = Program::new("cc").args(["-shared", "-fPIC", "-x", "c", "-", "-o"]).arg(rig.library());
        rig.node().namespace().run(&compile.input(LIBRARY))?.success()?;
        rig.node().standalone().write("pool.yaml", POOL_TEXT)?;
        rig.jump(0)?;
        rig.serve()?;
        Ok(rig)
    }

    fn library(&self) -> PathBuf {
        self.lab.folder().join("wall.so")
    }

    fn serve(&self) -> Result<()> {
        let library = format!("LD_PRELOAD={}", self.library().display());
        let shift = format!("WALL_SHIFT={}", self.shift.display());
        self.node().daemon().start_under(&["env", &library, &shift], &["--cooldown", "600", "--budget", "8"])
    }

    /// The wall clock is this far from the machine's from now on.
    fn jump(&self, seconds: i64) -> Result<()> {
        let aside = self.shift.with_extension("new");
        fs::write(&aside, seconds.to_string())?;
        Ok(fs::rename(aside, &self.shift)?)
    }

    fn node(&self) -> &Node {
        &self.lab.nodes()[0]
    }

    fn shim(&self, container: &str, sandbox: &Namespace) -> Shim {
        self.node().shim("spiderpool").container(container).sandbox(sandbox).pod("default", container, container)
    }

    fn seen(&self) -> Result<Value> {
        self.lab.inspect(self.node()).address(ADDRESS)
    }
}

fn config() -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] });
    json!({ "cniVersion": "1.0.0", "name": "underlay", "type": "macvlan", "ipam": ipam })
}

/// The years of an address's facts, in their order.
fn years(seen: &Value) -> Vec<i64> {
    let facts = seen["history"].as_array().cloned().unwrap_or_default();
    facts.iter().filter_map(|fact| fact["at"].as_str()?.get(..4)?.parse().ok()).collect()
}

#[test]
fn no_decision_reads_the_wall_clock() -> Result<()> {
    let rig = Rig::start()?;
    let (first, second) = (rig.node().sandbox("a")?, rig.node().sandbox("b")?);
    rig.shim("c1", &first).call("ADD", config())?.result()?;
    first.ip(&["addr", "add", &format!("{ADDRESS}/16"), "dev", "lo"])?;
    rig.jump(YEAR)?;
    rig.shim("c1", &first).call("DEL", config())?.silent()?;
    // A wait is neither ended nor made longer.
    thread::scope(|scope| -> Result<()> {
        let caller = scope.spawn(|| rig.shim("c2", &second).call("ADD", config()));
        let waiting = || Ok((rig.lab.inspect(rig.node()).node()?["waiting"] == "1").then_some(()));
        wait_for("the ADD to wait", SOON, waiting)?;
        for shift in [4 * YEAR, -YEAR] {
            rig.jump(shift)?;
            ensure!(rig.lab.inspect(rig.node()).node()?["waiting"] == "1", "it waits on");
        }
        first.ip(&["addr", "flush", "dev", "lo"])?;
        caller.join().map_err(|_| anyhow!("the caller panicked"))??.result().map(drop)
    })?;
    rig.shim("c2", &second).call("DEL", config())?.silent()?;
    let cooling = |seen: Value| (seen["state"] == "ADDRESS_STATE_COOLING").then_some(seen);
    wait_for("the address to cool", SOON, || Ok(cooling(rig.seen()?)))?;
    for shift in [YEAR, -YEAR, 0] {
        rig.jump(shift)?;
        let seen = rig.seen()?;
        let left: u64 = seen["coolingSeconds"].as_str().unwrap_or_default().parse()?;
        ensure!(seen["state"] == "ADDRESS_STATE_COOLING" && (500..=601).contains(&left), "{seen}");
    }
    // A container's name may be used again right after its DEL.
    rig.jump(-YEAR)?;
    rig.shim("c2", &second).call("ADD", config())?.result()?;
    let before = rig.seen()?;
    // Facts say the time that the clock showed, in the order in which they happened.
    let is_a_year = |earlier: i64, later: i64| (1..=2).contains(&(later - earlier));
    let are_so = |years: &[i64]| match *years {
        [now, ahead, back, b, c] => is_a_year(now, ahead) && is_a_year(back, now) && [b, c] == [back; 2],
        _ => false,
    };
    ensure!(are_so(&years(&before)), "{before}");

    rig.node().daemon().kill()?;
    rig.jump(YEAR)?;
    rig.serve()?;
    ensure!(rig.seen()? == before, "{} {before}", rig.seen()?);
    let agent = spiderpool_lab::Product::find()?.agent;
    for arguments in [vec!["status"], vec!["why", "10.6.212.145"], vec!["why", "c2"]] {
        let program = Program::new(&agent).args(&arguments).arg("--socket").arg(rig.node().daemon().socket());
        let shown = rig.node().namespace().run(&program)?.success()?.stdout;
        ensure!(arguments == ["status"] || shown.contains("c2"), "{arguments:?}: {shown}");
    }
    rig.shim("c2", &second).call("DEL", config())?.silent()
}
