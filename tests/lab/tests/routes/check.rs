//! CHECK names every object of a recorded plan that was removed or altered by hand, and the interface's own: address,
//! gateway and MAC address.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use spiderpool_lab::example::POOL;
use spiderpool_lab::{Namespace, Pod, Shim, Subnet};

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
    /// A line for `ip -batch` or a setting that takes addresses and routes of an interface along, and the way back from it.
    Along(Along),
}

enum Along {
    /// An interface is set down.
    Down(String),
    /// IPv6 is switched off on an interface.
    NoSix(String),
}

/// Reads a line such as `pod rule 32760: from 10.6.212.145 lookup 101 [net1]`.
fn object(line: &str) -> Result<Object> {
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
        "sysctl" if rest[0].ends_with("/disable_ipv6") => {
            let link = rest[0].split('/').rev().nth(1).with_context(|| format!("no link: {line}"))?;
            Deed::Along(Along::NoSix(link.to_owned()))
        }
        "sysctl" => {
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
        "link" if rest[1] == "up" => Deed::Along(Along::Down(rest[0].to_owned())),
        other => bail!("a kind of object that this test does not know: {other} in {line}"),
    };
    Ok(Object { on_host: side == "host", text: text.to_owned(), deed })
}

/// `ip -batch` takes the family of a rule as an option alone.
fn run(namespace: &Namespace, lines: &str) -> Result<()> {
    for line in lines.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        namespace.ip(&words).with_context(|| line.to_owned())?;
    }
    Ok(())
}

/// A Pod with two interfaces, and the coordinator's call of each.
struct Wired<'a> {
    rig: &'a Rig,
    pod: &'a Pod,
    calls: [(Shim, Value); 2],
    plan: String,
}

impl Wired<'_> {
    fn content(&self, after: &str) -> Result<()> {
        self.calls.iter().try_for_each(|call| content(call, after))
    }

    /// Holds CHECK of either interface to name all of these.
    fn name(&self, texts: &[&str]) -> Result<()> {
        for (shim, config) in &self.calls {
            shim.call("CHECK", config)?.error(101, texts)?;
        }
        Ok(())
    }

    /// Spoils an object, sees it named, puts it back.
    fn miss(&self, line: &str) -> Result<()> {
        let Object { on_host, text, deed } = object(line)?;
        let namespace = if on_host { self.rig.host() } else { self.pod.namespace() };
        match deed {
            Deed::Batch(pairs) => {
                for (spoil, back) in pairs {
                    run(namespace, &spoil)?;
                    self.name(&[&text]).with_context(|| spoil.clone())?;
                    run(namespace, &back)?;
                    self.content(&back)?;
                }
            }
            Deed::Setting(key, other, own) => {
                namespace.sysctl(&[(&key, other)])?;
                self.name(&[&text])?;
                namespace.sysctl(&[(&key, &own)])?;
                ensure!(setting(namespace, &key)? == own);
                self.content(&key)?;
            }
            Deed::Along(along) => self.miss_along(&text, &along)?,
        }
        Ok(())
    }

    /// The same where addresses and routes go along: by hand only the first are put back, an ADD again makes the rest.
    fn miss_along(&self, text: &str, along: &Along) -> Result<()> {
        let inside = self.pod.namespace();
        let (link, families) = match along {
            Along::Down(link) => (link, ["pod route ", "pod route6 "].as_slice()),
            Along::NoSix(link) => (link, ["pod route6 "].as_slice()),
        };
        let shown = inside.ip_json(&["-6", "addr", "show", "dev", link, "scope", "global"])?;
        let of = |address: &Value| Some(format!("{}/{}", address["local"].as_str()?, address["prefixlen"]));
        let addresses: Vec<String> = shown[0]["addr_info"].as_array().into_iter().flatten().filter_map(of).collect();
        ensure!(!addresses.is_empty(), "{link} has no IPv6 address: {shown}");
        let setting = format!("ipv6/conf/{link}/disable_ipv6");
        match along {
            Along::Down(link) => inside.ip_batch(&format!("link set {link} down\n"))?,
            Along::NoSix(_) => inside.sysctl(&[(&setting, "1")])?,
        }
        let by_it =
            |line: &&str| line.contains(&format!(" dev {link} ")) && families.iter().any(|kind| line.starts_with(kind));
        let routes = self.plan.lines().filter(by_it).filter_map(|line| Some(line.rsplit_once(" [")?.0.to_owned()));
        let missing = addresses.iter().map(|address| format!("missing: pod address {address} dev {link}"));
        let texts: Vec<String> = [text.to_owned()].into_iter().chain(routes).chain(missing).collect();
        ensure!(texts.len() > 3, "{texts:?}");
        self.name(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        match along {
            Along::Down(link) => inside.ip_batch(&format!("link set {link} up\n"))?,
            Along::NoSix(_) => inside.sysctl(&[(&setting, "0")])?,
        }
        for address in addresses {
            inside.ip_batch(&format!("addr add {address} dev {link}\n"))?;
        }
        for (shim, config) in &self.calls {
            shim.call("ADD", config)?.result()?;
        }
        ensure!(self.rig.plan()? == self.plan, "{}\nbefore:\n{}", self.rig.plan()?, self.plan);
        self.content(text)
    }
}

