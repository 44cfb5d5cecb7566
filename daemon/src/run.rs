//! Wiring and shutdown: the one room that knows every other.
//!
//! Start: take the node's lock, open and replay the journal, lease from the feeder, drain the spool, hold the state
//! against the kernel, then listen. Stop: say NOT_SERVING, finish what runs, end. A kill at any moment is as safe: the
//! journal holds everything that was answered.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};
use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_core::journal::{Binding, BootId, CommitError, MachineId};
use spiderpool_core::world::Probes;
use spiderpool_proto::node::FILE_DESCRIPTOR_SET;
use spiderpool_proto::node::cni_server::CniServer;
use spiderpool_proto::node::inspect_server::InspectServer;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::call::Rules;
use crate::config::{LogFormat, RunArgs};
use crate::coordinator::Coordinator;
use crate::evidence::adopt::Search;
use crate::evidence::quarantine;
use crate::evidence::settle::Settler;
use crate::http::{self, Port};
use crate::ipam::{Ipam, Prober};
use crate::journal::replay::replay;
use crate::keeper::{Keeper, Outlets, Stopped};
use crate::metrics::{JournalMetrics, Metrics};
use crate::room::Room;
use crate::server::incoming::incoming;
use crate::server::inspect::Inspector;
use crate::server::{Rooms, Server, peer};
use crate::spool::Spool;
use crate::standalone::Standalone;
use crate::view::View;

/// How long calls that run may take to end when the daemon stops: longer than the longest wait of an ADD.
const DRAIN: Duration = Duration::from_secs(15);

/// How long work that blocks may take to end after that.
const LAST: Duration = Duration::from_secs(5);

/// Calls under way at a time, over all connections; the others wait in their sockets.
const CALLS: usize = 4096;

/// How often the spool is looked into while the daemon serves.
const SPOOL_PAUSE: Duration = Duration::from_secs(5);

/// Carries out `run`.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    start_logging(&args)?;
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read this boot's ID")?;
    let boot_id = boot_id.trim().to_owned();
    make_private(&args.state_dir)?;
    let _lock = lock(&args.state_dir.join("lock"))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(args, boot_id));
    // Not longer: work on a file system that hangs would keep the process, and its lock.
    runtime.shutdown_timeout(LAST);
    ended
}

fn start_logging(args: &RunArgs) -> anyhow::Result<()> {
    let filter: EnvFilter = args.log_level.parse().with_context(|| format!("--log-level {:?}", args.log_level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match args.log_format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// A folder for root alone.
fn make_private(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))
}

/// The node's lock, outside the journal's folder, taken before anything else is opened. It is held until the process
/// ends; another daemon's is waited for.
fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let open = || OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let mut file = open().with_context(|| format!("cannot open the lock {}", path.display()))?;
    let mut told = false;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => {
                if !told {
                    warn!(lock = %path.display(), "Another daemon serves this node; waiting until it ends");
                    told = true;
                }
                std::thread::sleep(Duration::from_millis(100));
                file = back;
            }
            Err((_, error)) => bail!("cannot take the lock {}: {error}", path.display()),
        }
    }
}

/// The state machine on its thread, as the journal says.
struct Opened {
    keeper: Keeper,
    ended: oneshot::Receiver<Result<(), CommitError>>,
    messages: mpsc::UnboundedReceiver<(u64, spiderpool_core::message::Up)>,
    errands: mpsc::UnboundedReceiver<spiderpool_core::node::event::Errand>,
}

fn open(args: &RunArgs, room: &Arc<Room>, boot_id: &str, metrics: JournalMetrics) -> anyhow::Result<Opened> {
    let boot = u128::from_str_radix(&boot_id.replace('-', ""), 16).context("this boot's ID is no UUID")?;
    let machine = machine_id(&args.machine_id);
    let here = Binding { boot: BootId(boot), node: Some(args.node_name.as_str().into()), machine };
    let cooldown = args.cooldown.as_nanos() as u64;
    let (journal, node) = replay(&args.state_dir.join("journal"), room, &here, cooldown)?;
    reach(Point::StartReplayed);
    let (messages_out, messages) = mpsc::unbounded_channel();
    let (errands_out, errands) = mpsc::unbounded_channel();
    let outlets = Outlets { messages: messages_out, errands: errands_out };
    let (keeper, ended) = Keeper::start(node, Box::new(journal), outlets, metrics, Arc::clone(room))?;
    Ok(Opened { keeper, ended, messages, errands })
}

