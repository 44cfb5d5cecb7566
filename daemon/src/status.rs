//! `status`: the daemon's state at one glance, for people.

use std::fmt::Write as _;

use spiderpool_proto::node::{self as wire, DyingReason};

use crate::client::{self, Inspect, told};
use crate::config::StatusArgs;
use crate::table::{Table, plain};

/// Most dying addresses that are shown.
const SHOWN: u32 = 20;

/// Carries out `status`.
pub(crate) fn status(args: &StatusArgs) -> anyhow::Result<()> {
    client::ask(&args.daemon.socket, questions)
}

async fn questions(mut inspect: Inspect) -> anyhow::Result<String> {
    let node = told(inspect.get_node(wire::GetNodeRequest {}).await)?;
    let pools = told(inspect.list_pools(wire::ListPoolsRequest {}).await)?.pools;
    let waiting = told(inspect.list_waiting(wire::ListWaitingRequest {}).await)?;
    let first = wire::ListDyingRequest { page_size: SHOWN, ..Default::default() };
    let dying = told(inspect.list_dying(first).await)?;
    Ok(render(&node, &pools, &waiting, &dying))
}

fn render(
    node: &wire::Node,
    pools: &[wire::Pool],
    waiting: &wire::ListWaitingReply,
    dying: &wire::ListDyingReply,
) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<9}{}", plain(value));
    };
    line("node", &node.name);
    line("daemon", &node.version);
    line("journal", &node.journal_id);
    line("feeder", &node.feeder);
    line("holding", &format!("addresses for {} attachments, plans of {} sandboxes", node.attachments, node.plans));
    line("routes", if node.no_routes.is_empty() { "ready" } else { &node.no_routes });
    if !node.full.is_empty() {
        line("disk", &node.full);
    }
    text.push_str(&pool_table(pools));
    text.push_str(&waiting_table(waiting));
    text.push_str(&dying_table(dying));
    text.push_str(&refused(&node.refused));
    text
}

fn pool_table(pools: &[wire::Pool]) -> String {
    if pools.is_empty() {
        return "\npools: none; write a SpiderIPPool\n".into();
    }
    let mut table = Table::new(&["POOL", "SUBNET", "GATEWAY", "TOTAL", "IN USE", "DYING", "COOLING", "FREE", "REMARK"]);
    for pool in pools {
        let strangers = format!("{} used by strangers", pool.quarantined);
        let remarks = [
            (pool.default, "default"),
            (pool.disabled, "gives out nothing new"),
            (pool.quarantined > 0, strangers.as_str()),
        ];
        let remarks: Vec<&str> = remarks.iter().filter(|(is, _)| *is).map(|(_, remark)| *remark).collect();
        table.row([
            pool.name.clone(),
            pool.subnet.clone(),
            pool.gateway.clone(),
            pool.total.clone(),
            pool.in_use.to_string(),
            pool.dying.to_string(),
            pool.cooling.to_string(),
            pool.free.clone(),
            remarks.join(", "),
        ]);
    }
    format!("\n{table}")
}

fn waiting_table(reply: &wire::ListWaitingReply) -> String {
    if reply.waiting.is_empty() {
        return "\nwaiting: no ADD\n".into();
    }
    let more = reply.total.saturating_sub(reply.waiting.len() as u64);
    format!("\n{}{}", waiting_rows(&reply.waiting), rest(more > 0, &format!("{more} more")))
}

/// ADD calls that wait, a row each.
pub(crate) fn waiting_rows(waiting: &[wire::Waiting]) -> Table {
    let mut table = Table::new(&["WAITING", "INTERFACE", "POD", "FOR", "LEFT", "WHY"]);
    for waiting in waiting {
        table.row([
            short(&waiting.container_id),
            waiting.interface.clone(),
            pod(&waiting.pod_namespace, &waiting.pod_name),
            format!("{:.1} s", waiting.waited_seconds),
            format!("{:.1} s", waiting.left_seconds),
            why_waits(waiting),
        ]);
    }
    table
}

