//! `why`: what is recorded and remembered of one address, or of one container and its attachments.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::bail;
use ipnet::IpNet;
use spiderpool_proto::node::{self as wire, AddressState, FactKind};

use crate::client::{self, Inspect, told};
use crate::config::WhyArgs;
use crate::status::{pod, short, waiting_rows, why_dying};
use crate::table::{Table, plain};

/// Carries out `why`.
pub(crate) fn why(args: &WhyArgs) -> anyhow::Result<()> {
    let subject = args.subject.clone();
    match as_address(&subject) {
        Some(address) => client::ask(&args.daemon.socket, move |inspect| of_address(inspect, address)),
        None => client::ask(&args.daemon.socket, move |inspect| of_container(inspect, subject)),
    }
}

/// An address, also as a table shows it, with its prefix length.
fn as_address(subject: &str) -> Option<IpAddr> {
    let bare = subject.parse().ok();
    bare.or_else(|| subject.parse::<IpNet>().ok().map(|network| network.addr()))
}

async fn of_address(mut inspect: Inspect, address: IpAddr) -> anyhow::Result<String> {
    let request = wire::GetAddressRequest { address: address.to_string() };
    Ok(address_text(&told(inspect.get_address(request).await)?))
}

async fn of_container(mut inspect: Inspect, asked: String) -> anyhow::Result<String> {
    let request = wire::GetContainerRequest { container_id: asked.clone() };
    let container = told(inspect.get_container(request).await)?;
    if container.container_id.is_empty() {
        let listed: Vec<String> = container.matches.iter().map(|id| format!("\n  {}", plain(id))).collect();
        bail!("several containers begin with {asked:?}; write more of one of these IDs:{}", listed.concat());
    }
    Ok(container_text(&container))
}

fn address_text(seen: &wire::Address) -> String {
    let mut text = String::new();
    let holder = seen.holder.clone().unwrap_or_default();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<11}{}", plain(value));
    };
    line("address", &seen.address);
    line("state", &state(seen, &holder));
    line("pool", &seen.pool);
    // Of a dying address's holder less is recorded than of one in use.
    for (name, value) in [
        ("container", &holder.container_id),
        ("interface", &holder.interface),
        ("network", &holder.network),
        ("pod", &pod(&holder.pod_namespace, &holder.pod_name)),
        ("namespace", &holder.netns),
        ("since", &holder.since),
    ] {
        if !value.is_empty() {
            line(name, value);
        }
    }
    text.push_str(&history("CONTAINER", |fact| short(&fact.container_id), &seen.history));
    text
}

/// The state and what it means.
fn state(seen: &wire::Address, holder: &wire::Allocation) -> String {
    match seen.state() {
        AddressState::InUse => "in use".into(),
        AddressState::Idle => "idle: it can be given out at once".into(),
        AddressState::Dying => format!("dying: {}", why_dying(seen.dying_reason(), &holder.netns)),
        AddressState::Cooling => format!(
            "cooling: neighbours are to forget who had it; idle in {} s, earlier if a pool runs dry",
            seen.cooling_seconds
        ),
        AddressState::Quarantined => format!(
            "quarantined: {} uses it, seen {}; not given out until a probe hears nobody",
            seen.used_by, seen.seen
        ),
        AddressState::NotLeased | AddressState::Unspecified => {
            "not leased to this node: no pool has it, or the pool lost it".into()
        }
    }
}

