//! CHECK names every object of a recorded plan that was removed or altered by hand, and the interface's own: address,
//! gateway and MAC address.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Namespace, Pod, Shim};

use crate::rig::{POOL_SIX, Rig, chain, link, routing, setting};

/// One object of a plan's text, as it is taken away and put back.
struct Object {
    on_host: bool,
    /// As CHECK names it.
    text: String,
    deed: Deed,
}

enum Deed {
    /// Lines for `ip -batch`: to spoil it, and to put it back.
    Batch(Vec<(String, String)>),
    /// A kernel setting below `net`, another value, and its own.
    Setting(String, &'static str, String),
}

/// Reads a line such as `pod rule 32760: from 10.6.212.145 lookup 101 [net1]`; none: it cannot be put back by hand.
fn object(line: &str) -> Result<Option<Object>> {
    let (line, _owners) = line.rsplit_once(" [").with_context(|| format!("no owner: {line}"))?;
    let (absent, text) = line.strip_prefix("no ").map_or((false, line), |text| (true, text));
    let words: Vec<&str> = text.split(' ').collect();
    let (side, kind, rest) = (words[0], words[1], &words[2..]);
    let pair = |spoil: String, back: String| (format!("{spoil}\n"), format!("{back}\n"));
    let deed = match kind {
        "rule" | "rule6" => {
            let family = if kind == "rule6" { "-6" } else { "-4" };
            let (priority, selector) = (rest[0].trim_end_matches(':'), rest[1..].join(" "));
            let rule = |verb: &str| format!("{family} rule {verb} pref {priority} {selector}");
            Deed::Batch(vec![pair(rule("del"), rule("add"))])
        }
        "route" | "route6" => {
            let (table, route) = (rest[1].trim_end_matches(':'), rest[2..].join(" "));
            let verb = |verb: &str| format!("route {verb} {route} table {table}");
            if absent {
                Deed::Batch(vec![pair(verb("append"), verb("del"))])
            } else {
                // Its metric, or its MTU where that is not part of what it is, and itself.
                let altered = |verb: &str| format!("route {verb} {route} mtu 1300 table {table}");
                let removed = pair(verb("del"), verb("add"));
                let changed = pair(
                    format!("{}\n{}", verb("del"), altered("add")),
                    format!("{}\n{}", altered("del"), verb("add")),
                );
                Deed::Batch(vec![removed, changed])
            }
        }
        "neighbour" => {
            let (address, device, mac) = (rest[0], rest[2], rest[4]);
            let put = |verb: &str, mac: &str| format!("neigh {verb} {address} lladdr {mac} dev {device} nud permanent");
            let removed = pair(format!("neigh del {address} dev {device}"), put("add", mac));
            Deed::Batch(vec![removed, pair(put("replace", "02:00:00:00:00:07"), put("replace", mac))])
        }
        "sysctl" if !rest[0].contains("disable_ipv6") => {
            let other = if rest[2] == "1" { "2" } else { "1" };
            Deed::Setting(rest[0].trim_start_matches("net/").to_owned(), other, rest[2].to_owned())
        }
        "link" if rest[1] == "txqueuelen" => {
            let set = |length: &str| format!("link set {} txqueuelen {length}", rest[0]);
            Deed::Batch(vec![pair(set("77"), set(rest[2]))])
        }
        "link" if rest[1] == "address" => {
            let set = |mac: &str| format!("link set {} address {mac}", rest[0]);
            Deed::Batch(vec![pair(set("02:00:00:00:00:08"), set(rest[2]))])
        }
        // What follows from these cannot be put back object by object: see below.
        "sysctl" | "link" => return Ok(None),
        other => bail!("a kind of object that this test does not know: {other} in {line}"),
    };
    Ok(Some(Object { on_host: side == "host", text: text.to_owned(), deed }))
}

/// `ip -batch` takes the family of a rule as an option alone.
fn run(namespace: &Namespace, lines: &str) -> Result<()> {
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        namespace.ip(&words).with_context(|| line.to_owned())?;
    }
    Ok(())
}

fn content(shim: &Shim, config: &Value, after: &str) -> Result<()> {
    shim.call("CHECK", config)?.silent().with_context(|| format!("after {after}"))
}

