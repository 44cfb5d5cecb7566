//! The program as a black box, where no daemon is needed: what it answers by itself, and what it does when the daemon
//! is away, silent, or hangs up.
#![allow(clippy::unwrap_used)] // clippy's allowance for tests does not reach the functions they share

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use spiderpool_cni::{shim::Plugin, spool, stamp};
use tempfile::TempDir;

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const TIMEOUT: Duration = Duration::from_millis(400);

/// The program in a folder of its own, with settings that lead nowhere but into that folder.
struct Shim {
    folder: TempDir,
}

struct Answer {
    output: Output,
    took: Duration,
}

impl Shim {
    fn new() -> Self {
        // In the target folder, where a hard link does: tests run in parallel, and the program is large unstripped.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let shim = Self { folder };
        fs::hard_link(env!("CARGO_BIN_EXE_spiderpool"), shim.program()).unwrap();
        let settings = json!({"socket": shim.socket(), "spool": shim.spool(), "timeout": TIMEOUT.as_secs_f64()});
        shim.set(&settings.to_string());
        shim
    }

    fn set(&self, settings: &str) {
        fs::write(self.settings(), settings).unwrap();
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("spiderpool")
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("spidernet-cni.json")
    }

    fn socket(&self) -> PathBuf {
        // Short: the path of a socket has at most 107 bytes, and the target folder may lie deep.
        Path::new("/tmp").join(format!("{}.sock", self.folder.path().file_name().unwrap().display()))
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("lib/spool")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.program());
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_PATH", "/opt/cni/bin");
        if !matches!(verb, "GC" | "STATUS") {
            command.envs([("CNI_CONTAINERID", "abc"), ("CNI_NETNS", "/run/netns/none"), ("CNI_IFNAME", "net1")]);
        }
        command
    }

    fn call(&self, verb: &str, version: &str) -> Answer {
        run(self.command(verb), &configuration(version))
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
    }
}

impl Answer {
    /// Holds it to be a CNI error and the only thing printed.
    fn error(&self) -> Value {
        assert_eq!(self.output.status.code(), Some(1), "{:?}", self.output);
        assert!(self.output.stderr.is_empty(), "{:?}", self.output);
        let error: Value = serde_json::from_slice(&self.output.stdout).unwrap();
        assert!(error["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{error}");
        error
    }

    fn expect(&self, code: u32, msg: &str) {
        let error = self.error();
        assert_eq!(error["code"], code, "{error}");
        assert!(error["msg"].as_str().unwrap().contains(msg), "wanted {msg:?}: {error}");
    }

    fn is_silent_success(&self) {
        assert!(self.output.status.success(), "{:?}", self.output);
        assert!(self.output.stdout.is_empty() && self.output.stderr.is_empty(), "{:?}", self.output);
    }
}

#[allow(clippy::disallowed_methods)] // the time that passes for the caller is what is measured
fn now() -> Instant {
    Instant::now()
}

fn run(mut command: Command, stdin: &str) -> Answer {
    let started = now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that ends before it read everything closes the pipe: that is its right.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Answer { output, took: started.elapsed() }
}

fn configuration(version: &str) -> String {
    json!({
        "cniVersion": version, "name": "macvlan-ens192", "type": "macvlan", "master": "ens192", "mode": "bridge",
        "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["10-6-v4"]}
    })
    .to_string()
}

#[test]
fn without_a_command_it_says_what_it_is() {
    let shim = Shim::new();
    let mut command = Command::new(shim.program());
    command.env_clear();
    let output = run(command, "").output;
    assert!(output.status.success() && output.stdout.is_empty());
    let about = String::from_utf8(output.stderr).unwrap();
    assert!(about.contains("CNI plugin spiderpool v") && about.contains(&VERSIONS.join(", ")), "{about}");
}

#[test]
fn arguments_for_people() {
    let shim = Shim::new();
    for (argument, text) in [("--version", "CNI plugin spiderpool v"), ("--help", "spidernet-cni.json")] {
        let output = Command::new(shim.program()).arg(argument).env_clear().output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(text));
    }
}