/// The machine's ID, if it has one: not every image has the file, and on a first boot it says `uninitialized`
/// (machine-id(5)).
fn machine_id(path: &Path) -> Option<MachineId> {
    let text = fs::read_to_string(path).ok()?;
    let digits =
        Some(text.trim()).filter(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u128::from_str_radix(digits, 16).ok().map(MachineId)
}

async fn serve(args: RunArgs, boot_id: String) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let http = TcpListener::bind(args.http_listen)
        .await
        .with_context(|| format!("--http-listen {}: cannot listen", args.http_listen))?;
    let metrics = Arc::new(Metrics::new());
    let room = Arc::new(Room::new(&args.state_dir));
    let Opened { keeper, mut ended, mut messages, errands } = open(&args, &room, &boot_id, metrics.journal.clone())?;

    let (serving, is_serving) = watch::channel(false);
    let stop = CancellationToken::new();
    let port =
        Port { keeper: keeper.clone(), room: Arc::clone(&room), metrics: Arc::clone(&metrics), serving: is_serving };
    let http = tokio::spawn(http::serve(http, port, stop.clone().cancelled_owned()));

    let view = View::default();
    let search = Search {
        proc: args.proc.clone(),
        netns_folders: args.netns_folders.clone(),
        cni_caches: args.cni_caches.clone(),
    };
    let mut feeder = Standalone::open(
        &args.standalone,
        &args.state_dir,
        &args.node_name,
        view.clone(),
        keeper.clone(),
        search.clone(),
    )?;
    let adoption = async {
        feeder.begin(&mut messages).await?;
        search.adopt(&keeper).await
    };
    // May have to wait, for a namespace or for room on the disk; an end must not wait for it.
    tokio::select! {
        adopted = adoption => adopted.map_err(|stopped| why(stopped, &mut ended))?,
        _ = signals.any() => return Ok(()),
    }
    let mut feeder = tokio::spawn(feeder.run(messages));

    let coordinator = Coordinator::new(keeper.clone(), view.clone(), args.proc.clone(), metrics.warnings.clone());
    let settler = Settler {
        keeper: keeper.clone(),
        coordinator: coordinator.clone(),
        proc: args.proc.clone(),
        every: args.round,
        turn: Arc::default(),
    };
    let spool = Spool::new(args.spool.clone());
    let prober = Prober {
        keeper: keeper.clone(),
        probes: Probes { conflict: args.enable_ip_conflict_detection, gateway: args.enable_gateway_detection },
        proc: args.proc.clone(),
        metrics: metrics.probes.clone(),
    };
    let ipam = Ipam { keeper: keeper.clone(), view: view.clone(), budget: args.budget, prober };
    let rules = Rules { boot_id, netns_folders: args.netns_folders.clone(), named: Default::default() };
    let server = Server::new(Rooms {
        rules,
        room: Arc::clone(&room),
        ipam,
        coordinator,
        settler: settler.clone(),
        spool: spool.clone(),
        metrics,
    });
    let catching_up = async {
        // The spool is drained before anybody is served, and a disk without room lets no DEL pass.
        keeper.read(|_, _| ()).await?;
        server.drain(None).await;
        reach(Point::StartDrained);
        settler.round().await.map(drop)
    };
    tokio::select! {
        caught_up = catching_up => caught_up.map_err(|stopped| why(stopped, &mut ended))?,
        _ = signals.any() => return Ok(()),
    }
    reach(Point::StartSettled);
    let mut settling = tokio::spawn(settler.run(errands));
    let asking = tokio::spawn(quarantine::run(keeper.clone(), args.proc.clone()));
    let mut draining = tokio::spawn(drain_now_and_then(spool, server.clone()));

    let inspector = Inspector {
        keeper: keeper.clone(),
        view,
        node: args.node_name.clone(),
        feeder: format!("standalone {}", args.standalone.display()),
        proc: args.proc.clone(),
        room: Arc::clone(&room),
    };
    let listener = listen(&args.socket)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CniServer<Server>>().await;
    health.set_serving::<InspectServer<Inspector>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = tonic::transport::Server::builder()
        .layer(GlobalConcurrencyLimitLayer::new(CALLS))
        .layer(tonic::service::InterceptorLayer::new(peer::only_root))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(CniServer::new(server.clone()).max_decoding_message_size(2 << 20))
        .add_service(InspectServer::new(inspector));
    let mut grpc =
        tokio::spawn(router.serve_with_incoming_shutdown(incoming(listener), stop.clone().cancelled_owned()));
    // Nobody reads it if the HTTP port has ended; that is said below.
    let _ = serving.send(true);
    info!(socket = %args.socket.display(), http = %args.http_listen, node = args.node_name, "Serving");

    let reason = tokio::select! {
        // In this order: what ends of the keeper's end is no reason.
        biased;
        signal = signals.any() => Ok(signal),
        ended = &mut ended => Err(match ended {
            Ok(Err(error)) => error.into(),
            ended => anyhow!("the keeper ended: {ended:?}"),
        }),
        ended = &mut feeder => Err(anyhow!("the feeder ended: {ended:?}")),
        ended = &mut grpc => Err(anyhow!("the socket's server ended: {ended:?}")),
        ended = &mut settling => Err(anyhow!("the look at sandboxes ended: {ended:?}")),
        ended = &mut draining => Err(anyhow!("the spool's reader ended: {ended:?}")),
    };
    let signal = reason?;
    info!(signal, "Stopping");
    let _ = serving.send(false);
    health.set_not_serving::<CniServer<Server>>().await;
    stop.cancel();
    let finished = async {
        let _ = (&mut grpc).await;
        server.finish().await;
    };
    if tokio::time::timeout(DRAIN, finished).await.is_err() {
        warn!(seconds = DRAIN.as_secs(), "Calls were still running when the time to end was over");
    }
    for task in [settling, draining, asking] {
        task.abort();
    }
    keeper.stop().await;
    if let Ok(Err(error)) = ended.await {
        return Err(error.into());
    }
    feeder.abort();
    http.abort();
    info!("Stopped");
    Ok(())
}