/// Two interfaces, both families, every setting: the plan has every kind of object.
#[test]
fn each_object_of_a_plan_is_missed_and_named() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    let first = chain(&[POOL, POOL_SIX]).with("podMACPrefix", "0a:1b").with("txQueueLen", 2000);
    let result = rig.add(&pod, &first, "net1")?;
    rig.add(&pod, &chain(&["10-8-v4"]), "net2")?;
    let (shim, config) = rig.coordinator(&pod, &first, "net1", &result)?;
    content(&shim, &config, "ADD")?;
    let plan = rig.plan()?;
    let mut count = 0;
    for line in plan.lines() {
        let Some(Object { on_host, text, deed }) = object(line)? else { continue };
        let namespace = if on_host { rig.host() } else { pod.namespace() };
        let named = || shim.call("CHECK", &config)?.error(101, &[&text]).with_context(|| format!("spoilt: {line}"));
        match deed {
            Deed::Batch(pairs) => {
                for (spoil, back) in pairs {
                    run(namespace, &spoil)?;
                    named().with_context(|| spoil.clone())?;
                    run(namespace, &back)?;
                    content(&shim, &config, &back)?;
                }
            }
            Deed::Setting(key, other, own) => {
                namespace.sysctl(&[(&key, other)])?;
                named()?;
                namespace.sysctl(&[(&key, &own)])?;
                ensure!(setting(namespace, &key)? == own);
                content(&shim, &config, &key)?;
            }
        }
        count += 1;
    }
    ensure!(count >= 40, "only {count} objects:\n{plan}");
    for kind in ["pod rule ", "pod rule6 ", "host rule6 ", "host route6 ", "host neighbour fd", "no pod route6 "] {
        ensure!(plan.lines().any(|line| line.starts_with(kind)), "none of {kind:?}:\n{plan}");
    }
    last(&rig, &pod, (&shim, &config))
}

/// What takes others with it: a link that is set down, IPv6 switched off. An ADD again makes it whole.
fn last(rig: &Rig, pod: &Pod, (shim, config): (&Shim, &Value)) -> Result<()> {
    let before = routing(rig.host())?;
    pod.namespace().sysctl(&[("ipv6/conf/net1/disable_ipv6", "1")])?;
    let gone =
        ["net/ipv6/conf/net1/disable_ipv6 = 0", "pod route6 table 101: default", "missing: pod address fd00:10:6::"];
    shim.call("CHECK", config)?.error(101, &gone)?;
    pod.namespace().ip_batch("link set net1 down\n")?;
    shim.call("CHECK", config)?.error(101, &["pod link net1 up", "pod route table 101: default via 10.6.0.1"])?;
    ensure!(routing(rig.host())? == before, "CHECK changes nothing");
    Ok(())
}

/// Beside what the coordinator made: what the plugins before it have said.
#[test]
fn the_address_the_gateway_and_the_mac_address_are_named() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.pod()?;
    let chain = chain(&[POOL]);
    let inside = pod.namespace();
    for (spoil, named) in [
        ("addr del 10.6.212.145/16 dev net1", "missing: pod address 10.6.212.145/16 dev net1"),
        (
            "addr replace 10.6.212.99/16 dev net1\naddr del 10.6.212.145/16 dev net1",
            "pod address 10.6.212.145/16 dev net1",
        ),
        ("route del default table 101", "default via 10.6.0.1 dev net1"),
        ("route replace default via 10.6.0.9 dev net1 table 101", "default via 10.6.0.1 dev net1"),
        ("link set net1 address 02:00:00:00:00:09", "02:00:00:00:00:09"),
    ] {
        let result = rig.add(&pod, &chain, "net1")?;
        let (address, _) = pod.address("net1")?;
        let now = |text: &str| text.replace("10.6.212.145", &address.to_string());
        let (shim, config) = rig.coordinator(&pod, &chain, "net1", &result)?;
        content(&shim, &config, "ADD")?;
        let printed = link(inside, "net1", "address")?;
        run(inside, &now(spoil))?;
        let error = shim.call("CHECK", &config)?.error(101, &[&now(named)]).with_context(|| spoil.to_owned())?;
        if spoil.contains("link set") {
            ensure!(
                error["msg"].as_str().is_some_and(|text| text.contains(printed.as_str().unwrap_or("?"))),
                "{error}"
            );
        }
        // The whole list, as a runtime checks it: macvlan, spiderpool, coordinator.
        let whole = pod.cni("check", &chain, "net1", &[])?;
        ensure!(!whole.status.success(), "{spoil}: {}", whole.stdout);
        pod.del(&chain, "net1", &[])?;
    }
    Ok(())
}
