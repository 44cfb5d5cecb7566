//! ADD of the IPAM plugin: what it answers, in every version.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::rig::{Document, Rig, VERSIONS, address, example_pool, network, pools, same};

/// `ips[].version` per specification; no interfaces; IPv4 before IPv6.
#[test]
fn the_result_is_that_of_each_version() -> Result<()> {
    let rig = Rig::start()?;
    rig.pool(&Document::pool("six", "fd00:10:6::/64", "fd00:10:6::2e1-fd00:10:6::2e9"))?;
    let sandbox = rig.node().sandbox("a")?;
    let (v4, v6) = (["145", "146", "147", "174", "175"], ["1", "2", "3", "4", "5"]);
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let ipam = json!({ "default_ipv6_ippool": ["six"], "default_ipv4_ippool": ["10-6-v4"] });
        let result = rig.ipam(&format!("c{index}"), &sandbox).call("ADD", network(version, &ipam))?.result()?;
        let mut ips = [
            json!({ "address": format!("10.6.212.{}/16", v4[index]), "gateway": "10.6.0.1" }),
            json!({ "address": format!("fd00:10:6::2e{}/64", v6[index]) }),
        ];
        if version < "1.0.0" {
            (ips[0]["version"], ips[1]["version"]) = ("4".into(), "6".into());
        }
        let routes = json!([{ "dst": "0.0.0.0/0", "gw": "10.6.0.1" }]);
        same(&result, &json!({ "cniVersion": version, "ips": ips, "routes": routes }))?;
    }
    Ok(())
}

/// The pool's routes, then the default route; `clean_gateway` takes the latter alone away.
#[test]
fn routes_are_the_pool_s_and_then_the_default() -> Result<()> {
    let rig = Rig::start()?;
    let pool = Document::pool("routed", "10.8.0.0/24", "10.8.0.10-10.8.0.19");
    let pool = pool.with("gateway: 10.8.0.1").with("routes: [{dst: 10.9.0.0/16, gw: 10.8.0.2}]");
    rig.pool(&pool)?;
    rig.pool(&Document::pool("isolated", "10.10.0.0/24", "10.10.0.10"))?;
    let sandbox = rig.node().sandbox("a")?;
    let routes = |container: &str, ipam: Value| -> Result<(Value, Value)> {
        let result = rig.ipam(container, &sandbox).call("ADD", network("1.0.0", &ipam))?.result()?;
        Ok((result["routes"].clone(), result["ips"][0]["gateway"].clone()))
    };
    let (own, default) =
        (json!({ "dst": "10.9.0.0/16", "gw": "10.8.0.2" }), json!({ "dst": "0.0.0.0/0", "gw": "10.8.0.1" }));
    let named = json!({ "default_ipv4_ippool": ["routed"] });
    ensure!(routes("with", named)? == (json!([own, default]), json!("10.8.0.1")));
    let clean = json!({ "default_ipv4_ippool": ["routed"], "clean_gateway": true });
    ensure!(routes("clean", clean)? == (json!([own]), json!("10.8.0.1")));
    let without = json!({ "default_ipv4_ippool": ["isolated"] });
    ensure!(routes("without", without)? == (Value::Null, Value::Null), "no gateway, no default route");
    Ok(())
}

