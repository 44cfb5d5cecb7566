//! Asks the segment of a Pod's interface, before an address is configured there, whether somebody has it already, and
//! whether its gateway is there.
//!
//! What is asked first comes from nobody's address, so no neighbour's cache learns what is not true yet (RFC 5227). A
//! gateway that answers no such question is asked once more from the address itself, if nobody else has that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spiderpool_core::node::attachment::Netns;
use spiderpool_core::plan::{self, Ask, Change, Link, LinkAttribute, Mac, Object, SeenLink, Side};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::frame::{self, Heard};
use super::wire::Wire;
use super::{NetError, Sandbox, answer, observe, request};
use crate::clock;

/// How often a question is put.
const TIMES: u32 = 3;

/// How long an answer is waited for each time.
const WAIT: Duration = Duration::from_millis(100);

/// How long an interface that was down may take to find its carrier.
const CARRIER: Duration = Duration::from_secs(1);

/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(10);

/// Where to ask from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The Pod's namespace.
    pub(crate) netns: Netns,
    /// Its interface.
    pub(crate) interface: String,
    /// Nobody uses the interface yet: it is set up for the probe.
    pub(crate) new: bool,
}

/// What is asked of the segment, about one address.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The address.
    pub(crate) address: IpAddr,
    /// Whether to ask who has it.
    pub(crate) conflict: bool,
    /// A gateway that must answer.
    pub(crate) gateway: Option<IpAddr>,
}

/// What the segment answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Addresses that strangers have, and who they are. With one of these the rest was not asked to the end.
    pub(crate) taken: BTreeMap<IpAddr, Mac>,
    /// Gateways that did not answer.
    pub(crate) silent: BTreeSet<IpAddr>,
}

/// Puts questions on the segment of an interface. An address that the interface has itself is not asked about.
/// `proc` is where procfs is mounted.
///
/// # Errors
/// Nothing can be said: there is no such interface, it has no carrier, or the kernel refused.
pub(crate) async fn probe(place: Place, proc: PathBuf, questions: &[Question]) -> Result<Findings, NetError> {
    let until = clock::boot().saturating_add(CARRIER.as_nanos() as u64);
    let opened = tokio::task::spawn_blocking(move || Ear::open(&place, &proc, until)).await;
    let panicked = |panic| NetError::kernel("probe an address")(io::Error::other(panic));
    let Ear { wire, mac, own } = opened.unwrap_or_else(|panic| Err(panicked(panic)))?;
    let asked = |question: &&Question| question.conflict && !own.contains(&question.address);
    let free = questions.iter().filter(asked).map(|question| question.address).collect();
    let silent = questions.iter().filter_map(|question| question.gateway).collect();
    let found = Findings { taken: BTreeMap::new(), silent };
    let mut hearing = Hearing { own: mac, free, found };
    let heard = hearing.ask_all(&wire, questions).await;
    wire.into_inner().close();
    heard.map_err(NetError::kernel("probe an address"))?;
    Ok(hearing.found)
}

/// An interface that is up, and what it has.
struct Ear {
    wire: AsyncFd<Wire>,
    mac: Mac,
    own: BTreeSet<IpAddr>,
}

impl Ear {
    fn open(place: &Place, proc: &Path, until: u64) -> Result<Ear, NetError> {
        let Place { netns, interface, .. } = place;
        let mut sandbox = Sandbox::open(Path::new(&netns.path), proc, &Ask::default())?;
        if !sandbox.identity()?.is_same(netns) {
            return Err(NetError::NoNamespace(netns.path.clone()));
        }
        let link = set_up(&mut sandbox, place, until)?;
        let mac = link.mac.ok_or_else(|| refused(format!("{interface} has no Ethernet address")))?;
        let own = observe::addresses(&mut sandbox.netlink)?;
        let wire = Wire::open(&sandbox.namespace, link.index)?.listen()?;
        Ok(Ear { wire, mac, own })
    }
}

/// Sets a new interface up, and waits for its carrier: on one without it every address would seem free.
fn set_up(sandbox: &mut Sandbox, place: &Place, until: u64) -> Result<SeenLink, NetError> {
    let Place { interface, .. } = place;
    loop {
        let found = sandbox.netlink.get(&request::get_link_named(interface))?;
        let Some((link, message)) = found.as_ref().and_then(|message| Some((answer::link(message)?, message))) else {
            return Err(refused(format!("there is no interface {interface} yet")));
        };
        if answer::has_carrier(message) {
            return Ok(link);
        }
        if !link.up && place.new {
            let attribute = LinkAttribute::Up(true);
            let object = Object::Link(Link { side: Side::Pod, device: interface.clone(), attribute });
            let change = Change::Add { object, place: plan::Place::First };
            let request = request::request(&change, std::slice::from_ref(&link)).map_err(refused)?;
            for answer in sandbox.netlink.burst(request.into_iter().collect())? {
                answer.map_err(NetError::kernel(format!("set {interface} up")))?;
            }
        } else if clock::boot() >= until {
            return Err(refused(format!("{interface} has no carrier")));
        } else {
            std::thread::sleep(LOOK);
        }
    }
}

fn refused(reason: String) -> NetError {
    NetError::kernel("probe an address")(io::Error::other(reason))
}

/// What has been heard so far.
struct Hearing {
    own: Mac,
    /// Addresses asked about that nobody has claimed.
    free: BTreeSet<IpAddr>,
    found: Findings,
}

impl Hearing {
    /// Puts all questions, until each has its answer or has been put often enough.
    async fn ask_all(&mut self, wire: &AsyncFd<Wire>, questions: &[Question]) -> io::Result<()> {
        for _ in 0..TIMES {
            let targets = self.free.iter().chain(&self.found.silent);
            let frames = targets.map(|target| frame::probe(self.own, *target)).collect();
            if self.ask(wire, frames).await? {
                return Ok(());
            }
        }
        self.free.clear();
        for _ in 0..TIMES {
            let silent = questions.iter().filter_map(|question| Some((question.address, question.gateway?)));
            let silent = silent.filter(|(_, gateway)| self.found.silent.contains(gateway));
            let frames = silent.filter_map(|(from, gateway)| frame::request(self.own, from, gateway)).collect();
            if self.ask(wire, frames).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends frames and listens for a while. True: there is nothing left to ask.
    async fn ask(&mut self, wire: &AsyncFd<Wire>, frames: Vec<Vec<u8>>) -> io::Result<bool> {
        let until = Instant::now() + WAIT;
        for frame in frames {
            wire.get_ref().send(&frame)?;
        }
        while !self.is_over() {
            let Ok(ready) = timeout_at(until, wire.readable()).await else { return Ok(false) };
            match ready?.try_io(|wire| wire.get_ref().receive()) {
                Ok(Ok(frame)) => self.hear(&frame),
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                // Interrupted, or nothing there after all.
                Ok(Err(_)) | Err(_) if Instant::now() >= until => return Ok(false),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Ok(true)
    }

    fn hear(&mut self, frame: &[u8]) {
        let Some(heard) = frame::heard(frame) else { return };
        let (address, mac) = match heard {
            Heard::Has(address, mac) | Heard::Wants(address, mac) => (address, mac),
        };
        if mac == self.own {
            return;
        }
        if self.free.contains(&address) {
            self.found.taken.insert(address, mac);
        }
        if matches!(heard, Heard::Has(..)) {
            self.found.silent.remove(&address);
        }
    }

    fn is_over(&self) -> bool {
        !self.found.taken.is_empty() || self.free.is_empty() && self.found.silent.is_empty()
    }
}

#[cfg(test)]
mod tests;
