//! gRPC in: parses a request, spawns its story, renders what came of it. The only maker of a gRPC status; a CNI error is
//! a successful call.
//!
//! A story runs to its end whether or not its caller still listens: a call that is dropped only sets a token, which is
//! read while the story waits for an address. Once its event is in a batch it completes, and the record answers the
//! retry or the DEL.

use std::sync::Arc;
use std::time::Duration;

use spiderpool_cni::types::{CniError, CniVersion, Code};
use spiderpool_core::node::attachment::Plugin;
use spiderpool_proto::node::cni_reply::Outcome;
use spiderpool_proto::node::cni_server::Cni;
use spiderpool_proto::node::{CniReply, CniRequest};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

use crate::call::{Call, Ending, Failure, Rules, Verb};
use crate::clock;
use crate::coordinator::Coordinator;
use crate::evidence::settle::Settler;
use crate::ipam::Ipam;
use crate::keeper::Stopped;
use crate::metrics::Metrics;
use crate::room::{Full, Room};
use crate::spool::Spool;

pub(crate) mod incoming;
pub(crate) mod inspect;
pub(crate) mod peer;

/// Everything a call may need.
#[derive(Clone)]
pub(crate) struct Server {
    rooms: Arc<Rooms>,
    stories: TaskTracker,
}

/// The rooms behind the server.
pub(crate) struct Rooms {
    /// What requests are held against.
    pub rules: Rules,
    /// The disk that the journal lies on.
    pub room: Arc<Room>,
    /// Stories of the IPAM plugin.
    pub ipam: Ipam,
    /// Stories of the coordinator.
    pub coordinator: Coordinator,
    /// GC.
    pub settler: Settler,
    /// Tombstones that an ADD must take first.
    pub spool: Spool,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// A server over its rooms.
    pub(crate) fn new(rooms: Rooms) -> Server {
        Server { rooms: Arc::new(rooms), stories: TaskTracker::new() }
    }

    /// Carries out a DEL that nobody waits for: a tombstone. The inner error is the one a caller would have seen.
    pub(crate) async fn del(&self, request: CniRequest) -> Result<Result<(), CniError>, Stopped> {
        match self.story(Verb::Del, request, CancellationToken::new()).await {
            (_, Ok(_)) => Ok(Ok(())),
            (_, Err(Failure::Cni(error))) => Ok(Err(error)),
            (_, Err(Failure::Full(full))) => Ok(Err(CniError::new(Code::Io, full.to_string()))),
            (_, Err(Failure::Stopped(stopped))) => Err(stopped),
        }
    }

    /// Carries out what waits in the spool: all of it, or what comes before an ADD. Later, if the disk has no room for
    /// that.
    pub(crate) async fn drain(&self, before_add: Option<&CniRequest>) {
        if tokio::task::block_in_place(|| self.rooms.room.for_events()).is_err() {
            return;
        }
        self.rooms.spool.drain(before_add, |request| self.del(request)).await;
    }

    /// Waits until every story has ended, also those whose caller is gone. No new one may begin.
    pub(crate) async fn finish(&self) {
        self.stories.close();
        self.stories.wait().await;
    }

    async fn serve(&self, verb: Verb, request: CniRequest) -> Result<Response<CniReply>, Status> {
        let token = CancellationToken::new();
        let dropped = token.clone().drop_guard();
        let server = self.clone();
        let story = self.stories.spawn(async move {
            // A DEL that a program could not deliver comes before the ADD that follows it.
            if verb == Verb::Add && !server.rooms.spool.is_empty() {
                server.drain(Some(&request)).await;
            }
            server.story(verb, request, token).await
        });
        let (version, ending) =
            story.await.map_err(|panic| Status::internal(format!("a story ended early: {panic}")))?;
        drop(dropped.disarm());
        let outcome = match ending {
            Ok(result) => Outcome::Result(result),
            Err(Failure::Cni(error)) => Outcome::Error(error.render(version)),
            // The program leaves a tombstone, and need not wait.
            Err(Failure::Full(full)) => return Err(Status::resource_exhausted(full.to_string())),
            Err(Failure::Stopped(stopped)) => return Err(Status::unavailable(stopped.to_string())),
        };
        Ok(Response::new(CniReply { outcome: Some(outcome) }))
    }