/// A retry gets the recorded answer, whatever has become of the pool: a disabled pool gives
/// nothing new and keeps what is held.
#[test]
fn add_twice_is_answered_from_the_record() -> Result<()> {
    let rig = Rig::start()?;
    let pool = Document::pool("p", "10.8.0.0/24", "10.8.0.10-10.8.0.19");
    rig.pool(&pool)?;
    let sandbox = rig.node().sandbox("a")?;
    let add = |container: &str| rig.ipam(container, &sandbox).call("ADD", pools(&["p"]));
    let first = add("c")?.result()?;
    same(&add("c")?.result()?, &first)?;
    rig.node().standalone().write("p.yaml", &pool.with("disable: true").text())?;
    spiderpool_lab::wait_for("the pool to be disabled", crate::rig::SOON, || {
        Ok(rig.inspect().pools()?.iter().any(|pool| pool["name"] == "p" && pool["disabled"] == true).then_some(()))
    })?;
    same(&add("c")?.result()?, &first)?;
    add("d")?.error(100, &["p (is disabled by spec.disable)"])?;
    let allocations = rig.inspect().allocations()?;
    ensure!(allocations.len() == 1 && allocations[0]["ipv4"] == "10.8.0.10/24", "{allocations:?}");
    rig.ipam("c", &sandbox).call("DEL", pools(&["p"]))?.silent()
}

/// Rule: Two UIDs, one name. Two interfaces of a Pod never share an address.
#[test]
fn two_interfaces_and_two_networks_have_addresses_of_their_own() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let shim = rig.ipam("c", &sandbox);
    let mut other = example_pool();
    other["name"] = "another".into();
    let first = address(&shim.call("ADD", example_pool())?.result()?)?;
    let second = address(&shim.clone().interface("net2").call("ADD", example_pool())?.result()?)?;
    let third = address(&shim.call("ADD", other)?.result()?)?;
    ensure!(first != second && second != third && first != third, "{first} {second} {third}");
    // Giving one back leaves the others.
    shim.clone().interface("net2").call("DEL", example_pool())?.silent()?;
    let left: Vec<Value> = rig.inspect().allocations()?.iter().map(|held| held["ipv4"].clone()).collect();
    ensure!(left.len() == 2 && !left.contains(&json!(format!("{second}/16"))), "{left:?}");
    Ok(())
}

/// Attachments are the key. A Pod re-created under its name gets another address, and the
/// late DEL of the old sandbox frees the old one alone.
#[test]
fn a_pod_created_anew_and_the_late_del_of_the_old_one() -> Result<()> {
    let rig = Rig::start()?;
    let (old, new) = (rig.node().sandbox("old")?, rig.node().sandbox("new")?);
    let shim = |container: &str, sandbox, uid: &str| {
        rig.node().shim("spiderpool").container(container).sandbox(sandbox).pod("default", "web", uid)
    };
    let first = address(&shim("c1", &old, "uid-1").call("ADD", example_pool())?.result()?)?;
    let second = address(&shim("c2", &new, "uid-2").call("ADD", example_pool())?.result()?)?;
    ensure!(first != second);
    shim("c1", &old, "some-other-uid").call("DEL", example_pool())?.silent()?;
    let held = rig.inspect().allocations()?;
    ensure!(held.len() == 1 && held[0]["containerId"] == "c2" && held[0]["podUid"] == "uid-2", "{held:?}");
    Ok(())
}

/// Rule: Two UIDs, one name. A newer sandbox of the same Pod takes over only from one that is dead in the kernel.
#[test]
fn a_newer_sandbox_of_a_pod_supersedes_a_dead_one() -> Result<()> {
    let rig = Rig::start()?;
    let (dead, live, new) = (rig.node().sandbox("dead")?, rig.node().sandbox("live")?, rig.node().sandbox("new")?);
    let add = |container: &str, sandbox: &spiderpool_lab::Namespace| {
        let shim = rig.node().shim("spiderpool").container(container).sandbox(sandbox);
        shim.pod("default", "web", "uid-1").call("ADD", example_pool())?.result()
    };
    add("c-dead", &dead)?;
    add("c-live", &live)?;
    drop(dead);
    add("c-new", &new)?;
    spiderpool_lab::wait_for("the dead sandbox's address to be given back", crate::rig::SOON, || {
        let held = rig.inspect().allocations()?;
        let mut names: Vec<_> = held.iter().map(|held| held["containerId"].as_str().unwrap_or_default()).collect();
        names.sort_unstable();
        Ok((names == ["c-live", "c-new"]).then_some(()))
    })
}
