//! Steps: where packets go, by packet capture.

use anyhow::Result;
use spiderpool_lab::example::{DNS_POD, FAR_HOST, OUTSIDE_HOST, SERVICE, SERVICE_PORT};
use spiderpool_lab::{Capture, Direction, Namespace, Packet, Payload, PodTables, Program};
use std::net::Ipv4Addr;

use crate::report::Report;
use crate::stage::{NET1, Stage};

pub(crate) fn show(report: &mut Report, stage: &Stage) -> Result<()> {
    let tables = stage.tables(false)?;
    report.step(
        "A Pod on the other node",
        "CoreDNS runs on controller. East-west traffic goes by eth0, through both nodes.",
    );
    ping(report, stage, Ping { options: &[], to: DNS_POD, from: tables.eth0, by: "eth0", ttl: 62, seen_as: None })?;

    report.step(
        "The DNS Service",
        "10.233.0.3 is translated on the node. A DNS server has nothing to say to HTTP and hangs up: an empty reply is a success.",
    );
    service(report, stage, tables)?;

    report.step(
        "A host in another subnet",
        "No address asked for: main's default route, eth0. The node puts its own address in front, as Calico does.",
    );
    let seen_as = Some(tables.node);
    ping(report, stage, Ping { options: &[], to: FAR_HOST, from: tables.eth0, by: "eth0", ttl: 61, seen_as })?;

    report.step(
        "The same host by net1",
        "Bound to net1 and its address (-B): table 101's gateway. One hop less, and the host sees the Pod's own address.",
    );
    let options = &["-B", "-I", NET1];
    let seen_as = Some(tables.net1);
    ping(report, stage, Ping { options, to: FAR_HOST, from: tables.net1, by: NET1, ttl: 62, seen_as })?;

    report.step(
        "A host outside of the cluster reaches the Pod",
        "It asks for net1's address. The answer must leave by net1, though the Pod's default route is eth0's.",
    );
    let place = format!("outside {OUTSIDE_HOST}");
    let inwards = Inwards { place: &place, namespace: &stage.lab.topology().outside, from: OUTSIDE_HOST, by: NET1 };
    answers(report, stage, tables, &inwards)?;

    report.step(
        "The node reaches its own Pod by the underlay address",
        "A macvlan and its parent cannot speak to each other: table 500 of the node sends this through eth0, both ways.",
    );
    let node = stage.lab.node("worker01")?;
    let namespace = node.namespace();
    let inwards = Inwards { place: node.name(), namespace, from: node.address(), by: "eth0" };
    answers(report, stage, tables, &inwards)
}

/// A ping out of the Pod and what must come of it.
pub(crate) struct Ping {
    pub(crate) options: &'static [&'static str],
    pub(crate) to: Ipv4Addr,
    pub(crate) from: Ipv4Addr,
    pub(crate) by: &'static str,
    /// What the answers' time to live has left: 64 less one a router.
    pub(crate) ttl: u8,
    /// Whom the far host takes for the sender.
    pub(crate) seen_as: Option<Ipv4Addr>,
}

pub(crate) fn ping(report: &mut Report, stage: &Stage, ping: Ping) -> Result<()> {
    let Ping { options, to, from, by, ttl, seen_as } = ping;
    let here = Capture::start(stage.pod.namespace())?;
    let there = Capture::start(&stage.lab.topology().far)?;
    let pinged = report.run(stage.prompt(), stage.pod.namespace(), &Program::ping(options, to))?;
    let answered = pinged.stdout.matches(&format!(" bytes from {to}: ")).count();
    let lasting = pinged.stdout.matches(&format!(" ttl={ttl} ")).count();
    let fact = format!("both pings were answered, with ttl={ttl}");
    report.check(&fact, pinged.status.success() && (answered, lasting) == (2, 2), || pinged.stdout.clone())?;
    let packets = here.packets()?;
    leaves(report, &packets, Payload::EchoRequest, from, to, by)?;
    if let Some(source) = seen_as {
        let packets = there.packets()?;
        let requests: Vec<_> = packets
            .iter()
            .filter(|packet| packet.payload == Payload::EchoRequest)
            .map(|packet| packet.source)
            .collect();
        report.check(&format!("{to} saw both come from {source}"), requests == [source, source], || lines(&packets))?;
    }
    Ok(())
}

