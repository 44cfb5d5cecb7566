//! Probes of a real segment. What a stranger or a gateway has is on `segment`, the other end of the node's interface.

use std::future::pending;
use std::process::Command;

use tokio::runtime::Builder;

use super::*;
use crate::net::lab::{Lab, ip, path};
use crate::net::namespace::{self, Namespace};

/// Where the tests ask from: a Pod's new interface `net2`, down as macvlan leaves it to IPAM.
fn place(lab: &Lab) -> Place {
    ip(&words(&format!("-n {} link add link ens192 name net2 netns {} type macvlan mode bridge", lab.node, lab.pod)));
    Place { netns: namespace::identify(&path(&lab.pod)).unwrap(), interface: "net2".into(), new: true }
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn on_segment(lab: &Lab, address: &str) {
    ip(&words(&format!("-n {} address add {address} dev segment nodad", lab.node)));
}

fn mac(lab: &Lab, device: &str) -> Mac {
    let shown = ip(&words(&format!("-n {} -o link show {device}", lab.node)));
    let text = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Mac(bytes.try_into().unwrap())
}

fn asked(place: Place, questions: &[Question]) -> Result<Findings, NetError> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(probe(place, "/proc".into(), questions, pending()))
}

fn question(address: &str, gateway: Option<&str>) -> Question {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    Question { address: address.parse().unwrap(), conflict: true, gateway }
}

fn silent(gateways: &[&str]) -> Findings {
    let silent = gateways.iter().map(|gateway| gateway.parse().unwrap()).collect();
    Findings { taken: BTreeMap::new(), silent }
}

#[test]
fn a_stranger_is_found_and_named() {
    let lab = Lab::new();
    let place = place(&lab);
    for (address, prefix, free) in [("10.6.0.9", 16, "10.6.0.8"), ("fd00::9", 64, "fd00::8")] {
        on_segment(&lab, &format!("{address}/{prefix}"));
        assert_eq!(asked(place.clone(), &[question(free, None)]).unwrap(), Findings::default());
        let findings = asked(place.clone(), &[question(free, None), question(address, None)]).unwrap();
        let stranger = (address.parse().unwrap(), mac(&lab, "segment"));
        assert_eq!(findings, Findings { taken: [stranger].into(), silent: BTreeSet::new() });
        let uninterested = Question { conflict: false, ..question(address, None) };
        assert_eq!(asked(place.clone(), &[uninterested]).unwrap(), Findings::default());
    }
}

#[test]
fn a_gateway_answers_or_is_silent() {
    let lab = Lab::new();
    let place = place(&lab);
    on_segment(&lab, "10.6.0.1/16");
    on_segment(&lab, "fd00::1/64");
    let there = [question("10.6.0.9", Some("10.6.0.1")), question("fd00::9", Some("fd00::1"))];
    assert_eq!(asked(place.clone(), &there).unwrap(), Findings::default());
    let away = [question("10.6.0.9", Some("10.6.0.1")), question("fd00::9", Some("fd00::2"))];
    assert_eq!(asked(place.clone(), &away).unwrap(), silent(&["fd00::2"]));
    let away = [question("10.6.0.9", Some("10.6.0.2")), question("fd00::9", Some("fd00::1"))];
    assert_eq!(asked(place, &away).unwrap(), silent(&["10.6.0.2"]));
}

/// Some routers answer nobody's address nothing: they are asked from the address itself, once it is known to be free.
#[test]
fn a_gateway_may_want_to_know_who_asks() {
    let lab = Lab::new();
    let place = place(&lab);
    on_segment(&lab, "10.6.0.1/16");
    let rule = "table arp shy { chain input { type filter hook input priority 0; arp saddr ip 0.0.0.0 drop; }; }";
    let nft = Command::new("ip").args(["netns", "exec", &lab.node, "nft", rule]).output().unwrap();
    assert!(nft.status.success(), "{nft:?}");
    assert_eq!(asked(place, &[question("10.6.0.9", Some("10.6.0.1"))]).unwrap(), Findings::default());
    assert!(lab.node_knows("10.6.0.9"), "that is how it was asked");
}

