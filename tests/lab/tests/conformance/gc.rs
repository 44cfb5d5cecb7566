//! GC: what the runtime no longer lists goes, if the kernel no longer has it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::Namespace;

use crate::rig::{Rig, example_pool, network};

fn gc(rig: &Rig, key: Option<&str>, listed: &[&str]) -> Result<()> {
    let mut config = network("1.1.0", &json!({}));
    let list: Vec<Value> = listed.iter().map(|id| json!({ "containerID": id, "ifname": "net1" })).collect();
    if let Some(key) = key {
        config[key] = list.into();
    }
    rig.node().shim("spiderpool").call("GC", config)?.silent()
}

fn held(rig: &Rig) -> Result<Vec<String>> {
    let text = |held: &Value| held["containerId"].as_str().unwrap_or_default().to_owned();
    Ok(rig.inspect().allocations()?.iter().map(text).collect())
}

fn add(rig: &Rig, container: &str, sandbox: &Namespace) -> Result<()> {
    rig.ipam(container, sandbox).call("ADD", example_pool())?.result().map(drop)
}

/// Rule: Live means held. Whatever the list says: alive stays, dead and unlisted goes, listed stays.
#[test]
fn the_kernel_decides_whatever_the_list_says() -> Result<()> {
    let rig = Rig::start()?;
    let live = rig.node().sandbox("live")?;
    add(&rig, "live", &live)?;
    let keys = [Some("cni.dev/valid-attachments"), Some("cni.dev/attachments")];
    for (round, key) in keys.into_iter().enumerate() {
        let (unlisted, listed) = (format!("dead-{round}"), format!("listed-{round}"));
        let (one, two) = (rig.node().sandbox(&unlisted)?, rig.node().sandbox(&listed)?);
        add(&rig, &unlisted, &one)?;
        add(&rig, &listed, &two)?;
        // Both alive: nothing goes, with a full, an empty and an alien list.
        for list in [vec!["live", &unlisted, &listed], vec![], vec!["alien"]] {
            gc(&rig, key, &list)?;
            ensure!(held(&rig)?.len() == 3, "{list:?} {:?}", held(&rig)?);
        }
        drop((one, two));
        gc(&rig, key, &["live", &unlisted, &listed])?;
        ensure!(held(&rig)?.len() == 3, "all are listed: {:?}", held(&rig)?);
        gc(&rig, key, &["live", &listed])?;
        ensure!(held(&rig)? == [listed.as_str(), "live"], "{:?}", held(&rig)?);
        gc(&rig, key, &["alien"])?;
        ensure!(held(&rig)? == ["live"], "{:?}", held(&rig)?);
    }
    rig.logged(&["GC does not list an attachment whose sandbox lives", "live"])?;
    // No list at all, and of both names, and of another network.
    let dead = rig.node().sandbox("dead")?;
    add(&rig, "dead", &dead)?;
    drop(dead);
    let mut other = network("1.1.0", &json!({}));
    other["name"] = "another".into();
    rig.node().shim("spiderpool").call("GC", other)?.silent()?;
    ensure!(held(&rig)? == ["dead", "live"], "another network's: {:?}", held(&rig)?);
    let mut both = network("1.1.0", &json!({}));
    both["cni.dev/valid-attachments"] = json!([{ "containerID": "live", "ifname": "net1" }]);
    both["cni.dev/attachments"] = json!([{ "containerID": "dead", "ifname": "net1" }]);
    rig.node().shim("spiderpool").call("GC", both)?.silent()?;
    ensure!(held(&rig)? == ["dead", "live"], "the lists are joined: {:?}", held(&rig)?);
    gc(&rig, None, &[])?;
    ensure!(held(&rig)? == ["live"], "{:?}", held(&rig)?);
    Ok(())
}

/// Rule: Last word by start. GC spares what is newer than itself.
#[test]
fn what_is_newer_than_the_gc_is_spared() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    let before = rig.stamp()?;
    add(&rig, "c", &sandbox)?;
    drop(sandbox);
    let gone = rig.node().sandbox("unused")?;
    let mut config = network("1.1.0", &json!({}));
    config["cni.dev/valid-attachments"] = json!([]);
    let mut request = rig.request("", &gone, &before, &config);
    (request["netns"], request["interface"], request["args"]) = ("".into(), "".into(), "".into());
    ensure!(rig.inspect().cni("Gc", &request)? == Ok(Value::Null));
    ensure!(held(&rig)? == ["c"], "it began after the GC: {:?}", held(&rig)?);
    gc(&rig, Some("cni.dev/valid-attachments"), &[])?;
    ensure!(held(&rig)?.is_empty());
    Ok(())
}

/// Rule: No data is not no Pods.
#[test]
fn a_list_that_cannot_be_read_frees_nothing() -> Result<()> {
    let rig = Rig::start()?;
    let sandbox = rig.node().sandbox("a")?;
    add(&rig, "c", &sandbox)?;
    drop(sandbox);
    for (list, word) in [
        (json!("c"), "cni.dev/valid-attachments"),
        (json!([{ "containerID": "c" }]), "cni.dev/valid-attachments[0].ifname is missing"),
        (json!([{ "containerID": "../c", "ifname": "net1" }]), "cni.dev/valid-attachments[0].containerID"),
    ] {
        let mut config = network("1.1.0", &json!({}));
        config["cni.dev/valid-attachments"] = list;
        rig.node().shim("spiderpool").call("GC", config)?.error(7, &[word])?;
    }
    ensure!(held(&rig)? == ["c"]);
    Ok(())
}