/// What an ADD waits for.
fn why_waits(waiting: &wire::Waiting) -> String {
    if waiting.asked.is_empty() {
        format!("nothing free; a dying address of {} would do", waiting.pools.join(", "))
    } else {
        format!("asked the feeder for addresses of {}", waiting.asked.join(", "))
    }
}

fn dying_table(reply: &wire::ListDyingReply) -> String {
    if reply.dying.is_empty() {
        return "\ndying: no address\n".into();
    }
    let mut table = Table::new(&["DYING", "POOL", "HELD BY", "INTERFACE", "WHY"]);
    for dying in &reply.dying {
        table.row([
            dying.address.clone(),
            dying.pool.clone(),
            short(&dying.container_id),
            dying.interface.clone(),
            why_dying(dying.reason(), &dying.netns),
        ]);
    }
    let more = "more: grpcurl … spiderpool.node.v1.Inspect/ListDying";
    format!("\n{table}{}", rest(!reply.next_page_token.is_empty(), more))
}

/// Why an address cannot be given out yet.
pub(crate) fn why_dying(reason: DyingReason, netns: &str) -> String {
    match reason {
        DyingReason::Configured => format!("released, but still on a link in {netns}"),
        DyingReason::Gone => "gone from the kernel; comes free in a moment".into(),
        DyingReason::Unknown | DyingReason::Unspecified => {
            format!("released, but {netns} cannot be looked into; see the daemon's log")
        }
    }
}

fn refused(documents: &[String]) -> String {
    if documents.is_empty() {
        return "\nrefused: no document\n".into();
    }
    let listed: String = documents.iter().map(|document| format!("  {}\n", plain(document))).collect();
    format!("\nrefused, the last good state stays in force:\n{listed}")
}

fn rest(is: bool, text: &str) -> String {
    if is { format!("  {text}\n") } else { String::new() }
}

/// A Pod as kubectl names it.
pub(crate) fn pod(namespace: &str, name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{namespace}/{name}") }
}

/// Enough of a container's ID for a column; `why` takes it.
pub(crate) fn short(container: &str) -> String {
    container.chars().take(13).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_waits_and_why() {
        let pool =
            wire::Pool { name: "10-6-v4".into(), total: "1".into(), dying: 1, free: "0".into(), ..<_>::default() };
        let waits = wire::Waiting {
            container_id: "0123456789abcdef".into(),
            interface: "net1".into(),
            pod_namespace: "default".into(),
            pod_name: "web-0".into(),
            pools: vec!["10-6-v4".into()],
            waited_seconds: 1.26,
            left_seconds: 6.7,
            ..<_>::default()
        };
        let waiting = wire::ListWaitingReply { waiting: vec![waits], total: 3 };
        let dies = wire::Dying {
            address: "10.6.0.9".into(),
            netns: "/run/netns/a".into(),
            reason: DyingReason::Configured.into(),
            ..<_>::default()
        };
        let dying = wire::ListDyingReply { dying: vec![dies], next_page_token: "10.6.0.9".into() };
        let node = wire::Node { name: "worker01".into(), refused: vec!["pool.yaml:7: x".into()], ..<_>::default() };
        let text = render(&node, &[pool], &waiting, &dying);
        let row = text.lines().find(|line| line.starts_with("0123456789abc ")).unwrap();
        assert!(
            row.contains("default/web-0  1.3 s  6.7 s  nothing free; a dying address of 10-6-v4 would do"),
            "{row}"
        );
        for part in [
            "node     worker01\n",
            "routes   ready\n",
            "  2 more\n",
            "released, but still on a link in /run/netns/a\n",
            "  more: grpcurl",
            "stays in force:\n  pool.yaml:7: x\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }

    #[test]
    fn a_quiet_node_is_said_to_be_quiet() {
        let text = render(&<_>::default(), &[], &<_>::default(), &<_>::default());
        for part in ["pools: none", "waiting: no ADD\n", "dying: no address\n", "refused: no document\n"] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }
}
