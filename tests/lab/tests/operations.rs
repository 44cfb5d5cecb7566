//! `docs/operations.md` is a test: every command that it prints is run on a node in trouble, and must print what stands
//! there. A line `…` stands for any lines. What differs from run to run is not compared: times, decimal numbers, random
//! IDs, MAC addresses, the width of columns. Paths of the lab are written as those of a real node.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Inspect, Lab, Namespace, Node, Pod, PodSpec, Product, Program, example, wait_for};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The sandbox that works, with address and routes.
const WEB: &str = "3f2a9c61d07be84c5e90a1f2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6";
/// The sandbox that had a DEL and still has its address on a link.
const BATCH_1: &str = "77d0e19b24c3a5f608172839405162738495a6b7c8d9eafb0c1d2e3f40516273";
/// The sandbox whose ADD waits for that address.
const BATCH_2: &str = "b41c7705a6f7e8d9cabb9c8d7e6f5041322314050617283940a1b2c3d4e5f607";
const SOON: Duration = Duration::from_secs(10);

/// A pool of one address.
const SCARCE: &str = "\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: 10-8-v4
spec:
  subnet: 10.8.0.0/24
  ips: [10.8.0.10]
";

/// A pool with a fault.
const FAULTY: &str = "\
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata:
  name: 10-9-v4
spec:
  subnet: 10.9.0.0/24
  gateway: 10.7.0.1
  ips: [10.9.0.10]
";

#[test]
fn every_command_of_the_operations_page_prints_what_it_says() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.standalone().write("scarce.yaml", SCARCE)?;
    node.standalone().write("faulty.yaml", FAULTY)?;
    node.daemon().start_with(&["--budget", "50"])?;
    let inspect = lab.inspect(node);

    let web = pod_with_routes(&lab, node)?;
    let (first, second) = (node.sandbox("batch-1")?, node.sandbox("batch-2")?);
    shim(node, BATCH_1, &first, "batch-1").call("ADD", scarce())?.result()?;
    net1(node, &first, "10.8.0.10/24")?;
    shim(node, BATCH_1, &first, "batch-1").call("DEL", scarce())?.silent()?;

    thread::scope(|scope| {
        let waits = scope.spawn(|| inspect.cni("Add", &request(&second)?));
        let walked = is_waiting(&inspect).and_then(|()| walk(&lab, node, &web));
        // What holds the address back goes, and the wait ends.
        first.ip(&["addr", "del", "10.8.0.10/24", "dev", "net1"])?;
        let Ok(answered) = waits.join() else { bail!("the waiting call panicked") };
        walked?;
        let result = answered?.ok().context("the waiting call failed")?;
        ensure!(result["ips"][0]["address"] == "10.8.0.10/24", "{result}");
        Ok(())
    })
}

/// The verbs say what is wrong and what to do.
#[test]
fn a_daemon_that_is_away_and_a_prefix_of_several_are_said_clearly() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    let fails = |arguments: &[&str], words: &[&str]| -> Result<()> {
        let program = Program::new(Product::find()?.agent).args(arguments);
        let program = program.env("SPIDERPOOL_SOCKET", node.daemon().socket().to_string_lossy());
        let finished = node.namespace().run(&program)?;
        ensure!(finished.status.code() == Some(1) && finished.stdout.is_empty(), "{arguments:?}: {finished:?}");
        for word in words {
            ensure!(finished.stderr.contains(word), "{arguments:?} should say {word:?}: {}", finished.stderr);
        }
        Ok(())
    };
    let socket = node.daemon().socket().to_string_lossy();
    fails(&["status"], &["no daemon serves", &socket, "systemctl start spiderpool-agent", "--socket"])?;
    node.daemon().start()?;
    let sandbox = node.sandbox("a")?;
    let network = pools(&["10-6-v4"]);
    for container in ["abc", "abd1", "abd2", "abd"] {
        shim(node, container, &sandbox, container).call("ADD", &network)?.result()?;
    }
    fails(&["why", "ab"], &["several containers", "\n  abc\n", "\n  abd\n", "\n  abd1\n", "\n  abd2"])?;
    fails(&["why", "zz"], &["no container that this node remembers", "\"zz\""])?;
    fails(&["why", ""], &["container_id is empty"])?;
    let why = |subject: &str| -> Result<String> {
        let socket = node.daemon().socket().to_string_lossy();
        let program = Program::new(Product::find()?.agent).args(["why", subject, "--socket", &*socket]);
        Ok(node.namespace().run(&program)?.success()?.stdout)
    };
    // An ID that is another's beginning is itself all the same, and one that is gone is remembered.
    ensure!(why("abd")?.starts_with("container  abd\n"));
    shim(node, "abc", &sandbox, "abc").call("DEL", &network)?.silent()?;
    let gone = why("abc")?;
    ensure!(gone.contains("addresses: none held") && gone.contains("taken back"), "{gone}");
    ensure!(why("10.6.212.146/16")?.starts_with("address    10.6.212.146\nstate      in use\n"));
    ensure!(why("192.0.2.1")?.contains("not leased to this node"));
    Ok(())
}