/// Whoever has the address keeps it in everybody's cache.
#[test]
fn a_probe_leaves_no_trace_with_neighbours() {
    let lab = Lab::new();
    let place = place(&lab);
    on_segment(&lab, "10.6.0.1/16");
    asked(place.clone(), &[question("10.6.0.9", Some("10.6.0.1"))]).unwrap();
    assert!(!lab.node_knows("10.6.0.9"));
    // What is taken is never asked from, however silent the gateway.
    on_segment(&lab, "10.6.0.7/16");
    asked(place, &[question("10.6.0.7", Some("10.6.0.2"))]).unwrap();
    assert!(!lab.node_knows("10.6.0.7"));
}

/// Whoever comes next in the same place finds the interface down, not about to be set down.
#[test]
fn a_probe_that_nobody_waits_for_leaves_the_interface_as_it_was() {
    let lab = Lab::new();
    let place = place(&lab);
    let flags = || ip(&words(&format!("-n {} -o link show net2", lab.pod)));
    assert!(!flags().contains(",UP"), "{}", flags());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let before = Instant::now();
    let findings = runtime.block_on(async {
        let given_up = tokio::time::sleep(WAIT / 2);
        probe(place, "/proc".into(), &[question("10.6.0.9", None)], given_up).await.unwrap()
    });
    assert!(!flags().contains(",UP"), "{}", flags());
    assert_eq!(findings, Findings::default());
    assert!(before.elapsed() < TIMES * WAIT, "it went on to its end");
}

/// Two of different nodes that would like to have an address at the same time do not both get it (RFC 5227, section
/// 2.1.1), though neither has it.
#[test]
fn who_asks_for_an_address_too_is_a_stranger() {
    let lab = Lab::new();
    let place = place(&lab);
    let stranger = Mac([2, 0, 0, 0, 0, 8]);
    for address in ["10.6.0.9", "fd00::9"].map(|address| address.parse().unwrap()) {
        let taken = while_heard(&lab, &place, address, &frame::probe(stranger, address));
        assert_eq!(taken, [(address, stranger)].into());
    }
}

/// Who is found to have an address while a frame arrives now and then.
fn while_heard(lab: &Lab, place: &Place, address: IpAddr, frame: &[u8]) -> BTreeMap<IpAddr, Mac> {
    let segment = Namespace::open(&path(&lab.node)).unwrap();
    let shown = ip(&words(&format!("-n {} -o link show segment", lab.node)));
    let wire = Wire::open(&segment, shown.split(':').next().unwrap().parse().unwrap()).unwrap();
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| asked(place.clone(), &[question(&address.to_string(), None)]).unwrap().taken);
        while !probe.is_finished() {
            wire.send(frame).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        probe.join().unwrap()
    })
}

#[test]
fn two_pods_of_one_node_are_no_strangers() {
    let (lab, other) = (Lab::new(), Lab::new());
    let places = [place(&lab), place(&other)];
    // One segment: the other node's end of its cable is plugged into a bridge with this one's.
    let node = &lab.node;
    for line in [
        format!("-n {node} link add br0 type bridge"),
        format!("-n {} link set segment netns {node} name segment2", other.node),
        format!("-n {node} link set segment master br0"),
        format!("-n {node} link set segment2 master br0 up"),
        format!("-n {node} link set br0 up"),
    ] {
        ip(&words(&line));
    }
    for address in ["10.6.0.9", "fd00::9"] {
        let ask = |place: &Place| {
            let place = place.clone();
            std::thread::spawn(move || asked(place, &[question(address, None)]).unwrap())
        };
        let found = places.each_ref().map(ask).map(|probe| probe.join().unwrap());
        assert_eq!(found, [Findings::default(), Findings::default()], "{address}");
    }
}

