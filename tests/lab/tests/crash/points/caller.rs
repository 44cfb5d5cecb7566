//! A caller: what a runtime does with one Pod after the other, without its processes.
//!
//! macvlan is played: its link is there all the time, and what it does with an address is done by `ip`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::example::{GATEWAY, POOL, SUBNET, UNDERLAY_LINK};
use spiderpool_lab::{Answer, Checker, Inspect, Kept, Lab, Node, Picture, Pod, PodSpec, Shim, Stopwatch, Tenure};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::PREFIX;

pub(super) const NETWORK: &str = "underlay";

/// What callers have in common.
pub(super) struct Shared<'a> {
    pub(super) lab: &'a Lab,
    pub(super) node: &'a Node,
    pub(super) inspect: Inspect,
    pub(super) over: AtomicBool,
    checker: &'a Checker<'a>,
    clock: Stopwatch,
    /// Places in the CNI programs, and how often one was killed there.
    points: Vec<(String, AtomicUsize)>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(lab: &'a Lab, node: &'a Node, checker: &'a Checker<'a>, points: &[String]) -> Self {
        let points = points.iter().map(|point| (point.clone(), AtomicUsize::new(0))).collect();
        let (inspect, over, clock) = (lab.inspect(node), AtomicBool::new(false), Stopwatch::start());
        Self { lab, node, inspect, over, checker, clock, points }
    }

    pub(super) fn shim_kills(&self) -> impl Iterator<Item = usize> {
        self.points.iter().map(|(_, killed)| killed.load(Ordering::Relaxed))
    }
}

/// Lots that fall the same in every run (xorshift64).
pub(super) struct Lots(u64);

impl Lots {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below a bound that is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

/// How a caller's Pods live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// ADD, DEL.
    Plain,
    /// The kernel refuses what the coordinator is to do, so its ADD fails.
    Refused,
    /// The sandbox ends and nobody calls DEL.
    Vanishing,
}

impl Kind {
    pub(super) fn of(number: usize) -> Self {
        match number % 8 {
            1 | 4 => Self::Refused,
            7 => Self::Vanishing,
            _ => Self::Plain,
        }
    }
}

/// How an ADD ended.
enum Added {
    Served(Value),
    /// With an error that says that nothing was done.
    Refused,
    /// Too late, or with the program: DEL must follow.
    Unknown,
}

/// One caller and its Pod.
pub(super) struct Caller<'a> {
    pub(super) shared: &'a Shared<'a>,
    number: usize,
    kind: Kind,
    lots: Lots,
    /// None for a moment only: between the end of a sandbox and the next one.
    home: Option<Home>,
    turns: u32,
    kept: Option<(String, Ipv4Addr)>,
    pub(super) tenures: Vec<Tenure>,
}

/// A Pod, and what its namespace looked like when it was made.
struct Home {
    pod: Pod,
    made: Picture,
}

impl Home {
    fn new(shared: &Shared<'_>, number: usize, turn: u32) -> Result<Self> {
        let eth0 = Ipv4Addr::new(10, 233, 73, u8::try_from(number)? + 1);
        let pod = shared.lab.pod(shared.node.name(), PodSpec::new(&format!("p{number:02}-{turn}"), "", eth0))?;
        let link = format!(
            "link add link {UNDERLAY_LINK} name net1 netns {} type macvlan mode bridge\n",
            pod.namespace().reference()
        );
        shared.node.namespace().ip_batch(&link)?;
        let made = Picture::take(pod.namespace())?;
        Ok(Self { pod, made })
    }
}