#[test]
fn version_is_answered_here_whatever_standard_input_holds() {
    let shim = Shim::new();
    shim.set("not even settings");
    for (stdin, spoken) in [("", "1.1.0"), ("junk", "1.1.0"), (r#"{"cniVersion": "9.9.9"}"#, "1.1.0")]
        .into_iter()
        .map(|(stdin, spoken)| (stdin.to_owned(), spoken))
        .chain(VERSIONS.map(|version| (configuration(version), version)))
    {
        let mut command = Command::new(shim.program());
        command.env_clear().env("CNI_COMMAND", "VERSION");
        let output = run(command, &stdin).output;
        assert!(output.status.success(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer, json!({"cniVersion": spoken, "supportedVersions": VERSIONS}));
    }
}

/// On a datagram socket each write is a message.
#[test]
fn the_answer_is_a_single_write() {
    let shim = Shim::new();
    for verb in ["VERSION", "STATUS"] {
        let (reader, writer) = UnixDatagram::pair().unwrap();
        let mut command = shim.command(verb);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::from(OwnedFd::from(writer))).spawn().unwrap();
        child.stdin.take().unwrap().write_all(configuration("1.1.0").as_bytes()).unwrap();
        child.wait().unwrap();
        let mut buffer = [0; 4096];
        reader.set_nonblocking(true).unwrap();
        let length = reader.recv(&mut buffer).unwrap();
        serde_json::from_slice::<Value>(&buffer[..length]).unwrap();
        // Zero once every writer is gone, or nothing: no second message.
        assert!(reader.recv(&mut buffer).map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |n| n == 0));
    }
}

#[test]
fn unknown_commands_and_missing_variables_are_code_4() {
    let shim = Shim::new();
    for command in ["add", "UPDATE", "ADD "] {
        shim.call(command, "1.0.0").expect(4, "CNI_COMMAND");
    }
    for (verb, all) in [
        ("ADD", "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
        ("CHECK", "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
        ("DEL", "CNI_CONTAINERID, CNI_IFNAME, CNI_PATH"),
        ("GC", "CNI_PATH"),
        ("STATUS", "CNI_PATH"),
    ] {
        let mut command = Command::new(shim.program());
        command.env_clear().env("CNI_COMMAND", verb);
        let answer = run(command, &configuration("1.1.0"));
        answer.expect(4, &format!("not set: {all}"));
        for name in all.split(", ") {
            let mut command = shim.command(verb);
            command.env_remove(name);
            let answer = run(command, &configuration("1.1.0"));
            answer.expect(4, &format!("not set: {name}"));
        }
    }
    for (name, value) in [
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_IFNAME", "longer-than-fifteen"),
        ("CNI_IFNAME", "a:b"),
    ] {
        let mut command = shim.command("DEL");
        command.env(name, value);
        run(command, &configuration("1.0.0")).expect(4, name);
    }
    assert!(!shim.spool().exists(), "a call that is refused leaves no tombstone");
}

#[test]
fn standard_input_is_checked() {
    let shim = Shim::new();
    for junk in ["", "{", "[1]x", "5", r#"{"cniVersion": 1}"#] {
        run(shim.command("ADD"), junk).expect(6, "standard input");
    }
    let large = format!(r#"{{"cniVersion": "1.0.0", "pad": "{}"}}"#, "x".repeat(1 << 20));
    run(shim.command("ADD"), &large).expect(6, "1 MiB");
    run(shim.command("ADD"), "{}").expect(1, "cniVersion is missing");
    for version in ["0.1.0", "0.2.0", "2.0.0"] {
        let answer = shim.call("DEL", version);
        answer.expect(1, version);
        assert_eq!(answer.error()["cniVersion"], "1.1.0");
        assert!(answer.error()["details"].as_str().unwrap().contains(&VERSIONS.join(", ")));
    }
}

#[test]
fn verbs_are_bound_to_the_versions_that_have_them() {
    let shim = Shim::new();
    for version in VERSIONS {
        let code = |verb: &str| shim.call(verb, version).error()["code"].as_u64().unwrap();
        assert_eq!(code("CHECK"), if version >= "0.4.0" { 11 } else { 1 }, "CHECK in {version}");
        assert_eq!(code("GC"), if version >= "1.1.0" { 11 } else { 1 }, "GC in {version}");
        assert_eq!(code("STATUS"), if version >= "1.1.0" { 50 } else { 1 }, "STATUS in {version}");
    }
}

#[test]
fn the_host_s_own_namespace_is_refused() {
    let shim = Shim::new();
    for verb in ["ADD", "CHECK"] {
        let mut command = shim.command(verb);
        command.env("CNI_NETNS", "/proc/self/ns/net");
        run(command, &configuration("1.0.0")).expect(8, "/proc/self/ns/net");
    }
}

#[test]
fn without_a_daemon_add_check_and_gc_wait_and_then_say_try_again() {
    let shim = Shim::new();
    for verb in ["ADD", "CHECK", "GC"] {
        let answer = shim.call(verb, "1.1.0");
        answer.expect(11, &shim.socket().display().to_string());
        assert!(answer.error()["details"].as_str().unwrap().contains("spiderpool-agent runs"));
        assert!(answer.took >= TIMEOUT - Duration::from_millis(60), "{verb} gave up after {:?}", answer.took);
    }
    for version in VERSIONS {
        assert_eq!(shim.call("ADD", version).error()["cniVersion"], version);
    }
}

#[test]
fn without_a_daemon_status_is_code_50_at_once() {
    let shim = Shim::new();
    let answer = shim.call("STATUS", "1.1.0");
    answer.expect(50, &shim.socket().display().to_string());
    assert!(answer.took < TIMEOUT, "{:?}", answer.took);
}

/// Rule: DEL always ends. Rule: Last word by start.
#[test]
fn without_a_daemon_del_leaves_the_whole_request_in_the_spool_at_once() {
    let shim = Shim::new();
    let before = stamp::now().unwrap();
    let mut command = shim.command("DEL");
    command.env("CNI_ARGS", "K8S_POD_NAME=web-0").env_remove("CNI_NETNS");
    let answer = run(command, &configuration("0.3.1"));
    answer.is_silent_success();
    assert!(answer.took < TIMEOUT, "{:?}", answer.took);

    let [entry] = <[_; 1]>::try_from(spool::read(&shim.spool(), |_| true).unwrap()).unwrap();
    let request = entry.request.unwrap();
    assert_eq!(request.plugin(), Plugin::Ipam);
    assert_eq!(
        (request.container_id.as_str(), request.interface.as_str(), request.netns.as_str()),
        ("abc", "net1", "")
    );
    assert_eq!((request.args.as_str(), request.path.as_str()), ("K8S_POD_NAME=web-0", "/opt/cni/bin"));
    assert_eq!(request.config, configuration("0.3.1"));
    let started = request.started.unwrap();
    assert_eq!(started.boot_id, before.boot_id);
    assert!(started.boottime_ns > before.boottime_ns && started.boottime_ns < stamp::now().unwrap().boottime_ns);
    assert_eq!(fs::metadata(shim.spool()).unwrap().permissions().mode() & 0o777, 0o700);

    for _ in 0..2 {
        shim.call("DEL", "1.1.0").is_silent_success();
    }
    assert_eq!(spool::read(&shim.spool(), |_| true).unwrap().len(), 3);
}

/// Rule: DEL always ends.
#[test]
fn a_del_that_is_not_answered_leaves_a_tombstone() {
    let shim = Shim::new();
    let silent = UnixListener::bind(shim.socket()).unwrap();
    let answer = shim.call("DEL", "1.0.0");
    answer.is_silent_success();
    assert!(answer.took >= TIMEOUT, "{:?}", answer.took);
    assert_eq!(spool::read(&shim.spool(), |_| true).unwrap().len(), 1);
    // The others say so.
    shim.call("ADD", "1.0.0").expect(11, "did not answer within 0.4 s");
    shim.call("STATUS", "1.1.0").expect(50, "did not answer within 0.4 s");
    drop(silent);
    // A socket file without a listener is what a killed daemon leaves.
    assert!(shim.socket().exists());
    shim.call("DEL", "1.0.0").is_silent_success();
    shim.call("ADD", "1.0.0").expect(11, "no daemon serves");
    shim.call("STATUS", "1.1.0").expect(50, "no daemon serves");
    assert_eq!(spool::read(&shim.spool(), |_| true).unwrap().len(), 2);
}

#[test]
fn a_broken_connection_is_tried_again_by_add_and_left_to_the_spool_by_del() {
    let shim = Shim::new();
    let listener = UnixListener::bind(shim.socket()).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    // Ends with the test's process.
    thread::spawn(move || {
        for _ in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let add = shim.call("ADD", "1.0.0");
    add.expect(11, "no daemon serves");
    assert!(add.took >= TIMEOUT - Duration::from_millis(60), "{:?}", add.took);
    assert!(count.swap(0, Ordering::SeqCst) > 1, "tried once only");

    let del = shim.call("DEL", "1.0.0");
    del.is_silent_success();
    assert!(del.took < TIMEOUT, "{:?}", del.took);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(spool::read(&shim.spool(), |_| true).unwrap().len(), 1);
}

#[test]
fn a_spool_that_cannot_be_written_is_code_5_and_named() {
    let shim = Shim::new();
    fs::write(shim.folder.path().join("lib"), "a file in the way").unwrap();
    shim.call("DEL", "1.0.0").expect(5, &shim.spool().display().to_string());
}

#[test]
fn settings_that_others_could_have_written_are_refused() {
    let shim = Shim::new();
    for (path, mode) in [(shim.settings(), 0o664), (shim.settings(), 0o646), (shim.folder.path().to_owned(), 0o775)] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for verb in ["ADD", "DEL", "STATUS"] {
            shim.call(verb, "1.1.0").expect(7, "writable by others than root");
        }
        fs::set_permissions(&path, before).unwrap();
    }
    std::os::unix::fs::chown(shim.settings(), Some(65534), None)
        .unwrap_or_else(|error| panic!("this test needs root: {error}"));
    shim.call("DEL", "1.1.0").expect(7, "belongs to uid 65534");
    assert!(!shim.spool().exists());
}

#[test]
fn wrong_settings_are_code_7_and_named() {
    let shim = Shim::new();
    for (settings, msg) in
        [("{", "no JSON object"), (r#"{"log": "/x"}"#, "\"log\" is not known"), (r#"{"timeout": -1}"#, "timeout is -1")]
    {
        shim.set(settings);
        shim.call("ADD", "1.0.0").expect(7, msg);
        shim.call("DEL", "1.0.0").expect(7, &shim.settings().display().to_string());
    }
}