/// What tells the daemon to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one; its name.
    async fn any(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Why the keeper ended: it says so before others hear that it has.
fn why(stopped: Stopped, ended: &mut oneshot::Receiver<Result<(), CommitError>>) -> anyhow::Error {
    match ended.try_recv() {
        Ok(Err(error)) => error.into(),
        _ => stopped.into(),
    }
}

/// A program that could not reach the daemon may leave a tombstone while the daemon serves already.
async fn drain_now_and_then(spool: Spool, server: Server) {
    loop {
        tokio::time::sleep(SPOOL_PAUSE).await;
        if !spool.is_empty() {
            server.drain(None).await;
        }
    }
}

/// The socket, in a folder for root alone. A file that is there and answers belongs to somebody; a stale one goes.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let folder = path.parent().context("--socket: the path has no folder")?;
    make_private(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o022 != 0 {
        let folder = folder.display();
        bail!("--socket: others than root may write {folder}; choose a folder of its own, or: chmod 0700 {folder}");
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("--socket {}: another program listens there", path.display()),
        // Connecting to what is no socket is refused, too.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            if !fs::symlink_metadata(path)?.file_type().is_socket() {
                bail!(
                    "--socket {}: a file that is no socket is there; remove it, or choose another path",
                    path.display()
                );
            }
            fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {}", path.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => bail!("--socket {}: {error}", path.display()),
    }
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    listener.with_context(|| format!("--socket {}: cannot listen", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_read_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machine-id");
        assert_eq!(machine_id(&file), None, "there is no file");
        assert_eq!(machine_id(folder.path()), None, "a mount of a file that is not there");
        for (text, id) in [
            ("0000000000000000000000000000002a\n", Some(MachineId(42))),
            ("", None),
            ("uninitialized\n", None),
            ("+000000000000000000000000000002a\n", None),
            ("2a\n", None),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(machine_id(&file), id, "{text:?}");
        }
    }
}