    async fn story(&self, verb: Verb, request: CniRequest, cancelled: CancellationToken) -> (CniVersion, Ending) {
        let begun = clock::boot();
        let call = match Call::parse(verb, request, &self.rooms.rules) {
            Ok(call) => call,
            Err((version, error)) => {
                warn!(%verb, code = error.code.number(), error = %error.msg, "Refused a call");
                return (version, Err(error.into()));
            }
        };
        let ending = self.tell(&call, &cancelled).await;
        let took = Duration::from_nanos(clock::boot().saturating_sub(begun));
        self.note(&call, &ending, took);
        (call.config.cni_version, ending)
    }

    async fn tell(&self, call: &Call, cancelled: &CancellationToken) -> Ending {
        let Rooms { room, ipam, coordinator, settler, .. } = self.rooms.as_ref();
        // The disk may be one that hangs.
        match call.verb {
            Verb::Add => tokio::task::block_in_place(|| room.for_add()).map_err(full)?,
            Verb::Del => tokio::task::block_in_place(|| room.for_events())?,
            Verb::Gc => tokio::task::block_in_place(|| room.for_events()).map_err(full)?,
            Verb::Check | Verb::Status => {}
        }
        match (call.plugin, call.verb) {
            (Plugin::Ipam, Verb::Add) => ipam.add(call, cancelled).await,
            (Plugin::Ipam, Verb::Del) => ipam.del(call).await,
            (Plugin::Ipam, Verb::Check) => ipam.check(call).await,
            (Plugin::Coordinator, Verb::Add) => coordinator.add(call).await,
            (Plugin::Coordinator, Verb::Del) => coordinator.del(call).await,
            (Plugin::Coordinator, Verb::Check) => coordinator.check(call).await,
            (_, Verb::Gc) => settler.gc(call).await,
            // Whoever gets this answer has asked a daemon that serves: its journal is open and whole.
            (_, Verb::Status) => Ok(String::new()),
        }
    }

    fn note(&self, call: &Call, ending: &Ending, took: Duration) {
        let Metrics { allocation, release, coordinator, .. } = self.rooms.metrics.as_ref();
        let metrics = match (call.plugin, call.verb) {
            (Plugin::Ipam, Verb::Add) => Some(allocation),
            (Plugin::Ipam, Verb::Del) => Some(release),
            (Plugin::Coordinator, Verb::Add | Verb::Del) => Some(coordinator),
            _ => None,
        };
        let code = match ending {
            Ok(_) => None,
            Err(Failure::Cni(error)) => Some(error.code.number()),
            Err(Failure::Full(_) | Failure::Stopped(_)) => Some(Code::TryAgain.number()),
        };
        if let Some(metrics) = metrics {
            metrics.ended(took, code);
        }
        let Call { verb, plugin, who, pod, .. } = call;
        let plugin = match plugin {
            Plugin::Ipam => "ipam",
            Plugin::Coordinator => "coordinator",
        };
        let (container, interface, network) = (&*who.container, &*who.interface, &*who.network);
        let ms = (took.as_secs_f64() * 1e5).round() / 1e2;
        match ending {
            Ok(_) if *verb == Verb::Status || *verb == Verb::Check => {
                debug!(%verb, plugin, network, container, interface, ms, "Served");
            }
            Ok(_) => info!(
                %verb, plugin, network, container, interface,
                namespace = pod.namespace, pod = pod.name, ms, "Served"
            ),
            Err(failure) => warn!(
                %verb, plugin, network, container, interface,
                namespace = pod.namespace, pod = pod.name, code, error = %failure, ms, "Failed"
            ),
        }
    }
}

fn full(full: Full) -> CniError {
    CniError::new(Code::TryAgain, full.to_string())
        .with_details("it goes on by itself once there is room; a DEL is served, or waits in the spool, meanwhile")
}

#[tonic::async_trait]
impl Cni for Server {
    async fn add(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.serve(Verb::Add, request.into_inner()).await
    }

    async fn del(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.serve(Verb::Del, request.into_inner()).await
    }

    async fn check(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.serve(Verb::Check, request.into_inner()).await
    }

    async fn gc(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.serve(Verb::Gc, request.into_inner()).await
    }

    async fn status(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.serve(Verb::Status, request.into_inner()).await
    }
}