fn content((shim, config): &(Shim, Value), after: &str) -> Result<()> {
    shim.call("CHECK", config)?.silent().with_context(|| format!("after {after}"))
}

/// Two interfaces, both families, every setting: the plan has every kind of object. Each is named whichever of the two is
/// checked.
#[test]
fn each_object_of_a_plan_is_missed_and_named() -> Result<()> {
    let rig = Rig::start()?;
    rig.node().standalone().write_pool_of(&Subnet::NET2[1], "fd00:10:8::20-fd00:10:8::29")?;
    rig.log_says(&["10-8-v6"])?;
    let pod = rig.dual_pod()?;
    let first = chain(&[POOL, POOL_SIX]).with("podMACPrefix", "0a:1b").with("txQueueLen", 2000);
    let second = chain(&["10-8-v4", "10-8-v6"]).with("podMACPrefix", "0a:1c").with("txQueueLen", 3000);
    let (one, two) = (rig.add(&pod, &first, "net1")?, rig.add(&pod, &second, "net2")?);
    let calls = [rig.coordinator(&pod, &first, "net1", &one)?, rig.coordinator(&pod, &second, "net2", &two)?];
    let wired = Wired { rig: &rig, pod: &pod, calls, plan: rig.plan()? };
    wired.content("ADD")?;
    let before = routing(rig.host())?;
    for line in wired.plan.lines() {
        wired.miss(line).with_context(|| format!("spoilt: {line}"))?;
    }
    let kinds = [
        "pod rule ",
        "pod rule6 ",
        "host rule6 ",
        "host route6 ",
        "host neighbour fd",
        "no pod route6 ",
        "pod link net1 up",
        "pod link net2 up",
        "pod link net2 txqueuelen",
        "pod link net2 address",
        "pod sysctl net/ipv6/conf/net1/disable_ipv6",
        "pod sysctl net/ipv6/conf/net2/disable_ipv6",
        "pod rule6 32759:",
        "pod route6 table 102:",
    ];
    for kind in kinds {
        ensure!(wired.plan.lines().any(|line| line.starts_with(kind)), "none of {kind:?}:\n{}", wired.plan);
    }
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
        let call = rig.coordinator(&pod, &chain, "net1", &result)?;
        content(&call, "ADD")?;
        let (shim, config) = call;
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

/// Of each interface and family, by its own CHECK and by the whole list's.
#[test]
fn another_gateway_is_named() -> Result<()> {
    let rig = Rig::start()?;
    let pod = rig.dual_pod()?;
    let networks = [("net1", chain(&[POOL, POOL_SIX])), ("net2", chain(&["10-8-v4"]))];
    for (interface, chain) in &networks {
        rig.add(&pod, chain, interface)?;
    }
    for ((interface, chain), kind, table, gateway, other) in [
        (&networks[0], "route", "101", "10.6.0.1", "10.6.0.9"),
        (&networks[0], "route6", "101", "fd00:10:6::1", "fd00:10:6::9"),
        (&networks[1], "route", "102", "10.8.0.1", "10.8.0.9"),
    ] {
        let by = |gateway: &str| format!("route replace default via {gateway} dev {interface} table {table}\n");
        run(pod.namespace(), &by(other))?;
        let checked = pod.cni("check", chain, interface, &[])?;
        let route = |gateway: &str| format!("pod {kind} table {table}: default via {gateway} dev {interface}");
        for named in [format!("missing: {}", route(gateway)), format!("not to be there: {}", route(other))] {
            ensure!(checked.stderr.contains(&named), "{named}: {}{}", checked.stdout, checked.stderr);
        }
        run(pod.namespace(), &by(gateway))?;
        pod.check(chain, interface, &[])?;
    }
    Ok(())
}

/// Where macvlan's default route stays in main, no plan speaks of it.
#[test]
fn another_gateway_of_a_route_that_stays_is_named() -> Result<()> {
    let rig = Rig::start_with("  podDefaultRouteNIC: net1\n")?;
    let (pod, chain) = (rig.dual_pod()?, chain(&[POOL, POOL_SIX]));
    let result = rig.add(&pod, &chain, "net1")?;
    let (shim, config) = rig.coordinator(&pod, &chain, "net1", &result)?;
    shim.call("CHECK", config.clone())?.silent()?;
    for (family, gateway, other) in [("-4", "10.6.0.1", "10.6.0.9"), ("-6", "fd00:10:6::1", "fd00:10:6::9")] {
        let by = |verb: &str, gateway: &str| format!("{family} route {verb} default via {gateway} dev net1\n");
        let wanted = format!("wanted: pod default route via {gateway} dev net1; found: ");
        for (spoil, found) in
            [(by("del", gateway), "none".to_owned()), (by("add", other), format!("default via {other} dev net1"))]
        {
            run(pod.namespace(), &spoil)?;
            shim.call("CHECK", config.clone())?.error(101, &[&wanted, &found])?;
        }
        run(pod.namespace(), &(by("del", other) + &by("add", gateway)))?;
        shim.call("CHECK", config.clone())?.silent()?;
    }
    Ok(())
}
