//! What happens to a node, and what that brings about.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::journal::Batch;
use crate::message::{Down, SessionId, Up};
use crate::node::attachment::{Allocation, Attachment, Held, Netns};
use crate::node::attachments::{MOST, WORD_KEPT};
use crate::node::lease::Counts;
use crate::plan::{Mac, Plan};
use crate::select::Want;
use crate::world::{PodId, PoolName};

/// Names a call that waits for a reply.
pub type Ticket = u64;

/// The time of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of the boot clock (CLOCK_BOOTTIME): what decisions read.
    pub boot: u64,
    /// Seconds since 1970: what people read.
    pub wall: u64,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Event {
    /// An attachment asks for addresses.
    Add(Box<Add>),
    /// The caller of an ADD that still waits is gone.
    Abandon(Ticket),
    /// An attachment gives its addresses back.
    Del {
        /// Who waits for the reply.
        ticket: Ticket,
        /// Who gives back.
        who: Attachment,
        /// When the DEL started, in nanoseconds of the boot clock.
        started: u64,
    },
    /// A sandbox's plan, extended by one attachment, before the kernel is touched.
    Plumb(Box<Plumb>),
    /// A DEL of the coordinator begins: no ADD that started earlier may plumb any more.
    Unplumb {
        /// Who waits for the reply.
        ticket: Ticket,
        /// Whose part it is.
        who: Attachment,
        /// When the DEL started.
        started: u64,
    },
    /// The kernel no longer has what this attachment's part of a plan wants; this is the plan without it.
    Unplumbed {
        /// Who waits for the reply.
        ticket: Ticket,
        /// Whose part it was.
        who: Attachment,
        /// The plan that stays.
        plan: Plan,
    },
    /// A session with the feeder opened.
    Opened,
    /// A message of the feeder.
    Session(SessionId, Down),
    /// The session ended.
    Closed(SessionId),
    /// What the kernel proves.
    Evidence(Evidence),
    /// A journal that is not of this boot takes over what is there, before the first ADD.
    Adopt {
        /// Who waits for the reply.
        ticket: Ticket,
        /// What is there.
        found: Found,
    },
    /// The addresses that an ADD was given were probed before they are answered.
    Probed(Box<Probed>),
    /// Time has come for something that waits.
    Due,
}

/// An ADD of the IPAM plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Who waits for the reply.
    pub ticket: Ticket,
    /// Who asks.
    pub who: Attachment,
    /// When its program started, in nanoseconds of the boot clock.
    pub started: u64,
    /// The Pod.
    pub pod: PodId,
    /// The sandbox's namespace.
    pub netns: Netns,
    /// One want a family; none: only a record can answer.
    pub wants: Vec<Want>,
    /// Until when it may wait, in nanoseconds of the boot clock.
    pub until: u64,
    /// Addresses are probed before they are answered: a quarantined one may be tried when there is no other.
    pub probes: bool,
}

/// What a probe came to of the addresses that an ADD was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Who waits for the reply.
    pub ticket: Ticket,
    /// Whose ADD.
    pub who: Attachment,
    /// When its program started, in nanoseconds of the boot clock.
    pub started: u64,
    /// What it was given, in the order of the reply.
    pub addresses: Vec<IpAddr>,
    /// What came of it.
    pub verdict: Verdict,
}

/// Whether probed addresses can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They can: nobody else was heard, or none of them was in quarantine and nothing could be heard.
    Fit,
    /// They cannot: these are used by strangers, who have these Ethernet addresses. None: for another reason.
    Unfit(BTreeMap<IpAddr, Mac>),
}

/// An ADD of the coordinator.
#[derive(Clone, Debug)]
pub struct Plumb {
    /// Who waits for the reply.
    pub ticket: Ticket,
    /// Who asks.
    pub who: Attachment,
    /// When its program started, in nanoseconds of the boot clock.
    pub started: u64,
    /// The Pod.
    pub pod: PodId,
    /// The sandbox's namespace.
    pub netns: Netns,
    /// The whole plan of the sandbox.
    pub plan: Plan,
}

/// What runtime and kernel know of when a journal begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Attachments by the runtime's cached results, in namespaces that live. The pools of their allocations do not count.
    pub held: Vec<(Attachment, Held)>,
    /// Addresses on links of namespaces that live.
    pub seen: Vec<(IpAddr, Netns)>,
}

/// What the kernel proves of sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing holds this namespace of a sandbox any more. Its addresses are dying: its links are there until the kernel
    /// has taken them down. A plan stays: what it wants of the host is there still, until whoever takes it away says so
    /// ([`Event::Unplumbed`]).
    SandboxGone {
        /// The sandbox.
        container: Arc<str>,
        /// Its namespace.
        netns: Netns,
    },
    /// This address, dying in this namespace, is on no link of it any more, or its links are gone with it.
    AddressGone(IpAddr, Netns),
    /// A probe heard nobody use this address, which was in quarantine since a probe at that time of the boot clock.
    Unused(IpAddr, u64),
}

/// What an ADD, a DEL or a plan gets to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The addresses, IPv4 first.
    Added(Vec<Allocation>),
    /// Done and durable.
    Done,
    /// Not done: nothing was given or planned.
    Refused(Refused),
}

/// Why an event was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A DEL that started later was served already, or an ADD that did, in another namespace.
    #[error("a call for this attachment that started later has been served")]
    Overtaken,
    /// The program started so long ago that it must have given up.
    #[error("the call started more than {} s ago", WORD_KEPT / 1_000_000_000)]
    TooOld,
    /// The sandbox has as many attachments as one may have.
    #[error("the sandbox has {MOST} attachments already, and may have no more")]
    Crowded,
    /// No record, and nothing wanted.
    #[error("the attachment holds no address")]
    Unknown,
    /// No address, now.
    #[error("no free address: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Exhausted(Vec<Shortage>),
}

/// Why a pool gave nothing, in counts of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The pool.
    pub pool: PoolName,
    /// Its counts.
    pub counts: Counts,
    /// Whether the feeder said that there is none to give.
    pub denied: bool,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { total, held, dying, cooling, quarantined, idle } = self.counts;
        write!(
            f,
            "pool {}: {total} leased here, {held} in use, {dying} dying, {cooling} cooling, {quarantined} quarantined, \
             {idle} idle",
            self.pool
        )?;
        f.write_str(if self.denied { "" } else { ", more were asked for and no answer came in time" })
    }
}

/// What is to be done besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Addresses are dying: look whether the kernel still has them.
    Look,
    /// A newer sandbox of the same Pod is here: look whether the namespace of this one is gone.
    LookAt {
        /// The older sandbox.
        container: Arc<str>,
        /// Its namespace.
        netns: Netns,
    },
}

/// What an event brings about. Everything but the batch leaves only after the batch is durable.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Rows to write.
    pub batch: Batch,
    /// Replies to calls.
    pub replies: Vec<(Ticket, Reply)>,
    /// Messages to the feeder.
    pub messages: Vec<(SessionId, Up)>,
    /// Things to look into.
    pub errands: Vec<Errand>,
}
