//! Asks the segment of a Pod's interface, before an address is configured there, whether somebody has it already, and
//! whether its gateway is there.
//!
//! What is asked first comes from nobody's address, so no neighbour's cache learns what is not true yet (RFC 5227). A
//! gateway that answers no such question is asked again from the address itself, if nobody was heard to have that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use spiderpool_core::node::attachment::Netns;
use spiderpool_core::plan::Mac;
use tokio::io::unix::AsyncFd;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::NetError;
use super::frame::{self, Heard};
use super::wire::Wire;

mod ear;

use ear::Ear;

/// How often a question is put.
const TIMES: u32 = 3;

/// How long an answer is waited for each time.
const WAIT: Duration = Duration::from_millis(100);

/// How long an interface that was down may take to find its carrier.
const CARRIER: Duration = Duration::from_secs(1);

/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(10);

/// From which Ethernet addresses this process probes now: two Pods of one node are no strangers to each other.
static ASKING: Mutex<BTreeMap<Mac, usize>> = Mutex::new(BTreeMap::new());

/// Where to ask from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The Pod's namespace.
    pub(crate) netns: Netns,
    /// Its interface.
    pub(crate) interface: String,
    /// The interface is being attached: it is set up for the probe, and an address that is asked about may be there
    /// already, from an attempt before. Otherwise whoever uses the interface has what it has.
    pub(crate) new: bool,
}

/// What is asked of the segment, about one address.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The address.
    pub(crate) address: IpAddr,
    /// Whether to wait for whoever has it.
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

/// Puts questions on the segment of an interface, until `stop` is ready, if that comes first: then it is what was found so
/// far. The interface is as it was before this ends. `proc` is where procfs is mounted.
///
/// # Errors
/// Nothing can be said: there is no such interface, it has no carrier, is of a kind that hears no answers, or the kernel
/// refused.
pub(crate) async fn probe(
    place: Place,
    proc: PathBuf,
    questions: &[Question],
    stop: impl Future<Output = ()>,
) -> Result<Findings, NetError> {
    let waited = questions.iter().filter(|question| question.conflict);
    let waited: Vec<IpAddr> = waited.map(|question| question.address).collect();
    let new = place.new;
    let open = move || -> Result<(Ear, BTreeMap<IpAddr, Mac>), NetError> {
        let ear = Ear::open(&place, &proc)?;
        let mut known = BTreeMap::new();
        for address in waited {
            let own = Some(ear.mac).filter(|_| !new && ear.own.contains(&address));
            known.extend(own.or(Ear::of_node(address)?).map(|mac| (address, mac)));
        }
        Ok((ear, known))
    };
    let (ear, known) = spawn_blocking(open).await.unwrap_or_else(|panic| Err(panicked(panic)))?;
    let mut hearing = Hearing::new(&ear, known, questions);
    let asking = Asking::from(ear.mac);
    let heard = tokio::select! {
        heard = hearing.ask_all(&ear.wire, questions) => heard,
        () = stop => Ok(()),
    };
    drop(asking);
    // Before the answer: whoever made the interface goes on with it.
    spawn_blocking(move || drop(ear)).await.map_err(panicked)?;
    heard.map_err(NetError::kernel("probe an address"))?;
    Ok(hearing.into_findings(questions))
}

fn panicked(panic: JoinError) -> NetError {
    NetError::kernel("probe an address")(io::Error::other(panic))
}

/// An entry in [`ASKING`], as long as it lives.
struct Asking(Mac);

impl From<Mac> for Asking {
    fn from(mac: Mac) -> Asking {
        *ASKING.lock().unwrap_or_else(PoisonError::into_inner).entry(mac).or_default() += 1;
        Asking(mac)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = asking.get_mut(&self.0) {
            *count -= 1;
            asking.retain(|_, count| *count > 0);
        }
    }
}

/// What has been heard so far.
struct Hearing {
    own: Mac,
    /// Addresses asked about.
    asked: BTreeSet<IpAddr>,
    /// Of these the ones for whose holders is waited.
    waited: BTreeSet<IpAddr>,
    /// Who has an address.
    holders: BTreeMap<IpAddr, Mac>,
    /// Gateways that have not answered.
    silent: BTreeSet<IpAddr>,
}

impl Hearing {
    fn new(ear: &Ear, holders: BTreeMap<IpAddr, Mac>, questions: &[Question]) -> Hearing {
        let elsewhere = questions.iter().filter(|question| !ear.own.contains(&question.address));
        let waited = elsewhere.clone().filter(|question| question.conflict);
        Hearing {
            own: ear.mac,
            asked: elsewhere.clone().map(|question| question.address).collect(),
            waited: waited.map(|question| question.address).chain(holders.keys().copied()).collect(),
            holders,
            silent: questions.iter().filter_map(|question| question.gateway).collect(),
        }
    }

    fn into_findings(mut self, questions: &[Question]) -> Findings {
        let wanted = |address: &IpAddr| questions.iter().any(|asked| asked.conflict && asked.address == *address);
        self.holders.retain(|address, _| wanted(address));
        Findings { taken: self.holders, silent: self.silent }
    }

    /// Puts all questions, until each has its answer or has been put often enough.
    async fn ask_all(&mut self, wire: &AsyncFd<Wire>, questions: &[Question]) -> io::Result<()> {
        for _ in 0..TIMES {
            let targets = self.asked.iter().chain(&self.silent);
            let frames = targets.map(|target| frame::probe(self.own, *target)).collect();
            if self.ask(wire, frames).await? {
                return Ok(());
            }
        }
        self.waited.clear();
        for _ in 0..TIMES {
            let free = questions.iter().filter(|question| !self.holders.contains_key(&question.address));
            let silent = free.filter_map(|question| Some((question.address, question.gateway?)));
            let silent = silent.filter(|(_, gateway)| self.silent.contains(gateway));
            let frames: Vec<_> = silent.filter_map(|(from, gateway)| frame::request(self.own, from, gateway)).collect();
            if frames.is_empty() || self.ask(wire, frames).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends frames and listens for a while. True: there is nothing left to ask.
    async fn ask(&mut self, wire: &AsyncFd<Wire>, frames: Vec<Vec<u8>>) -> io::Result<bool> {
        let until = Instant::now() + WAIT;
        for frame in frames.iter().filter(|_| !self.is_over()) {
            wire.get_ref().send(frame)?;
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
        let (address, mac, has) = match frame::heard(frame) {
            Some(Heard::Has(address, mac)) => (address, mac, true),
            Some(Heard::Wants(address, mac)) => (address, mac, false),
            None => return,
        };
        let is_ours = || ASKING.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&mac);
        if mac == self.own || !has && is_ours() {
            return;
        }
        if self.asked.contains(&address) {
            self.holders.insert(address, mac);
        }
        if has {
            self.silent.remove(&address);
        }
    }

    fn is_over(&self) -> bool {
        let heard = self.waited.iter().any(|address| self.holders.contains_key(address));
        heard || self.waited.is_empty() && self.silent.is_empty()
    }
}

#[cfg(test)]
mod tests;