/// Dying addresses come in pages, in order, each with what the kernel shows.
#[test]
fn dying_addresses_come_in_pages() -> Result<()> {
    let lab = Lab::start_with(vec![example::worker01()])?;
    let node = &lab.nodes()[0];
    node.daemon().start()?;
    let sandbox = node.sandbox("a")?;
    let network = pools(&["10-6-v4"]);
    for container in ["a", "b", "c"] {
        let result = shim(node, container, &sandbox, container).call("ADD", &network)?.result()?;
        let address = result["ips"][0]["address"].as_str().context("an address")?;
        sandbox.ip(&["addr", "add", address, "dev", "lo"])?;
    }
    for container in ["c", "a", "b"] {
        shim(node, container, &sandbox, container).call("DEL", &network)?.silent()?;
    }
    let inspect = lab.inspect(node);
    let method = "spiderpool.node.v1.Inspect/ListDying";
    let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = inspect.call(method, &json!({ "page_size": 2, "page_token": token }))?;
        found.extend(page["dying"].as_array().cloned().unwrap_or_default());
        pages += 1;
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
    }
    let told: Vec<_> = found.iter().map(|one| (one["address"].as_str(), one["containerId"].as_str())).collect();
    let expected = [("10.6.212.145", "a"), ("10.6.212.146", "b"), ("10.6.212.147", "c")];
    ensure!(pages == 2 && told == expected.map(|(address, holder)| (Some(address), Some(holder))), "{pages} {found:?}");
    ensure!(found.iter().all(|one| one["reason"] == "DYING_REASON_CONFIGURED"), "{found:?}");
    for (request, word) in [(json!({ "page_size": 1001 }), "page_size"), (json!({ "page_token": "x" }), "page_token")] {
        let finished = inspect.client(&["-d", "@"], &[method], &request.to_string())?;
        ensure!(!finished.status.success() && finished.stderr.contains(word), "{}{}", finished.stdout, finished.stderr);
    }
    Ok(())
}

/// A Pod with `eth0`, a `net1` with an address of the pool, and the coordinator's routes.
fn pod_with_routes(lab: &Lab, node: &Node) -> Result<Pod> {
    let spec = PodSpec::new("web-0", "6d8f62a3-7c0e-4f3a-9d5b-3f1c8f0f7a01", Ipv4Addr::new(10, 233, 73, 210));
    let pod = lab.pod(node.name(), spec)?;
    let mut result = shim(node, WEB, pod.namespace(), "web-0").call("ADD", pools(&["10-6-v4"]))?.result()?;
    let address = result["ips"][0]["address"].as_str().context("an address")?;
    net1(node, pod.namespace(), address)?;
    let link = pod.namespace().ip_json(&["link", "show", "net1"])?;
    result["interfaces"] = json!([{ "name": "net1", "mac": link[0]["address"], "sandbox": pod.namespace().path() }]);
    result["ips"][0]["interface"] = 0.into();
    let config = json!({
        "cniVersion": "1.0.0", "name": "macvlan-ens192", "type": "coordinator", "mode": "overlay", "prevResult": result,
    });
    let coordinator = node.shim("coordinator").container(WEB).sandbox(pod.namespace());
    coordinator.pod("default", "web-0", "uid-of-web-0").call("ADD", config)?.result()?;
    Ok(pod)
}

/// A `net1` as macvlan makes it.
fn net1(node: &Node, sandbox: &Namespace, address: &str) -> Result<()> {
    node.make_macvlan(sandbox, "net1")?;
    sandbox.ip_batch(&format!("addr add {address} dev net1\nlink set net1 up\n"))
}

fn shim(node: &Node, container: &str, sandbox: &Namespace, pod: &str) -> spiderpool_lab::Shim {
    let shim = node.shim("spiderpool").container(container).sandbox(sandbox);
    shim.pod("default", pod, &format!("uid-of-{pod}"))
}

fn pools(names: &[&str]) -> Value {
    let ipam = json!({ "type": "spiderpool", "default_ipv4_ippool": names });
    json!({ "cniVersion": "1.0.0", "name": "macvlan-ens192", "type": "macvlan", "master": "ens192", "ipam": ipam })
}

fn scarce() -> Value {
    pools(&["10-8-v4"])
}

/// The ADD that is to wait: past the program, which would give up before the page is walked.
fn request(sandbox: &Namespace) -> Result<Value> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    Ok(json!({
        "plugin": "PLUGIN_IPAM",
        "container_id": BATCH_2,
        "netns": sandbox.path().to_string_lossy(),
        "interface": "net1",
        "args": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=batch-2;K8S_POD_UID=uid-of-batch-2",
        "started": { "boot_id": boot_id.trim(), "boottime_ns": format!("{}{:09}", now.tv_sec(), now.tv_nsec()) },
        "config": scarce().to_string(),
    }))
}