impl<'a> Caller<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, number: usize, kind: Kind) -> Result<Self> {
        let (lots, home) = (Lots::new(number as u64 + 2), Some(Home::new(shared, number, 0)?));
        Ok(Self { shared, number, kind, lots, home, turns: 0, kept: None, tenures: Vec::new() })
    }

    pub(super) fn kept(&self) -> Option<Kept<'_>> {
        let (container, address) = self.kept.as_ref()?;
        Some(Kept { container, pod: self.pod().0, address: *address })
    }

    pub(super) fn pod(&self) -> (&Pod, &Picture) {
        let home = self.home.as_ref().expect("there is one between calls");
        (&home.pod, &home.made)
    }

    /// One container after the other until it is over; the last one is kept, if its ADDs are served.
    pub(super) fn work(&mut self) -> Result<()> {
        loop {
            let over = self.shared.over.load(Ordering::Relaxed);
            self.turns += 1;
            let container = format!("c{:02}-{}", self.number, self.turns);
            self.turn(&container, over).with_context(|| container.clone())?;
            if over {
                return Ok(());
            }
        }
    }

    /// Deletes what was kept.
    pub(super) fn let_go(&mut self) -> Result<()> {
        let Some((container, address)) = self.kept.take() else { return Ok(()) };
        self.del("coordinator", &container)?;
        self.leave(&container, address)
    }

    fn turn(&mut self, container: &str, last: bool) -> Result<()> {
        let Added::Served(result) = self.add("spiderpool", container, &json!({}))? else {
            return self.del("spiderpool", container);
        };
        let address =
            result["ips"][0]["address"].as_str().and_then(|text| text.split_once('/')).context("no address")?;
        let address: Ipv4Addr = address.0.parse()?;
        let from = self.shared.clock.elapsed();
        self.tenures.push(Tenure { address, container: container.to_owned(), from, to: None });
        self.configure(address)?;
        let added = self.add("coordinator", container, &self.previous(address))?;
        if let Added::Served(_) = added {
            ensure!(self.kind != Kind::Refused, "the kernel should have refused");
            if self.lots.below(4) == 0 {
                // Also while the daemon is being killed: what was answered is there.
                let kept = Kept { container, pod: self.pod().0, address };
                self.shared.checker.attached(kept).context("right after the answer")?;
            }
            if last {
                self.kept = Some((container.to_owned(), address));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(self.lots.below(30)));
            if self.kind == Kind::Vanishing {
                return self.vanish();
            }
        }
        if let Added::Refused = added {
            // Nobody calls DEL: there must be nothing to delete.
            self.is_untouched(address).context("right after the refusal")?;
        } else {
            self.del("coordinator", container)?;
        }
        self.leave(container, address)
    }

    /// Rule: All or nothing. The Pod has what macvlan made, and no more.
    fn is_untouched(&self, address: Ipv4Addr) -> Result<()> {
        let (pod, made) = self.pod();
        let mut expected = made.objects.clone();
        expected.insert(format!("main: {SUBNET} dev net1 scope link src {address}"));
        expected.insert(format!("main: default via {GATEWAY} dev net1"));
        Picture::take(pod.namespace())?.has_exactly("the Pod", &expected)
    }

    /// As macvlan does: tells IPAM first, then takes its link away, which may take a while.
    fn leave(&mut self, container: &str, address: Ipv4Addr) -> Result<()> {
        self.del("spiderpool", container)?;
        thread::sleep(Duration::from_millis(self.lots.below(4) * 25));
        self.note_end();
        let namespace = self.pod().0.namespace();
        namespace.ip_batch(&format!("link set net1 down\naddr del {address}/16 dev net1\n"))
    }

    /// The sandbox ends; another one comes.
    fn vanish(&mut self) -> Result<()> {
        self.note_end();
        drop(self.home.take());
        self.home = Some(Home::new(self.shared, self.number, self.turns)?);
        Ok(())
    }

    fn note_end(&mut self) {
        if let Some(tenure) = self.tenures.last_mut() {
            tenure.to = Some(self.shared.clock.elapsed());
        }
    }

    /// What macvlan does with the address, in a namespace that is as a new one.
    fn configure(&self, address: Ipv4Addr) -> Result<()> {
        let namespace = self.pod().0.namespace();
        namespace.sysctl(&[("ipv4/conf/all/rp_filter", "1"), ("ipv4/conf/net1/rp_filter", "1")])?;
        namespace.ip_batch(&format!(
            "link set net1 up\naddr add {address}/16 dev net1\nroute prepend default via {GATEWAY} dev net1\n"
        ))
    }

    fn shim(&self, program: &str, container: &str) -> Shim {
        let shim = self.shared.node.shim(program).container(container).sandbox(self.pod().0.namespace());
        shim.pod("default", container, container)
    }

    fn previous(&self, address: Ipv4Addr) -> Value {
        json!({ "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "net1", "sandbox": self.pod().0.namespace().path() }],
            "ips": [{ "address": format!("{address}/16"), "gateway": "10.6.0.1", "interface": 0 }],
        } })
    }

    fn config(&self, program: &str, further: &Value) -> Value {
        let mut config = json!({ "cniVersion": "1.0.0", "name": NETWORK, "type": program });
        match program {
            "spiderpool" => config["ipam"] = json!({ "type": "spiderpool", "default_ipv4_ippool": [POOL] }),
            _ if self.kind == Kind::Refused => config["podMACPrefix"] = PREFIX.into(),
            _ => {}
        }
        for (key, value) in further.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }

    /// ADD, as it may end.
    fn add(&mut self, program: &str, container: &str, further: &Value) -> Result<Added> {
        let config = self.config(program, further);
        let shim = self.shim(program, container);
        // One in eight is killed with the answer in its hands.
        let point = (self.lots.below(8) == 0).then_some(0);
        let answer = self.call(shim, "ADD", &config, point)?;
        if answer.was_killed() {
            return Ok(Added::Unknown);
        }
        if answer.is_success() {
            return answer.result().map(Added::Served);
        }
        if answer.error(11, &[]).is_ok() {
            return Ok(Added::Unknown);
        }
        ensure!(self.kind == Kind::Refused && program == "coordinator", "{answer:?}");
        answer.error(5, &["the kernel refused: set pod link net1 address"])?;
        Ok(Added::Refused)
    }

    /// DEL, again and again until it is answered; every second one is killed somewhere, where it gets there.
    fn del(&mut self, program: &str, container: &str) -> Result<()> {
        let config = self.config(program, &json!({}));
        for attempt in 0.. {
            let points = self.shared.points.len() as u64;
            let point = (attempt == 0 && self.lots.below(2) == 0).then(|| self.lots.below(points));
            let answer = self.call(self.shim(program, container), "DEL", &config, point)?;
            if !answer.was_killed() {
                return answer.silent();
            }
        }
        Ok(())
    }

    fn call(&self, shim: Shim, verb: &str, config: &Value, point: Option<u64>) -> Result<Answer> {
        let Some((name, killed)) = point.and_then(|point| self.shared.points.get(point as usize)) else {
            return shim.call(verb, config);
        };
        let answer = shim.failing(name).call(verb, config)?;
        if answer.was_killed() {
            killed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }
}
