use spiderpool_core::world::{Affinity, Pool};

use super::*;

fn pool(name: &str, ranges: &[&str]) -> Arc<Pool> {
    Arc::new(Pool {
        name: name.into(),
        subnet: "10.6.0.0/16".parse().unwrap(),
        addresses: set(ranges),
        gateway: None,
        routes: Vec::new(),
        default: false,
        disabled: false,
        terminating: false,
        node: Affinity::Any,
        namespace: Affinity::Any,
        pod: None,
        multus_names: Vec::new(),
    })
}

fn set(ranges: &[&str]) -> AddressSet {
    ranges.iter().map(|range| range.parse::<spiderpool_core::address::AddressRange>().unwrap()).collect()
}

fn session() -> Session {
    Session { journal: JournalId(1), id: 4, granted: 0, leases: BTreeMap::new(), asked_back: AddressSet::new() }
}

fn world(pools: impl IntoIterator<Item = Arc<Pool>>) -> World {
    World::new(pools, AddressSet::new())
}

/// Rule: Only from the lease. Rule: Shrink by consent.
#[test]
fn follows_the_pools_with_grants_and_withdrawals() {
    let mut session = session();
    let first = world([pool("a", &["10.6.0.1-10.6.0.9"]), pool("b", &["10.6.1.1-10.6.1.9"])]);
    let grants = session.missing(&first);
    assert_eq!(
        grants.iter().map(|grant| grant.addresses.to_string()).collect::<Vec<_>>(),
        ["10.6.0.1-10.6.0.9", "10.6.1.1-10.6.1.9"]
    );
    assert!(session.missing(&first).is_empty() && session.surplus(&first).is_empty(), "nothing twice");

    let second = world([pool("a", &["10.6.0.5-10.6.0.12"])]);
    let grown = session.missing(&second);
    assert_eq!(grown[0].addresses, set(&["10.6.0.10-10.6.0.12"]));
    assert_ne!(grown[0].id, grants[0].id, "a grant's ID is never used twice");
    let lost = session.surplus(&second);
    assert_eq!(lost, [(grants[0].id, set(&["10.6.0.1-10.6.0.4"])), (grants[1].id, set(&["10.6.1.1-10.6.1.9"]))]);
    assert!(session.surplus(&second).is_empty(), "asked once");

    // Asked back and wanted again before it came: it is granted anew only once the node let go.
    assert!(session.missing(&first).is_empty());
    session.returned(grants[0].id, &set(&["10.6.0.1-10.6.0.4"]));
    assert_eq!(session.missing(&first)[0].addresses, set(&["10.6.0.1-10.6.0.4"]));
}
