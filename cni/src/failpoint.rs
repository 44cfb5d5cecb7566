//! Fail points: places where a test ends a program by SIGKILL, to see what is left.
//!
//! Every place stands in the one list below. Programs are built with them by the feature `failpoints` alone; without it
//! [`reach`] is empty. With it, `SPIDERPOOL_FAIL_POINTS=NAME:HIT,NAME:HIT` kills the program the HIT-th time that it gets to
//! one of these, whichever comes first. Its last words on standard error say where.

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place in a program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$point),*];

            /// Its name; those of the CNI programs begin with `shim-`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name),*
                }
            }
        }
    };
}

points! {
    /// Start: the journal is open and replayed.
    StartReplayed = "start-replayed",
    /// Start: the spool is drained, sandboxes are not held against the kernel yet.
    StartDrained = "start-drained",
    /// Start: all is settled, nobody listens yet.
    StartSettled = "start-settled",
    /// A batch is decided, nothing of it is with the store.
    JournalDecided = "journal-decided",
    /// The store has the batch in memory.
    JournalApplied = "journal-applied",
    /// The store has handed the batch to the system; it may not be on the disk.
    JournalFlushed = "journal-flushed",
    /// The batch is on disk; no reply, message or errand is out.
    JournalSynced = "journal-synced",
    /// Replies, messages and errands of the batch are out.
    BatchReleased = "batch-released",
    /// ADD of the IPAM plugin: nothing is done yet.
    IpamAddBegun = "ipam-add-begun",
    /// The namespace is identified.
    IpamAddIdentified = "ipam-add-identified",
    /// The allocation is recorded, the answer is not given.
    IpamAddRecorded = "ipam-add-recorded",
    /// The addresses are probed, the node does not know.
    IpamAddProbed = "ipam-add-probed",
    /// DEL of the IPAM plugin: nothing is done yet.
    IpamDelBegun = "ipam-del-begun",
    /// The release is recorded, the answer is not given.
    IpamDelRecorded = "ipam-del-recorded",
    /// ADD of the coordinator: both namespaces were looked at, nothing is recorded.
    RoutesAddLooked = "routes-add-looked",
    /// The plan is recorded, the kernel is untouched.
    RoutesAddRecorded = "routes-add-recorded",
    /// The Pod's side is made, the host's is not.
    RoutesAddPodMade = "routes-add-pod-made",
    /// Both sides are made, the answer is not given.
    RoutesAddMade = "routes-add-made",
    /// Between two frames that announce an address.
    RoutesAnnouncing = "routes-announcing",
    /// The kernel refused a change, nothing is undone.
    RoutesAddRefused = "routes-add-refused",
    /// What was made is undone, the record still has the plan.
    RoutesAddUndone = "routes-add-undone",
    /// The record is as before the ADD that failed, the answer is not given.
    RoutesAddForgotten = "routes-add-forgotten",
    /// DEL of the coordinator: that it began is recorded, nothing is taken back.
    RoutesDelBegun = "routes-del-begun",
    /// Of a DEL, or of an ADD that is undone: the Pod's side is taken back, the host's is not.
    RoutesPodWithdrawn = "routes-pod-withdrawn",
    /// Both sides are taken back, the record still has the plan.
    RoutesDelWithdrawn = "routes-del-withdrawn",
    /// The record is erased, the answer is not given.
    RoutesDelErased = "routes-del-erased",
    /// Before each kernel setting that a plan wants.
    KernelSetting = "kernel-setting",
    /// Before each request to the kernel, also in the middle of a burst.
    KernelRequest = "kernel-request",
    /// The kernel shows a sandbox gone, nothing is given back.
    SandboxGone = "sandbox-gone",
    /// The host's side of a sandbox that is gone is taken back, its record is there.
    SandboxWithdrawn = "sandbox-withdrawn",
    /// Its plan is erased, its addresses are held.
    SandboxForgotten = "sandbox-forgotten",
    /// A look shows a dying address gone, the keeper does not know.
    AddressGone = "address-gone",
    /// A tombstone is carried out, its file is there.
    TombstoneDone = "tombstone-done",
    /// The file is removed.
    TombstoneRemoved = "tombstone-removed",
    /// A CNI program has its answer and has not printed it.
    ShimAnswered = "shim-answered",
    /// The file of a tombstone is made, and empty.
    ShimTombstoneMade = "shim-tombstone-made",
    /// It is written, not synced.
    ShimTombstoneWritten = "shim-tombstone-written",
    /// It is synced, not renamed.
    ShimTombstoneSynced = "shim-tombstone-synced",
    /// It is renamed, the folder is not synced.
    ShimTombstoneRenamed = "shim-tombstone-renamed",
}

/// The program is at a fail point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_: Point) {}

/// The program is at a fail point, and may end here.
#[cfg(feature = "failpoints")]
pub fn reach(point: Point) {
    use std::io::Write as _;

    if armed::is_last(point) {
        // In one write: the kill ends other threads in the middle of theirs, and a test reads whole lines.
        let _ = std::io::stderr().write_all(format!("fail point: {}\n", point.name()).as_bytes());
        // Every thread is ended before this call returns.
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::Point;

    /// Whether this is the time to end at the point. One thread alone is told so, as a program ends once.
    pub(super) fn is_last(point: Point) -> bool {
        static ARMED: OnceLock<Vec<(String, AtomicU64)>> = OnceLock::new();
        static ENDING: AtomicBool = AtomicBool::new(false);
        let mut armed = ARMED.get_or_init(read).iter().filter(|(name, _)| name == point.name());
        let due = armed.next().is_some_and(|(_, left)| left.fetch_sub(1, Ordering::Relaxed) == 1);
        due && !ENDING.swap(true, Ordering::Relaxed)
    }

    /// Where to end, and at which time.
    fn read() -> Vec<(String, AtomicU64)> {
        let value = std::env::var("SPIDERPOOL_FAIL_POINTS").unwrap_or_default();
        let parts = value.split(',').filter_map(|part| part.split_once(':'));
        parts.filter_map(|(name, hit)| Some((name.to_owned(), AtomicU64::new(hit.parse().ok()?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
