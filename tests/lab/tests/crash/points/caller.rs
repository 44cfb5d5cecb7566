//! A caller: what a runtime does with one Pod after the other, without its processes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Answer, Attached, Checker, Inspect, Kept, Lab, Node, Shim, Stopwatch, Subnet, Tenure};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::home::{Home, Nic};
use super::{FLAGS, PREFIX, PROBED};

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
    /// Addresses that somebody else has from some time on.
    strangers: OnceLock<[Tenure; 3]>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(lab: &'a Lab, node: &'a Node, checker: &'a Checker<'a>, points: &[String]) -> Self {
        let points = points.iter().map(|point| (point.clone(), AtomicUsize::new(0))).collect();
        let (inspect, over, clock) = (lab.inspect(node), AtomicBool::new(false), Stopwatch::start());
        Self { lab, node, inspect, over, checker, clock, points, strangers: OnceLock::new() }
    }

    /// Somebody else has these addresses from now on.
    pub(super) fn beware(&self, addresses: [IpAddr; 3]) {
        let from = self.clock.elapsed();
        let tenure = |address| Tenure { address, container: "a stranger".into(), from, to: None };
        self.strangers.get_or_init(|| addresses.map(tenure));
    }

    pub(super) fn strangers(&self) -> impl Iterator<Item = &Tenure> {
        self.strangers.get().into_iter().flatten()
    }

    /// What the daemon is started with.
    pub(super) fn flags(&self) -> &'static [&'static str] {
        if self.strangers.get().is_some() { &PROBED } else { &FLAGS }
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
enum Kind {
    /// ADD, DEL.
    Plain,
    /// The kernel refuses what the coordinator is to do for the last interface, so its ADD fails.
    Refused,
    /// Every second sandbox ends and nobody calls DEL: its addresses are dying for a second then.
    Vanishing,
}

impl Kind {
    /// The kinds of callers, and whether they have one interface with IPv4, or two with both families.
    fn of(number: usize) -> (Self, bool) {
        match number % 16 {
            1 | 4 | 9 | 12 => (Self::Refused, false),
            5 | 13 => (Self::Refused, true),
            7 | 15 => (Self::Vanishing, false),
            3 => (Self::Vanishing, true),
            2 | 10 => (Self::Plain, true),
            _ => (Self::Plain, false),
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
    nics: &'static [Nic],
    lots: Lots,
    /// None for a moment only: between the end of a sandbox and the next one.
    home: Option<Home>,
    turns: u32,
    container: String,
    /// What the container has, in the order of the ADDs.
    attached: Vec<Attached>,
    pub(super) served: usize,
    pub(super) tenures: Vec<Tenure>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, number: usize) -> Result<Self> {
        let (kind, dual) = Kind::of(number);
        let nics = Nic::all(dual);
        let (lots, home) = (Lots::new(number as u64 + 2), Some(Home::new(shared, number, 0, nics)?));
        let (container, attached, tenures) = (String::new(), Vec::new(), Vec::new());
        Ok(Self { shared, number, kind, nics, lots, home, turns: 0, container, attached, served: 0, tenures })
    }

    /// How many interfaces its Pods have beside `eth0`.
    pub(super) fn interfaces(&self) -> usize {
        self.nics.len()
    }

    /// Between two calls.
    pub(super) fn kept(&self) -> Kept<'_> {
        let Home { pod, made } = self.home();
        Kept { container: &self.container, pod, made, attached: &self.attached }
    }

    /// One container after the other until it is over; the last one keeps what its ADDs were served.
    pub(super) fn work(&mut self) -> Result<()> {
        loop {
            let over = self.shared.over.load(Ordering::Relaxed);
            self.turns += 1;
            self.container = format!("c{:02}-{}", self.number, self.turns);
            self.turn(over).with_context(|| self.container.clone())?;
            if over {
                return Ok(());
            }
        }
    }

    /// Deletes all that is attached, the last interface first.
    pub(super) fn let_go(&mut self) -> Result<()> {
        while !self.attached.is_empty() {
            self.detach()?;
        }
        Ok(())
    }

    fn home(&self) -> &Home {
        self.home.as_ref().expect("there is one between calls")
    }

    fn turn(&mut self, last: bool) -> Result<()> {
        for nic in self.nics {
            if !self.attach(nic)? {
                break;
            }
        }
        if self.attached.len() > 1 && self.lots.below(2) == 0 {
            self.detach()?;
            if self.lots.below(2) == 0 {
                self.attach(&self.nics[self.attached.len()])?;
            }
        }
        if last || self.attached.is_empty() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(self.lots.below(30)));
        if self.kind == Kind::Vanishing && self.lots.below(2) == 0 { self.vanish() } else { self.let_go() }
    }

    /// ADD of both plugins. If it is not served, nothing stays of it.
    fn attach(&mut self, nic: &Nic) -> Result<bool> {
        let Added::Served(result) = self.add("spiderpool", nic, &json!({}))? else {
            self.del("spiderpool", nic.interface)?;
            return Ok(false);
        };
        let attached = Attached { interface: nic.interface, addresses: addresses(&result)? };
        let families: Vec<_> = attached.addresses.iter().map(IpAddr::is_ipv6).collect();
        let wanted: Vec<_> = nic.subnets.iter().map(|subnet| subnet.gateway.is_ipv6()).collect();
        ensure!(families == wanted, "all families, in their order, or none: {attached:?}");
        self.note_begin(&attached);
        self.home().configure(&attached, self.attached.is_empty())?;
        let added = self.add("coordinator", nic, &self.previous(&attached))?;
        if let Added::Served(_) = added {
            ensure!(!self.is_refused(nic.interface), "the kernel should have refused");
            self.attached.push(attached);
            if self.lots.below(4) == 0 {
                // Also while the daemon is being killed: what was answered is there.
                self.shared.checker.attached(self.kept()).context("right after the answer")?;
            }
            return Ok(true);
        }
        if let Added::Refused = added {
            // Nobody calls DEL: there must be nothing to delete.
            self.shared.checker.refused(self.kept(), &attached).context("right after the refusal")?;
        } else {
            self.del("coordinator", nic.interface)?;
        }
        self.leave(&attached)?;
        Ok(false)
    }

    /// DEL of both plugins for the interface that came last.
    fn detach(&mut self) -> Result<()> {
        let Some(attached) = self.attached.pop() else { return Ok(()) };
        self.del("coordinator", attached.interface)?;
        self.leave(&attached)?;
        if !self.attached.is_empty() && self.lots.below(2) == 0 {
            // A tombstone may stand for the DEL yet.
            self.shared.checker.untouched(self.kept()).context("right after another interface went")?;
        }
        Ok(())
    }

    /// As macvlan does: tells IPAM first, then takes its link away, which may take a while.
    fn leave(&mut self, attached: &Attached) -> Result<()> {
        self.del("spiderpool", attached.interface)?;
        thread::sleep(Duration::from_millis(self.lots.below(4) * 25));
        self.note_end(attached);
        self.home().strip(attached)
    }

    /// The sandbox ends; another one comes.
    fn vanish(&mut self) -> Result<()> {
        while let Some(attached) = self.attached.pop() {
            self.note_end(&attached);
        }
        drop(self.home.take());
        self.home = Some(Home::new(self.shared, self.number, self.turns, self.nics)?);
        Ok(())
    }

    fn note_begin(&mut self, attached: &Attached) {
        self.served += 1;
        let from = self.shared.clock.elapsed();
        for address in &attached.addresses {
            self.tenures.push(Tenure { address: *address, container: self.container.clone(), from, to: None });
        }
    }

    fn note_end(&mut self, attached: &Attached) {
        let now = self.shared.clock.elapsed();
        let open = |tenure: &&mut Tenure| tenure.to.is_none() && attached.addresses.contains(&tenure.address);
        for tenure in self.tenures.iter_mut().rev().filter(open).take(attached.addresses.len()) {
            tenure.to = Some(now);
        }
    }

    /// Whether the kernel refuses what the coordinator is to do for an interface.
    fn is_refused(&self, interface: &str) -> bool {
        self.kind == Kind::Refused && self.nics.last().is_some_and(|nic| nic.interface == interface)
    }

    fn shim(&self, program: &str, interface: &str) -> Shim {
        let shim = self.shared.node.shim(program).container(&self.container).sandbox(self.home().pod.namespace());
        shim.interface(interface).pod("default", &self.container, &self.container)
    }

    fn previous(&self, attached: &Attached) -> Value {
        let ip = |address: &IpAddr| {
            let subnet = Subnet::of(attached.interface, *address);
            json!({ "address": subnet.with_length(*address), "gateway": subnet.gateway, "interface": 0 })
        };
        json!({ "prevResult": {
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": attached.interface, "sandbox": self.home().pod.namespace().path() }],
            "ips": attached.addresses.iter().map(ip).collect::<Vec<_>>(),
        } })
    }

    fn config(&self, program: &str, nic: &Nic, further: &Value) -> Value {
        let mut config = json!({ "cniVersion": "1.0.0", "name": nic.network, "type": program });
        if program == "spiderpool" {
            config["ipam"] = json!({ "type": "spiderpool" });
            for (key, subnet) in ["default_ipv4_ippool", "default_ipv6_ippool"].iter().zip(nic.subnets) {
                config["ipam"][key] = json!([subnet.pool]);
            }
        } else if self.is_refused(nic.interface) {
            config["podMACPrefix"] = PREFIX.into();
        }
        for (key, value) in further.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }

    /// ADD, as it may end.
    fn add(&mut self, program: &str, nic: &Nic, further: &Value) -> Result<Added> {
        let config = self.config(program, nic, further);
        let shim = self.shim(program, nic.interface);
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
        ensure!(self.is_refused(nic.interface) && program == "coordinator", "{answer:?}");
        answer.error(5, &[&format!("the kernel refused: set pod link {} address", nic.interface)])?;
        Ok(Added::Refused)
    }

    /// DEL, again and again until it is answered; every second one is killed somewhere, where it gets there.
    fn del(&mut self, program: &str, interface: &str) -> Result<()> {
        let nic = self.nics.iter().find(|nic| nic.interface == interface).context("of another caller")?;
        let config = self.config(program, nic, &json!({}));
        for attempt in 0.. {
            let points = self.shared.points.len() as u64;
            let point = (attempt == 0 && self.lots.below(2) == 0).then(|| self.lots.below(points));
            let answer = self.call(self.shim(program, interface), "DEL", &config, point)?;
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

/// The addresses of a result.
fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let of = |ip: &Value| {
        let (address, _) = ip["address"].as_str().and_then(|text| text.split_once('/')).context("no address")?;
        Ok(address.parse()?)
    };
    result["ips"].as_array().into_iter().flatten().map(of).collect()
}
