//! The program against a stand-in for the daemon that answers as it is told: what is printed, what is tried again, what
//! goes to the spool.
#![allow(clippy::unwrap_used)] // clippy's allowance for tests does not reach the functions they share

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use spiderpool_cni::spool;
use spiderpool_proto::node::{
    CniReply, CniRequest,
    cni_reply::Outcome,
    cni_server::{Cni, CniServer},
};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, async_trait, transport::Server};

const TIMEOUT: Duration = Duration::from_secs(2);

type Script = Box<dyn Fn(usize) -> Result<Outcome, Status> + Send + Sync>;

/// Answers the n-th call as the script says, and keeps what it was asked.
struct Daemon {
    script: Script,
    asked: Arc<Mutex<Vec<(&'static str, CniRequest)>>>,
}

impl Daemon {
    fn answer(&self, verb: &'static str, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        let mut asked = self.asked.lock().unwrap();
        asked.push((verb, request.into_inner()));
        (self.script)(asked.len()).map(|outcome| Response::new(CniReply { outcome: Some(outcome) }))
    }
}

#[async_trait]
impl Cni for Daemon {
    async fn add(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.answer("ADD", request)
    }
    async fn del(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.answer("DEL", request)
    }
    async fn check(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.answer("CHECK", request)
    }
    async fn gc(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.answer("GC", request)
    }
    async fn status(&self, request: Request<CniRequest>) -> Result<Response<CniReply>, Status> {
        self.answer("STATUS", request)
    }
}

/// The program beside its settings; the daemon, once it was started.
struct Node {
    folder: TempDir,
    runtime: Runtime,
    asked: Arc<Mutex<Vec<(&'static str, CniRequest)>>>,
}

impl Node {
    fn new() -> Self {
        // A hard link in the target folder: a copy would be busy whenever another test forks while it is written.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_spiderpool"), folder.path().join("spiderpool")).unwrap();
        let node = Self { folder, runtime: Runtime::new().unwrap(), asked: Arc::default() };
        let settings = json!({"socket": node.socket(), "spool": node.spool(), "timeout": TIMEOUT.as_secs()});
        fs::write(node.folder.path().join("spidernet-cni.json"), settings.to_string()).unwrap();
        node
    }

    fn socket(&self) -> PathBuf {
        // Short: the path of a socket has at most 107 bytes, and the target folder may lie deep.
        Path::new("/tmp").join(format!("{}.sock", self.folder.path().file_name().unwrap().display()))
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn start(&self, script: impl Fn(usize) -> Result<Outcome, Status> + Send + Sync + 'static) {
        let daemon = Daemon { script: Box::new(script), asked: Arc::clone(&self.asked) };
        let _guard = self.runtime.enter();
        let incoming = UnixListenerStream::new(UnixListener::bind(self.socket()).unwrap());
        self.runtime.spawn(Server::builder().add_service(CniServer::new(daemon)).serve_with_incoming(incoming));
    }

    fn call(&self, verb: &str) -> Output {
        call(self.folder.path(), verb)
    }

    fn asked(&self) -> Vec<(&'static str, CniRequest)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
    }
}

const CONFIGURATION: &str =
    r#"{"cniVersion": "1.1.0", "name": "n", "type": "macvlan", "ipam": {"type": "spiderpool"}}"#;

fn call(folder: &Path, verb: &str) -> Output {
    let mut child = Command::new(folder.join("spiderpool"))
        .env_clear()
        .envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "abc"),
            ("CNI_NETNS", "/run/netns/none"),
            ("CNI_IFNAME", "net1"),
            ("CNI_ARGS", "K8S_POD_NAME=web-0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(CONFIGURATION.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn result(text: &str) -> Result<Outcome, Status> {
    Ok(Outcome::Result(text.to_owned()))
}

#[test]
fn each_verb_reaches_its_method_and_the_answer_is_printed_as_it_is() {
    let node = Node::new();
    // Not JSON, to show that nobody parses it.
    node.start(|n| result(&format!("answer {n}\n\n")));
    for (index, verb) in ["ADD", "CHECK", "DEL", "GC", "STATUS"].into_iter().enumerate() {
        let output = node.call(verb);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("answer {}\n\n", index + 1));
        let (asked, request) = node.asked().pop().unwrap();
        assert_eq!(
            (asked, request.config.as_str(), request.args.as_str()),
            (verb, CONFIGURATION, "K8S_POD_NAME=web-0")
        );
        let container = if matches!(verb, "GC" | "STATUS") { "" } else { "abc" };
        assert_eq!(request.container_id, container);
    }
    assert!(!node.spool().exists());
}

#[test]
fn an_error_is_printed_as_it_is_with_status_1() {
    let node = Node::new();
    node.start(|_| Ok(Outcome::Error("the error".to_owned())));
    for verb in ["ADD", "DEL", "STATUS"] {
        let output = node.call(verb);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"the error".as_slice()));
    }
    assert!(!node.spool().exists(), "an answered DEL leaves no tombstone");
}

/// Rule: Last word by start.
#[test]
fn add_waits_out_a_daemon_that_is_starting_with_one_stamp() {
    let node = Node::new();
    let folder = node.folder.path().to_owned();
    let caller = thread::spawn(move || call(&folder, "ADD"));
    thread::sleep(Duration::from_millis(300));
    node.start(|n| if n < 3 { Err(Status::unavailable("starting")) } else { result("{}") });
    let output = caller.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    let asked = node.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(_, request)| request.started == asked[0].1.started && request.started.is_some()));
}

#[test]
fn status_does_not_wait_for_a_daemon_that_is_starting() {
    let node = Node::new();
    node.start(|_| Err(Status::unavailable("starting")));
    let error: Value = serde_json::from_slice(&node.call("STATUS").stdout).unwrap();
    assert_eq!(error["code"], 50, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("starting"), "{error}");
    assert_eq!(node.asked().len(), 1);
}

/// Rule: DEL always ends.
#[test]
fn a_del_that_the_daemon_does_not_carry_out_goes_to_the_spool() {
    let node = Node::new();
    let codes = [Code::Unavailable, Code::Unimplemented, Code::Internal, Code::ResourceExhausted];
    node.start(move |n| Err(Status::new(codes[n - 1], "no")));
    for _ in codes {
        let output = node.call("DEL");
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
    assert_eq!(node.asked().len(), codes.len(), "each asked once");
    assert_eq!(spool::read(&node.spool(), |_| true).unwrap().len(), codes.len());
}

#[test]
fn a_refusal_is_not_tried_again() {
    let node = Node::new();
    node.start(|n| Err(if n == 1 { Status::resource_exhausted("too many") } else { Status::unimplemented("what?") }));
    for (code, msg) in [(11, "too many"), (5, "what?")] {
        let error: Value = serde_json::from_slice(&node.call("ADD").stdout).unwrap();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["msg"].as_str().unwrap().contains(msg), "{error}");
    }
    assert_eq!(node.asked().len(), 2);
}

/// Two hundred Pods at once: none may be turned away because others came first.
#[test]
fn a_crowd_is_served() {
    let node = Node::new();
    node.start(|_| result("{}"));
    let folder = node.folder.path();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..200).map(|_| scope.spawn(move || call(folder, "ADD"))).collect();
        for caller in callers {
            let output = caller.join().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    });
    assert_eq!(node.asked().len(), 200);
}
