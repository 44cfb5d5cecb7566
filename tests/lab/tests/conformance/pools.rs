//! Which pool serves a call , as far as it shows without a cluster.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use spiderpool_lab::Namespace;

use crate::rig::{Document, Rig, address, network, pools};

fn pool(number: u8, name: &str) -> Document {
    Document::pool(name, &format!("10.{number}.0.0/24"), &format!("10.{number}.0.10-10.{number}.0.99"))
}

/// The second byte of the address that a call gets: the pool's number.
fn served_by(rig: &Rig, sandbox: &Namespace, container: &str, config: Value) -> Result<String> {
    let result = rig.ipam(container, sandbox).call("ADD", config)?.result()?;
    let address = address(&result)?;
    Ok(address.split('.').nth(1).unwrap_or_default().to_owned())
}

/// An empty list counts as none; default pools go by name.
#[test]
fn the_network_s_pools_come_before_the_default_ones() -> Result<()> {
    let rig = Rig::start()?;
    rig.pool(&pool(22, "b-default").with("default: true"))?;
    rig.pool(&pool(21, "a-default").with("default: true"))?;
    rig.pool(&pool(23, "named"))?;
    rig.pool(&Document::pool("six", "fd00:8::/64", "fd00:8::10-fd00:8::19"))?;
    let sandbox = rig.node().sandbox("a")?;
    ensure!(served_by(&rig, &sandbox, "c1", pools(&["named"]))? == "23");
    ensure!(served_by(&rig, &sandbox, "c2", network("1.0.0", &json!({})))? == "21", "defaults go by name");
    ensure!(served_by(&rig, &sandbox, "c3", pools(&[]))? == "21", "an empty list counts as none");
    // One family named alone still wins, and gives only that family.
    let six = network("1.0.0", &json!({ "default_ipv6_ippool": ["six"] }));
    let result = rig.ipam("c4", &sandbox).call("ADD", six)?.result()?;
    ensure!(address(&result)? == "fd00:8::10", "{result}");
    // No fall-through after a hit.
    rig.pool(&pool(24, "shut").with("disable: true"))?;
    rig.ipam("c5", &sandbox).call("ADD", pools(&["shut"]))?.error(100, &["shut"])?;
    Ok(())
}

/// The listed order holds, patterns stand for their matches by name, and what has a narrower
/// affinity goes first.
#[test]
fn the_listed_order_holds_but_for_affinities() -> Result<()> {
    let rig = Rig::start()?;
    for document in [
        pool(31, "pa"),
        pool(32, "pb"),
        pool(33, "pc"),
        pool(34, "q-namespace").with("namespaceName: [default]"),
        pool(35, "q-node").with("nodeName: [worker01]"),
        pool(36, "q-node-labels").with("nodeAffinity: {matchLabels: {kubernetes.io/hostname: worker01}}"),
    ] {
        rig.pool(&document)?;
    }
    let sandbox = rig.node().sandbox("a")?;
    let mut count = 0;
    let mut by = |names: &[&str]| {
        count += 1;
        served_by(&rig, &sandbox, &format!("c{count}"), pools(names))
    };
    ensure!(by(&["pc", "pa", "pb"])? == "33");
    ensure!(by(&["pb", "pc", "pa"])? == "32");
    ensure!(by(&["p?"])? == "31", "matches go by name");
    ensure!(by(&["p[b-c]", "pa"])? == "32");
    ensure!(by(&["none-*", "pc"])? == "33", "a pattern without a match contributes nothing");
    ensure!(by(&["pa", "q-namespace"])? == "34");
    ensure!(by(&["pa", "q-namespace", "q-node-labels"])? == "36");
    ensure!(by(&["pa", "q-namespace", "q-node-labels", "q-node"])? == "35");
    Ok(())
}

/// Reserved addresses are skipped and stay in the pool's total; excluded ones are not of the pool.
#[test]
fn reserved_and_excluded_addresses_are_skipped() -> Result<()> {
    let rig = Rig::start_with(&["--budget", "0.2"])?;
    let reserved = "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderReservedIP\nmetadata:\n  name: r\n\
                    spec:\n  ips: [10.41.0.10-10.41.0.11, 10.41.0.13]\n";
    rig.node().standalone().write("reserved.yaml", reserved)?;
    rig.pool(&Document::pool("p", "10.41.0.0/24", "10.41.0.10-10.41.0.16").with("excludeIPs: [10.41.0.14]"))?;
    let sandbox = rig.node().sandbox("a")?;
    for (container, expected) in [("c1", "10.41.0.12"), ("c2", "10.41.0.15"), ("c3", "10.41.0.16")] {
        let result = rig.ipam(container, &sandbox).call("ADD", pools(&["p"]))?.result()?;
        ensure!(address(&result)? == expected, "{result}");
    }
    rig.ipam("c4", &sandbox).call("ADD", pools(&["p"]))?.error(11, &["pool p: 6 leased here, 3 in use"])?;
    // Freed by the document, free to be given out.
    rig.node().standalone().write("reserved.yaml", &reserved.replace("10.41.0.10-10.41.0.11, ", ""))?;
    spiderpool_lab::wait_for("the reservation to end", crate::rig::SOON, || {
        let answer = rig.ipam("c4", &sandbox).call("ADD", pools(&["p"]))?;
        Ok(answer.is_success().then(|| answer.result().and_then(|result| address(&result))))
    })?
    .and_then(|address| {
        ensure!(address == "10.41.0.10", "{address}");
        Ok(())
    })
}

/// Pools up to a /64 are interval arithmetic: as quick as a /24.
#[test]
fn a_pool_of_a_whole_64_is_served_at_once() -> Result<()> {
    let rig = Rig::start()?;
    rig.pool(&Document::pool("wide", "fd00:9::/64", "fd00:9::-fd00:9::ffff:ffff:ffff:ffff"))?;
    let sandbox = rig.node().sandbox("a")?;
    let config = network("1.0.0", &json!({ "default_ipv6_ippool": ["wide"] }));
    let stopwatch = spiderpool_lab::Stopwatch::start();
    rig.ipam("c", &sandbox).call("ADD", config)?.result()?;
    ensure!(stopwatch.elapsed().as_secs() < 5, "{:?}", stopwatch.elapsed());
    let counts = rig.inspect().counts("wide")?;
    ensure!(counts.total == 1 << 64 && counts.free == (1 << 64) - 1 && counts.in_use == 1, "{counts:?}");
    Ok(())
}
