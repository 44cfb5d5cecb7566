//! Changes, made.

use std::io;

use nix::errno::Errno;
use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_core::plan::{Change, Object, Observation, Side};

use super::netlink::{errno, is_absent};
use super::{Connection, NetError, Sandbox, request};

/// One change that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{change}: {source}")]
pub(crate) struct Failure {
    /// What was tried.
    pub(crate) change: Change,
    /// The kernel's answer.
    pub(crate) source: io::Error,
}

/// What came of changes.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Those that were made, in order. One that the kernel had already is not among them.
    pub(crate) applied: Vec<Change>,
    /// Those that were refused.
    pub(crate) failures: Vec<Failure>,
}

/// Makes changes in order, the Pod's before the host's, and stops before the next kind of step when one was refused:
/// nothing is taken away unless all that comes in its place is there. The caller undoes what was applied.
pub(crate) fn apply(
    changes: &[Change],
    seen: &Observation,
    sandbox: Option<&mut Sandbox>,
    host: &mut Connection,
) -> Outcome {
    let mut work = Work { seen, sandbox, host, outcome: Outcome::default() };
    for side in [Side::Pod, Side::Host] {
        let own: Vec<&Change> = changes.iter().filter(|change| change.side() == side).collect();
        let removes = |change: &Change| matches!(change, Change::Remove { .. });
        for burst in own.chunk_by(|one, next| removes(one) == removes(next)) {
            work.make(burst, side);
            if !work.outcome.failures.is_empty() {
                return work.outcome;
            }
        }
        if side == Side::Pod {
            reach(Point::RoutesAddPodMade);
        }
    }
    work.outcome
}

/// Makes every change that can be made, in order: for DEL, and for undoing.
pub(crate) fn apply_all(
    changes: &[Change],
    seen: &Observation,
    sandbox: Option<&mut Sandbox>,
    host: &mut Connection,
) -> Outcome {
    let mut work = Work { seen, sandbox, host, outcome: Outcome::default() };
    for side in [Side::Pod, Side::Host] {
        let own: Vec<&Change> = changes.iter().filter(|change| change.side() == side).collect();
        work.make(&own, side);
        if side == Side::Pod {
            reach(Point::RoutesPodWithdrawn);
        }
    }
    work.outcome
}

struct Work<'a> {
    seen: &'a Observation,
    sandbox: Option<&'a mut Sandbox>,
    host: &'a mut Connection,
    outcome: Outcome,
}

impl Work<'_> {
    /// One burst in one namespace; kernel settings first. In a Pod's that is gone there is nothing to do.
    fn make(&mut self, changes: &[&Change], side: Side) {
        if side == Side::Pod && self.sandbox.is_none() {
            return;
        }
        let (settings, others): (Vec<&Change>, Vec<&Change>) =
            changes.iter().copied().partition(|change| matches!(change.object(), Object::Sysctl(_)));
        self.write(&settings);
        let links = &self.seen.side(side).links;
        let mut requests = Vec::new();
        let mut sent = Vec::new();
        for change in others {
            match request::request(change, links) {
                Ok(Some(request)) => {
                    requests.push(request);
                    sent.push(change);
                }
                Ok(None) => {}
                Err(missing) => self.judge(change, Err(io::Error::new(io::ErrorKind::NotFound, missing))),
            }
        }
        if requests.is_empty() {
            return;
        }
        let netlink = match (side, self.sandbox.as_deref_mut()) {
            (Side::Host, _) => &mut *self.host,
            (Side::Pod, Some(sandbox)) => &mut sandbox.netlink,
            (Side::Pod, None) => return,
        };
        match netlink.burst(requests) {
            Ok(answers) => sent.into_iter().zip(answers).for_each(|(change, answer)| self.judge(change, answer)),
            Err(error) => self.lost(&sent, &error),
        }
    }

    fn write(&mut self, changes: &[&Change]) {
        for change in changes {
            let (Change::Add { object: Object::Sysctl(to), .. } | Change::Replace { to: Object::Sysctl(to), .. }) =
                change
            else {
                continue;
            };
            if let Some(sandbox) = self.sandbox.as_deref() {
                reach(Point::KernelSetting);
                let answer = sandbox.sysctls.write(&to.key, &to.value);
                self.judge(change, answer);
            }
        }
    }

    /// What is there already is as wanted; what is to go and is gone too.
    fn judge(&mut self, change: &Change, answer: io::Result<()>) {
        match (change, answer) {
            (_, Ok(())) => self.outcome.applied.push(change.clone()),
            (Change::Add { .. }, Err(error)) if errno(&error) == Some(Errno::EEXIST) => {}
            (Change::Remove { .. }, Err(error)) if is_absent(&error) || error.kind() == io::ErrorKind::NotFound => {}
            (_, Err(source)) => self.outcome.failures.push(Failure { change: change.clone(), source }),
        }
    }

    /// The connection broke: each change may or may not have been made, so each is undone, and none counts as done.
    fn lost(&mut self, changes: &[&Change], error: &NetError) {
        for change in changes {
            self.outcome.applied.push((*change).clone());
            let source = io::Error::other(error.to_string());
            self.outcome.failures.push(Failure { change: (*change).clone(), source });
        }
    }
}