/// Whatever left for `to` with this payload was sent from `from`, by that interface alone, and was two packets.
fn leaves(
    report: &mut Report,
    packets: &[Packet],
    payload: Payload,
    from: Ipv4Addr,
    to: Ipv4Addr,
    by: &str,
) -> Result<()> {
    let sent: Vec<_> = packets
        .iter()
        .filter(|packet| packet.direction == Direction::Out && packet.payload == payload && packet.destination == to)
        .collect();
    let holds = sent.len() == 2 && sent.iter().all(|packet| packet.left_by(by) && packet.goes(from, to));
    let what = if payload == Payload::EchoReply { "answers" } else { "requests" };
    report.check(&format!("captured: both {what} left by {by}, from {from} to {to}"), holds, || lines(packets))
}

pub(crate) fn service(report: &mut Report, stage: &Stage, tables: PodTables) -> Result<()> {
    let capture = Capture::start(stage.pod.namespace())?;
    let curl = Program::new("curl").args(["-sS", "-m", "5", &format!("{SERVICE}:{SERVICE_PORT}"), "-I"]);
    let ended = report.run(stage.prompt(), stage.pod.namespace(), &curl)?;
    let empty = ended.status.code() == Some(52) && ended.stderr.contains("(52) Empty reply from server");
    report.check("the Service accepted the connection and closed it: curl error 52", empty, || ended.stderr.clone())?;
    let packets = capture.packets()?;
    let sent: Vec<_> = packets
        .iter()
        .filter(|packet| packet.direction == Direction::Out && matches!(packet.payload, Payload::Tcp { .. }))
        .collect();
    // A new connection's handshake, a request and an orderly end are never fewer.
    let holds =
        sent.len() >= 3 && sent.iter().all(|packet| packet.left_by("eth0") && packet.goes(tables.eth0, SERVICE));
    let fact = format!("captured: all {} packets of the connection left by eth0, from {}", sent.len(), tables.eth0);
    report.check(&fact, holds, || lines(&packets))
}

/// A ping from elsewhere to the Pod's underlay address.
struct Inwards<'a> {
    place: &'a str,
    namespace: &'a Namespace,
    from: Ipv4Addr,
    /// The Pod's interface that both ways must take.
    by: &'a str,
}

fn answers(report: &mut Report, stage: &Stage, tables: PodTables, inwards: &Inwards<'_>) -> Result<()> {
    let Inwards { place, namespace, from, by } = *inwards;
    let to = tables.net1;
    let capture = Capture::start(stage.pod.namespace())?;
    let pinged = report.run(place, namespace, &Program::ping(&[], to))?;
    let answered = pinged.stdout.matches(&format!(" bytes from {to}: ")).count();
    report.check("both pings were answered", pinged.status.success() && answered == 2, || pinged.stdout.clone())?;
    let packets = capture.packets()?;
    let requests = packets.iter().filter(|packet| packet.payload == Payload::EchoRequest);
    let came = requests.filter(|packet| packet.came_by(by) && packet.goes(from, to)).count();
    report.check(&format!("captured: both requests came by {by}"), came == 2, || lines(&packets))?;
    leaves(report, &packets, Payload::EchoReply, to, from, by)
}

fn lines(packets: &[Packet]) -> String {
    if packets.is_empty() {
        return "no packet at all".to_owned();
    }
    packets.iter().map(|packet| format!("  {packet}")).collect::<Vec<_>>().join("\n")
}
