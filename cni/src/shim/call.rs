//! One call to the daemon, and what becomes of it when the daemon is away.
//!
//! | verb | nobody listens | the answer does not come |
//! |---|---|---|
//! | ADD, CHECK, GC | tries again until the timeout, then code 11 | the same: a daemon that restarts serves the retry |
//! | DEL | tombstone at once | tombstone |
//! | STATUS | code 50 at once | code 50 |
//!
//! A retry carries the same stamp: to the daemon it is the same call.

use std::{error::Error, io, mem::ManuallyDrop, path::Path, time::Duration};

use spiderpool_proto::node::{CniReply, CniRequest, cni_client::CniClient, cni_reply::Outcome};
use tokio::{
    runtime,
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{settings::Settings, verb::Verb};
use crate::{
    cause::{innermost, io_error},
    failpoint::{Point, reach},
    spool,
    types::{CniError, Code},
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two attempts at a socket whose queue is full.
const PAUSE_IN_CROWD: Duration = Duration::from_millis(5);

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// The daemon is not there, is going or coming, or the connection broke. What was sent may have been done.
    Away(String),
    /// It is there, but its queue of connections is full (connect(2), EAGAIN).
    Crowded(String),
    /// The time is up.
    Late,
    /// It refused; another attempt would end the same.
    Refused(CniError),
}

/// Calls the daemon.
///
/// # Errors
/// Codes 5, 6, 11 and 50, as the table above says.
pub(super) fn call(verb: Verb, request: CniRequest, settings: &Settings) -> Result<Outcome, CniError> {
    let reply = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Failure::Refused(CniError::new(Code::Io, format!("cannot start: {error}"))))
        // Not taken down: the program is about to end, and the kernel closes what it leaves open.
        .map(ManuallyDrop::new)
        .and_then(|runtime| runtime.block_on(converse(verb, &request, settings)))
        .and_then(|reply| {
            reply.outcome.ok_or_else(|| {
                Failure::Refused(CniError::new(Code::Decode, "the daemon's answer is empty: is it of another version?"))
            })
        });
    match reply {
        Ok(outcome) => {
            reach(Point::ShimAnswered);
            Ok(outcome)
        }
        Err(failure) if verb == Verb::Del => entomb(&request, settings, &failure),
        Err(failure) => Err(failure.into_error(verb, settings)),
    }
}

/// A DEL without an answer ends here, durably.
fn entomb(request: &CniRequest, settings: &Settings, failure: &Failure) -> Result<Outcome, CniError> {
    match spool::write(&settings.spool, request) {
        Ok(_) => Ok(Outcome::Result(String::new())),
        Err(error) => {
            let msg = format!(
                "DEL found no daemon and cannot leave its request in the spool {}: {error}",
                settings.spool.display()
            );
            Err(CniError::new(Code::Io, msg).with_details(failure.reason().to_owned()))
        }
    }
}

async fn converse(verb: Verb, request: &CniRequest, settings: &Settings) -> Result<CniReply, Failure> {
    let deadline = Instant::now() + settings.timeout;
    let waits = matches!(verb, Verb::Add | Verb::Check | Verb::Gc);
    loop {
        let attempt = timeout_at(deadline, attempt(verb, request.clone(), &settings.socket)).await;
        let failure = match attempt {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(failure)) => failure,
            Err(_) => return Err(Failure::Late),
        };
        let pause = match failure {
            Failure::Away(_) if waits => PAUSE,
            Failure::Crowded(_) => PAUSE_IN_CROWD,
            _ => return Err(failure),
        };
        let next = Instant::now() + pause;
        if next >= deadline {
            return Err(failure);
        }
        sleep_until(next).await;
    }
}

async fn attempt(verb: Verb, request: CniRequest, socket: &Path) -> Result<CniReply, Failure> {
    let mut client = CniClient::new(connect(socket).await?);
    let reply = match verb {
        Verb::Add => client.add(request).await,
        Verb::Del => client.del(request).await,
        Verb::Check => client.check(request).await,
        Verb::Gc => client.gc(request).await,
        Verb::Status | Verb::Version => client.status(request).await,
    };
    reply.map(tonic::Response::into_inner).map_err(Failure::from_status)
}

async fn connect(socket: &Path) -> Result<Channel, Failure> {
    let refused = |error: &(dyn Error + 'static)| {
        let reason = innermost(error);
        Failure::Refused(CniError::new(Code::Io, format!("cannot connect to {}: {reason}", socket.display())))
    };
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|error| refused(&error))?;
    endpoint.connect().await.map_err(|error| {
        let reason = innermost(&error).to_string();
        match io_error(&error).map(io::Error::kind) {
            Some(io::ErrorKind::WouldBlock) => Failure::Crowded(reason),
            // These do not mend while a call waits: not root, or no path of a socket.
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory) => {
                refused(&error)
            }
            // Missing, refused, or gone while hands were shaken, with whatever errno that showed.
            _ => Failure::Away(reason),
        }
    })
}

impl Failure {
    fn from_status(status: Status) -> Self {
        let reason = match status.source() {
            Some(source) => innermost(source).to_string(),
            None => status.message().to_owned(),
        };
        // A status with a source did not come from the daemon: the transport made it of a broken connection.
        if status.code() == tonic::Code::Unavailable || status.source().is_some() {
            return Self::Away(reason);
        }
        let code = match status.code() {
            tonic::Code::ResourceExhausted
            | tonic::Code::Cancelled
            | tonic::Code::DeadlineExceeded
            | tonic::Code::Aborted => Code::TryAgain,
            _ => Code::Io,
        };
        Self::Refused(CniError::new(code, format!("the daemon refused the call: {}: {reason}", status.code())))
    }

    fn reason(&self) -> &str {
        match self {
            Self::Away(reason) | Self::Crowded(reason) => reason,
            Self::Late => "the daemon did not answer in time",
            Self::Refused(error) => &error.msg,
        }
    }

    fn into_error(self, verb: Verb, settings: &Settings) -> CniError {
        let socket = settings.socket.display();
        let error = match self {
            Self::Refused(error) => error,
            Self::Late => {
                let seconds = settings.timeout.as_secs_f64();
                CniError::new(Code::TryAgain, format!("the daemon at {socket} did not answer within {seconds} s"))
                    .with_details("its log says what it waits for; kubelet tries again by itself")
            }
            Self::Away(reason) | Self::Crowded(reason) => {
                CniError::new(Code::TryAgain, format!("no daemon serves {socket}: {reason}"))
                    .with_details("see that spiderpool-agent runs on this node; kubelet tries again by itself")
            }
        };
        if verb == Verb::Status { CniError { code: Code::NotAvailable, ..error } } else { error }
    }
}