fn container_text(container: &wire::Container) -> String {
    let mut text = format!("container  {}\n", plain(&container.container_id));
    if let Some(held) = container.allocations.first() {
        let _ = writeln!(text, "pod        {}", plain(&pod(&held.pod_namespace, &held.pod_name)));
        let _ = writeln!(text, "namespace  {}", plain(&held.netns));
    }
    text.push_str(&allocations(&container.allocations));
    if !container.waiting.is_empty() {
        let _ = write!(text, "\n{}", waiting_rows(&container.waiting));
    }
    if !container.dying.is_empty() {
        let mut table = Table::new(&["DYING", "POOL", "INTERFACE", "WHY"]);
        for dying in &container.dying {
            let why = why_dying(dying.reason(), &dying.netns);
            table.row([dying.address.clone(), dying.pool.clone(), dying.interface.clone(), why]);
        }
        let _ = write!(text, "\n{table}");
    }
    match container.plan.is_empty() && container.planned.is_empty() {
        true => text.push_str("\nplan: none\n"),
        false => {
            let _ = writeln!(text, "\nplan of {}:", plain(&container.planned.join(", ")));
            container.plan.lines().for_each(|line| {
                let _ = writeln!(text, "  {}", plain(line));
            });
        }
    }
    text.push_str(&history("ADDRESS", |fact| fact.address.clone(), &container.history));
    text
}

fn allocations(held: &[wire::Allocation]) -> String {
    if held.is_empty() {
        return "\naddresses: none held\n".into();
    }
    let mut table = Table::new(&["INTERFACE", "NETWORK", "IPV4", "IPV4POOL", "IPV6", "IPV6POOL", "SINCE"]);
    for held in held {
        table.row([
            held.interface.clone(),
            held.network.clone(),
            held.ipv4.clone(),
            held.ipv4_pool.clone(),
            held.ipv6.clone(),
            held.ipv6_pool.clone(),
            held.since.clone(),
        ]);
    }
    format!("\n{table}")
}

/// What happened; `heading` and `other` name what the subject had to do with.
fn history(heading: &str, other: impl Fn(&wire::Fact) -> String, facts: &[wire::Fact]) -> String {
    if facts.is_empty() {
        return "\nhistory: nothing is remembered\n".into();
    }
    let mut table = Table::new(&["AT", "WHAT", heading, "INTERFACE", "NETWORK", "POD"]);
    for fact in facts {
        let what = match fact.kind() {
            FactKind::Allocated => "given out".into(),
            FactKind::Released => "taken back".into(),
            FactKind::Taken => format!("found used by {}", fact.used_by),
            FactKind::Unspecified => String::new(),
        };
        table.row([
            fact.at.clone(),
            what,
            other(fact),
            fact.interface.clone(),
            fact.network.clone(),
            pod(&fact.pod_namespace, &fact.pod_name),
        ]);
    }
    format!("\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_its_prefix_length() {
        assert_eq!(as_address("10.6.0.9/16"), Some([10, 6, 0, 9].into()));
        assert_eq!(as_address("fd00::1"), Some([0xfd00, 0, 0, 0, 0, 0, 0, 1].into()));
        assert_eq!(as_address("3f2a9c61d07b"), None);
    }

    #[test]
    fn an_address_says_its_state_its_holder_and_its_past() {
        let fact = wire::Fact {
            at: "2026-11-23T04:27:31Z".into(),
            kind: FactKind::Released.into(),
            container_id: "0123456789abcdef".into(),
            address: "10.6.0.9".into(),
            ..<_>::default()
        };
        let holder =
            wire::Allocation { container_id: "0123456789abcdef".into(), netns: "/n/a".into(), ..<_>::default() };
        let seen = wire::Address {
            address: "10.6.0.9".into(),
            state: AddressState::Dying.into(),
            dying_reason: wire::DyingReason::Gone.into(),
            holder: Some(holder),
            history: vec![fact.clone()],
            ..<_>::default()
        };
        let text = address_text(&seen);
        for part in [
            "address    10.6.0.9\n",
            "state      dying: gone from the kernel; comes free in a moment\n",
            "container  0123456789abcdef\n",
            "2026-11-23T04:27:31Z  taken back  0123456789abc  ",
        ] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
        assert!(!text.contains("\npod "), "{text}");
        let container = wire::Container { container_id: "c".into(), history: vec![fact], ..<_>::default() };
        let text = container_text(&container);
        for part in ["container  c\n", "addresses: none held\n", "plan: none\n", "taken back  10.6.0.9  "] {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }
}
