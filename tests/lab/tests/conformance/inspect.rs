//! What an operator sees: gRPC with the foreign client, figures and probes over HTTP.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::Program;

use crate::rig::{Document, Rig, example_pool, pools};

#[test]
fn everything_is_listed_and_described() -> Result<()> {
    let rig = Rig::start()?;
    let inspect = rig.inspect();
    let print = |rest: &[&str]| -> Result<String> { Ok(inspect.client(&[], rest, "")?.success()?.stdout) };
    let services = print(&["list"])?;
    for service in ["spiderpool.node.v1.Cni", "spiderpool.node.v1.Inspect", "grpc.health.v1.Health"] {
        ensure!(services.lines().any(|line| line == service), "{services}");
        let methods = print(&["list", service])?;
        ensure!(methods.lines().count() > 0, "{service}");
        for method in methods.lines() {
            ensure!(print(&["describe", method])?.contains("rpc "), "{method}");
        }
    }
    ensure!(print(&["list", "spiderpool.node.v1.Cni"])?.lines().count() == 5);
    ensure!(print(&["describe", "spiderpool.node.v1.Allocation"])?.contains("string ipv4_pool"));
    for service in ["", "spiderpool.node.v1.Cni", "spiderpool.node.v1.Inspect"] {
        let health = inspect.call("grpc.health.v1.Health/Check", &json!({ "service": service }))?;
        ensure!(health["status"] == "SERVING", "{service}: {health}");
    }
    Ok(())
}

#[test]
fn allocations_come_in_pages() -> Result<()> {
    let rig = Rig::start()?;
    rig.pool(&Document::pool("other", "10.8.0.0/24", "10.8.0.10-10.8.0.19"))?;
    let sandbox = rig.node().sandbox("a")?;
    for container in ["e", "d", "c", "b", "a"] {
        rig.ipam(container, &sandbox).call("ADD", example_pool())?.result()?;
    }
    rig.ipam("c", &sandbox).interface("net2").call("ADD", pools(&["other"]))?.result()?;
    let inspect = rig.inspect();
    let all = inspect.allocations()?;
    let key = |held: &Value| {
        format!("{}/{}", held["containerId"].as_str().unwrap_or("?"), held["interface"].as_str().unwrap_or("?"))
    };
    let names: Vec<_> = all.iter().map(key).collect();
    ensure!(names == ["a/net1", "b/net1", "c/net1", "c/net2", "d/net1", "e/net1"], "{names:?}");
    for page in [1, 2, 3, 5, 6, 7, 1000] {
        ensure!(inspect.allocations_by(page)? == all, "by pages of {page}");
    }
    let held = &all[3];
    let since = held["since"].as_str().context("since")?;
    ensure!(since.len() == 20 && since.ends_with('Z'), "{since}");
    let mut rest = held.clone();
    rest.as_object_mut().context("an object")?.remove("since");
    let netns = sandbox.path().to_string_lossy();
    crate::rig::same(
        &rest,
        &json!({
            "network": "macvlan-ens192", "containerId": "c", "interface": "net2", "podNamespace": "default",
            "podName": "c", "podUid": "uid-of-c", "netns": netns, "ipv4": "10.8.0.10/24", "ipv4Pool": "other",
            "ipv6": "", "ipv6Pool": "", "node": "worker01",
        }),
    )?;
    let of_pool = inspect.call("spiderpool.node.v1.Inspect/ListAllocations", &json!({ "pool": "other" }))?;
    ensure!(of_pool["allocations"].as_array().map(Vec::len) == Some(1), "{of_pool}");
    for (request, word) in [(json!({ "page_size": 1001 }), "page_size"), (json!({ "page_token": "x" }), "page_token")] {
        let method = "spiderpool.node.v1.Inspect/ListAllocations";
        let finished = inspect.client(&["-d", "@"], &[method], &request.to_string())?;
        ensure!(!finished.status.success() && finished.stderr.contains(word), "{}{}", finished.stdout, finished.stderr);
    }
    Ok(())
}

