//! ADD and DEL of the coordinator without a runner: results of older versions, and what it refuses.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::{Namespace, Pod, Shim, example, wait_for};

use crate::rig::{Rig, SOON, VERSIONS, same};

const NET1: &str = "10.6.212.150";

/// A Pod with `eth0` by Calico and a `net1` that was made by hand.
fn pod(rig: &Rig) -> Result<(Pod, Shim)> {
    let pod = rig.lab.pod("worker01", example::nginx_rswak())?;
    let shim = rig.node().shim("coordinator").container("c").sandbox(pod.namespace()).pod("default", "nginx", "uid-1");
    rig.node().make_macvlan(pod.namespace(), "net1")?;
    pod.namespace().ip_batch(&format!("addr add {NET1}/16 dev net1\nlink set net1 up\n"))?;
    // A moment after its ends are up no route is `linkdown` any more: that is no work of the coordinator.
    wait_for("the links to be up", SOON, || {
        let down = routing(pod.namespace())? + &routing(rig.node().namespace())?;
        Ok((!down.contains("linkdown")).then_some(()))
    })?;
    Ok((pod, shim))
}

fn config(version: &str, previous: Value) -> Value {
    json!({
        "cniVersion": version, "name": "macvlan-ens192", "type": "coordinator", "mode": "overlay", "prevResult": previous,
    })
}

/// A result as macvlan prints it.
fn result(version: &str, sandbox: &Namespace) -> Result<Value> {
    let link = sandbox.ip_json(&["link", "show", "net1"])?;
    let mac = link[0]["address"].as_str().context("no MAC address")?;
    let mut ip = json!({ "address": format!("{NET1}/16"), "gateway": "10.6.0.1", "interface": 0 });
    if version < "1.0.0" {
        ip["version"] = "4".into();
    }
    Ok(json!({
        "cniVersion": version,
        "interfaces": [{ "name": "net1", "mac": mac, "sandbox": sandbox.path() }],
        "ips": [ip],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.6.0.1" }],
        "dns": { "nameservers": ["10.233.0.3"] },
    }))
}

/// What there is of routing in a namespace.
fn routing(namespace: &Namespace) -> Result<String> {
    let parts = [vec!["rule"], vec!["-4", "route", "show", "table", "all"], vec!["neigh", "show", "nud", "permanent"]];
    parts.iter().map(|arguments| namespace.ip(arguments)).collect()
}

/// The `prevResult` of every version, in a configuration of every version from that one on.
#[test]
fn results_of_older_versions_are_read_and_printed_in_the_version_asked_for() -> Result<()> {
    let rig = Rig::start()?;
    let (pod, shim) = pod(&rig)?;
    let (inside, host) = (pod.namespace(), rig.node().namespace());
    let before = (routing(inside)?, routing(host)?);
    let mut with_routes = None;
    for (index, given) in VERSIONS.into_iter().enumerate() {
        for wanted in &VERSIONS[index..] {
            let mut previous = result(given, inside)?;
            let config = config(wanted, previous.clone());
            let answer = shim.call("ADD", &config)?.result()?;
            previous["cniVersion"] = (*wanted).into();
            let ip = previous["ips"][0].as_object_mut().context("an address")?;
            if *wanted < "1.0.0" {
                ip.insert("version".to_owned(), "4".into())
            } else {
                ip.remove("version")
            };
            same(&answer, &previous)?;
            // The same routes whatever the version, and twice is once.
            let now = (routing(inside)?, routing(host)?);
            ensure!(now != before, "{given} in {wanted} made no routes");
            let first = with_routes.get_or_insert_with(|| now.clone());
            ensure!(*first == now, "{given} in {wanted}:\n{}{}\nat first:\n{}{}", now.0, now.1, first.0, first.1);
            same(&shim.call("ADD", &config)?.result()?, &previous)?;
            let again = (routing(inside)?, routing(host)?);
            ensure!(
                again == now,
                "a second ADD should change nothing:\n{}{}\nfirst:\n{}{}",
                again.0,
                again.1,
                now.0,
                now.1
            );
            shim.call("DEL", &config)?.silent()?;
            let after = (routing(inside)?, routing(host)?);
            ensure!(after == before, "after DEL:\n{}{}\nbefore ADD:\n{}{}", after.0, after.1, before.0, before.1);
        }
    }
    Ok(())
}