/// A switch may send frames back to where they came from.
#[test]
fn an_echo_is_no_stranger() {
    let lab = Lab::new();
    let (node, pod) = (&lab.node, &lab.pod);
    for line in [
        format!("-n {node} link add br0 type bridge"),
        format!("-n {node} link set br0 up"),
        format!("-n {node} link add port type veth peer name net3 netns {pod}"),
        format!("-n {node} link set port master br0 up"),
        format!("-n {node} link set port type bridge_slave hairpin on"),
        format!("-n {pod} link set net3 up"),
    ] {
        ip(&words(&line));
    }
    let place = Place { interface: "net3".into(), ..place(&lab) };
    for address in ["10.6.0.9", "fd00::9"] {
        assert_eq!(asked(place.clone(), &[question(address, None)]).unwrap(), Findings::default());
    }
}

/// From an attempt before it may be there already; but a Pod that runs may have been given a stranger's by hand.
#[test]
fn what_an_interface_has_itself_is_its_own_only_while_it_is_attached() {
    let lab = Lab::new();
    let place = Place { interface: "net1".into(), ..place(&lab) };
    // The node answers for it too, so that the question would find somebody.
    on_segment(&lab, "10.6.212.145/16");
    assert_eq!(asked(place.clone(), &[question("10.6.212.145", None)]).unwrap(), Findings::default());
    let taken = asked(Place { new: false, ..place }, &[question("10.6.212.145", None)]).unwrap().taken;
    assert_eq!(taken, [("10.6.212.145".parse().unwrap(), Mac([0x2a, 0x1e, 0xa1, 0xdb, 0x2a, 0x9a]))].into());
}

/// A macvlan does not hear the interface below it.
#[test]
fn an_address_of_the_node_is_a_strangers() {
    let lab = Lab::new();
    let place = place(&lab);
    ip(&words(&format!("-n {} link set segment down", lab.node)));
    ip(&words(&format!("-n {} link set segment up arp off", lab.node)));
    let node = mac(&lab, "ens192");
    let found = std::sync::Mutex::new(None);
    namespace::stay_inside(&path(&lab.node), || {
        *found.lock().unwrap() = Some(asked(place, &[question("10.6.212.132", None)]).unwrap());
    });
    let taken = found.into_inner().unwrap().unwrap().taken;
    assert_eq!(taken, [("10.6.212.132".parse().unwrap(), node)].into());
}

/// What is tagged is of another network, though a trunk's interface sees it.
#[test]
fn another_vlan_is_not_heard() {
    let lab = Lab::new();
    let place = place(&lab);
    let address = "10.6.0.9".parse().unwrap();
    let [said, _] = frame::announcements(Mac([2, 0, 0, 0, 0, 7]), address).try_into().unwrap();
    let tagged = |vlan| [&said[..12], &[0x81, 0, 0, vlan], &said[12..]].concat();
    let hears = |vlan| !while_heard(&lab, &place, address, &tagged(vlan)).is_empty();
    assert!(!hears(7), "a VLAN");
    assert!(hears(0), "a priority alone");
}

/// Unknown is neither free nor taken.
#[test]
fn where_nothing_can_be_said_it_is_not_said() {
    let lab = Lab::new();
    let place = place(&lab);
    let refusal = |place: Place| asked(place, &[question("10.6.0.9", None)]).unwrap_err().to_string();
    asked(place.clone(), &[question("10.6.0.9", None)]).unwrap();
    let link = ip(&words(&format!("-n {} link show net2", lab.pod)));
    assert!(!link.contains(",UP"), "as it was found: {link}");
    let missing = refusal(Place { interface: "net9".into(), ..place.clone() });
    assert!(missing.contains("there is no interface net9 yet"), "{missing}");
    let down = refusal(Place { new: false, ..place.clone() });
    assert!(down.contains("net2 has no carrier"), "a Pod's own interface is left as it is: {down}");
    ip(&words(&format!("-n {} link set segment down", lab.node)));
    let cut = refusal(place.clone());
    assert!(cut.contains("net2 has no carrier"), "{cut}");
    let another = Netns { cookie: place.netns.cookie + 1, ..place.netns.clone() };
    assert!(asked(Place { netns: another, ..place }, &[]).unwrap_err().is_gone());
}

impl Lab {
    /// Whether the node's cache has a neighbour of this address.
    fn node_knows(&self, address: &str) -> bool {
        ip(&words(&format!("-n {} neighbour show {address}", self.node))).contains(" lladdr ")
    }
}