#[test]
fn an_address_has_a_history() -> Result<()> {
    let rig = Rig::start_with(&["--cooldown", "0"])?;
    rig.pool(&Document::pool("one", "10.8.0.0/24", "10.8.0.10"))?;
    let sandbox = rig.node().sandbox("a")?;
    for container in ["c1", "c2"] {
        rig.ipam(container, &sandbox).call("ADD", pools(&["one"]))?.result()?;
        let seen = rig.inspect().address([10, 8, 0, 10])?;
        ensure!(seen["state"] == "ADDRESS_STATE_IN_USE" && seen["holder"]["containerId"] == container, "{seen}");
        rig.ipam(container, &sandbox).call("DEL", pools(&["one"]))?.silent()?;
    }
    rig.node().daemon().kill()?;
    rig.node().daemon().start()?;
    let seen = rig.inspect().address([10, 8, 0, 10])?;
    let history = seen["history"].as_array().cloned().unwrap_or_default();
    let told: Vec<_> = history.iter().map(|fact| (fact["kind"].as_str(), fact["containerId"].as_str())).collect();
    let (given, released) = (Some("FACT_KIND_ALLOCATED"), Some("FACT_KIND_RELEASED"));
    let expected = [(given, Some("c1")), (released, Some("c1")), (given, Some("c2")), (released, Some("c2"))];
    ensure!(told == expected, "{told:?}");
    let sequence = |fact: &Value| fact["sequence"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    ensure!(history.windows(2).all(|pair| sequence(&pair[0]) < sequence(&pair[1])), "{history:?}");
    let finished = rig.inspect().client(
        &["-d", "{\"address\": \"10.8.0.10/24\"}"],
        &["spiderpool.node.v1.Inspect/GetAddress"],
        "",
    )?;
    ensure!(!finished.status.success() && finished.stderr.contains("address"), "{}", finished.stderr);
    let stranger = rig.inspect().address([192, 0, 2, 1])?;
    ensure!(stranger["state"] == "ADDRESS_STATE_NOT_LEASED", "{stranger}");
    Ok(())
}

fn http(rig: &Rig, path: &str) -> Result<(String, String)> {
    let url = format!("http://127.0.0.1:5711{path}");
    let program = Program::new("curl").args(["-sS", "-m", "5", "-w", "\n%{http_code}", &url]);
    let output = rig.node().namespace().run(&program)?.success()?.stdout;
    let (body, status) = output.rsplit_once('\n').context("no status")?;
    Ok((status.to_owned(), body.to_owned()))
}

/// The names that dashboards of the field use.
#[test]
fn figures_have_the_usual_names_and_count() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    for container in ["c1", "c2"] {
        rig.ipam(container, &sandbox).call("ADD", example_pool())?.result()?;
    }
    rig.ipam("c1", &sandbox).call("DEL", example_pool())?.silent()?;
    rig.ipam("c3", &sandbox).call("ADD", pools(&["none-such"]))?.error(100, &[])?;
    let (status, text) = http(&rig, "/metrics")?;
    ensure!(status == "200", "{status}");
    let value = |name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    for (name, expected) in [
        ("spiderpool_ipam_allocation_counts_total", 3.0),
        ("spiderpool_ipam_allocation_failure_counts_total", 1.0),
        ("spiderpool_ipam_allocation_err_internal_counts_total", 0.0),
        ("spiderpool_ipam_allocation_err_no_available_pool_counts_total", 1.0),
        ("spiderpool_ipam_allocation_err_ip_used_out_counts_total", 0.0),
        ("spiderpool_ipam_release_counts_total", 1.0),
        ("spiderpool_ipam_release_failure_counts_total", 0.0),
        ("spiderpool_ipam_release_err_internal_counts_total", 0.0),
        ("spiderpool_ipam_allocation_duration_seconds_count", 3.0),
        ("spiderpool_attachments", 1.0),
    ] {
        ensure!(value(name) == Some(expected), "{name} is {:?}, not {expected}:\n{text}", value(name));
    }
    for kind in ["allocation", "release"] {
        for which in ["average", "max", "min", "latest"] {
            let name = format!("spiderpool_ipam_{kind}_{which}_duration_seconds");
            ensure!(value(&name).is_some_and(|seconds| seconds > 0.0), "{name}:\n{text}");
        }
    }
    for line in [
        "spiderpool_ipam_allocation_duration_seconds_bucket{le=\"0.3\"}",
        "spiderpool_pool_addresses{pool=\"10-6-v4\",state=\"in_use\"} 1",
        "spiderpool_journal_commit_duration_seconds_count",
    ] {
        ensure!(text.contains(line), "{line} is missing:\n{text}");
    }
    Ok(())
}

#[test]
fn probes_answer() -> Result<()> {
    let rig = Rig::start()?;
    for path in ["/livez", "/readyz", "/startupz"] {
        ensure!(http(&rig, path)?.0 == "200", "{path}");
    }
    ensure!(http(&rig, "/none")?.0 == "404");
    rig.node().daemon().kill()?;
    ensure!(http(&rig, "/readyz").is_err());
    Ok(())
}