#[test]
fn what_it_cannot_do_is_refused_and_leaves_nothing() -> Result<()> {
    let rig = Rig::start()?;
    let (pod, shim) = pod(&rig)?;
    let before = (routing(pod.namespace())?, routing(rig.node().namespace())?);
    let previous = result("1.0.0", pod.namespace())?;
    let with = |key: &str, value: Value| {
        let mut config = config("1.0.0", previous.clone());
        config[key] = value;
        config
    };
    shim.call("ADD", with("prevResult", Value::Null))?.error(7, &["prevResult is missing"])?;
    shim.call("ADD", with("mode", json!("underlay")))?.error(2, &["underlay"])?;
    let table: [(&str, Value, &str); 9] = [
        ("mode", json!("sideways"), "mode is \"sideways\": write auto, underlay, overlay or disabled"),
        ("tunePodRoutes", json!("yes"), "tunePodRoutes"),
        ("hostRuleTable", json!(0), "hostRuleTable is 0"),
        ("podRPFilter", json!(3), "podRPFilter is 3"),
        ("podMACPrefix", json!("0a-1b-2c"), "podMACPrefix"),
        ("podMACPrefix", json!("0b:1b"), "podMACPrefix"),
        ("hijackCIDR", json!(["169.254.0.0/33"]), "hijackCIDR[0]"),
        ("prevResult", json!({ "ips": [{ "address": "10.6.212.150" }] }), "prevResult.ips[0].address"),
        (
            "prevResult",
            json!({ "cniVersion": "1.0.0", "ips": [{ "address": "1.2.3.4/8", "interface": 7 }] }),
            "interface",
        ),
    ];
    for (key, value, word) in table {
        shim.call("ADD", with(key, value))?.error(7, &[word])?;
    }
    let after = (routing(pod.namespace())?, routing(rig.node().namespace())?);
    ensure!(after == before, "a failed ADD leaves:\n{}{}\nbefore:\n{}{}", after.0, after.1, before.0, before.1);
    ensure!(rig.inspect().node()?["plans"] == "0");
    // Disabled: the result goes through as it is, and CHECK holds the interface against nothing, whatever the mode is now.
    let disabled = with("mode", json!("disabled"));
    let answer = shim.call("ADD", disabled.clone())?.result()?;
    same(&answer, &previous)?;
    for now in [disabled.clone(), config("1.0.0", previous)] {
        shim.call("CHECK", now)?.silent()?;
    }
    ensure!((routing(pod.namespace())?, routing(rig.node().namespace())?) == before);
    shim.call("DEL", disabled)?.silent()?;
    ensure!(rig.inspect().node()?["plans"] == "0");
    ensure!((routing(pod.namespace())?, routing(rig.node().namespace())?) == before);
    Ok(())
}

/// NotReady says why.
#[test]
fn a_cluster_that_is_not_synced_is_code_11_with_the_reason() -> Result<()> {
    let rig = Rig::start()?;
    let (pod, shim) = pod(&rig)?;
    let document = std::fs::read_to_string(rig.node().standalone().path().join("coordinator.yaml"))?;
    rig.node().standalone().write("coordinator.yaml", &document.replace("Synced", "NotReady"))?;
    let config = config("1.0.0", result("1.0.0", pod.namespace())?);
    wait_for("the coordinator to be not ready", SOON, || {
        let answer = shim.call("ADD", &config)?;
        Ok((!answer.is_success()).then_some(answer))
    })?
    .error(11, &["SpiderCoordinator default is not ready"])?;
    // DEL needs none of it.
    rig.node().standalone().remove("coordinator.yaml")?;
    shim.call("DEL", &config)?.silent()
}

/// Rule: DEL always ends. Without a namespace the host's side goes all the same.
#[test]
fn del_withdraws_what_is_left_of_a_sandbox() -> Result<()> {
    let rig = Rig::start()?;
    let (pod, shim) = pod(&rig)?;
    let config = config("1.0.0", result("1.0.0", pod.namespace())?);
    for _ in 0..3 {
        shim.call("DEL", &config)?.silent()?;
    }
    shim.call("ADD", &config)?.result()?;
    let host = rig.node().namespace();
    ensure!(host.ip(&["route", "show", "table", "500"])?.contains(NET1));
    let rules = host.ip(&["rule"])?;
    ensure!(rules.contains("lookup 500"), "{rules}");
    let bare = json!({ "cniVersion": "0.3.0", "name": "macvlan-ens192", "mode": "nonsense" });
    drop(pod);
    for _ in 0..3 {
        shim.clone().without("CNI_NETNS").without("CNI_ARGS").call("DEL", &bare)?.silent()?;
    }
    let tables = host.ip(&["route", "show", "table", "all"])?;
    ensure!(!tables.contains(NET1) && !host.ip(&["rule"])?.contains("lookup 500"), "{tables}");
    ensure!(rig.inspect().node()?["plans"] == "0");
    Ok(())
}