fn is_waiting(inspect: &Inspect) -> Result<()> {
    wait_for("an ADD to wait", SOON, || Ok((inspect.node()?["waiting"] == "1").then_some(())))
}

/// Runs the page.
fn walk(lab: &Lab, node: &Node, web: &Pod) -> Result<()> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md"))?;
    let steps = steps(&page);
    ensure!(steps.len() >= 12, "only {} commands found", steps.len());
    let socket = node.daemon().socket().to_string_lossy().into_owned();
    let namespaces = web.namespace().path().parent().context("a folder of namespaces")?.to_string_lossy().into_owned();
    let places = [
        ("/var/run/spidernet/spiderpool.sock", socket.as_str()),
        ("/etc/spidernet", &*node.standalone().path().to_string_lossy()),
        ("/var/run/netns", namespaces.as_str()),
    ];
    let own = Product::find()?.agent.parent().context("the daemon's folder")?.to_string_lossy().into_owned();
    let foreign = lab.tools().grpcurl.parent().context("the tools' folder")?.to_string_lossy().into_owned();
    let path = format!("{own}:{foreign}:{}", std::env::var("PATH").unwrap_or_default());
    let (mut variables, mut shown, mut wrong) = (String::new(), String::new(), Vec::new());
    for Step { command, expected } in &steps {
        let line = places.iter().fold(command.clone(), |line, (real, lab)| line.replace(real, lab));
        if is_assignment(command) {
            variables.push_str(&line);
            variables.push('\n');
            shown.push_str(&format!("# {command}\n"));
            continue;
        }
        let program = Program::new("bash").args(["-euo", "pipefail", "-c", &format!("{variables}{line}")]);
        let program = program.env("PATH", &path).env("SPIDERPOOL_SOCKET", &socket);
        let printed = node.namespace().run(&program)?.success()?.stdout;
        let printed = places.iter().fold(printed, |printed, (real, lab)| printed.replace(lab, real));
        shown.push_str(&format!("# {command}\n{printed}"));
        if let Err(error) = agrees(expected, &printed) {
            wrong.push(format!("`{command}`: {error}"));
        }
    }
    ensure!(wrong.is_empty(), "{}\n\nall that was printed:\n{shown}", wrong.join("\n"));
    Ok(())
}

/// A command of the page and what it prints there.
struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line.strip_prefix("# ")) {
            (false, _) => inside = line == "```console",
            (true, _) if line == "```" => inside = false,
            (true, Some(command)) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
            (true, None) => steps.iter_mut().last().into_iter().for_each(|step| step.expected.push(line.to_owned())),
        }
    }
    steps
}

fn is_assignment(command: &str) -> bool {
    let name = command.split('=').next().unwrap_or_default();
    command.contains('=') && name.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether the printed lines are the expected ones.
fn agrees(expected: &[String], printed: &str) -> Result<()> {
    let mut printed = printed.lines().map(even).peekable();
    let mut any = false;
    for line in expected {
        if line.trim() == "…" {
            any = true;
            continue;
        }
        let wanted = even(line);
        let found = if any { printed.find(|line| *line == wanted) } else { printed.next() };
        ensure!(found.as_ref() == Some(&wanted), "expected {wanted:?}, found {found:?}");
        any = false;
    }
    ensure!(any || printed.peek().is_none(), "more was printed: {:?}", printed.next());
    Ok(())
}

/// A line without what differs from run to run.
fn even(line: &str) -> String {
    line.split_whitespace().map(even_word).collect::<Vec<_>>().join(" ")
}

fn even_word(word: &str) -> String {
    let bare = word.trim_matches(|letter: char| "\",;".contains(letter));
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let kind = if bare.len() == 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T' {
        "TIME"
    } else if bare.len() == 32 && hex(bare) {
        "ID"
    } else if bare.len() == 17 && bare.split(':').count() == 6 && bare.split(':').all(hex) {
        "MAC"
    } else if bare.split_once('.').is_some_and(|(whole, rest)| digits(whole) && digits(rest)) {
        "NUMBER"
    } else {
        return word.to_owned();
    };
    word.replace(bare, kind)
}

/// The comparison can fail.
#[test]
fn what_is_printed_is_compared() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(agrees(&lines("a  1\n…\nat 2026-11-23T04:27:31Z"), "a 1\nx\ny\nat 2027-01-01T00:00:00Z\n").is_ok());
    assert!(agrees(&lines("a\nb"), "a\nx\nb\n").is_err());
    assert!(agrees(&lines("a\n…\nb"), "a\nx\n").is_err());
    assert!(agrees(&lines("a"), "a\nb\n").is_err());
    assert!(agrees(&lines("waits 1.5 s"), "waits 22.25 s\n").is_ok());
    assert!(agrees(&lines("from 10.6.0.1"), "from 10.6.0.2\n").is_err());
}
