//! A model of what the kernel does with changes. It refuses what the kernel refuses.

use crate::plan::{Change, LinkAttribute, Object, Observation, Place, Route, Seen, Side};

pub(super) fn apply(seen: &mut Observation, changes: &[Change]) {
    for change in changes {
        let namespace = match change.side() {
            Side::Host => &mut seen.host,
            Side::Pod => &mut seen.pod,
        };
        match change {
            Change::Add { object, place } => add(namespace, object, *place),
            Change::Remove { object, .. } => remove(namespace, object),
            Change::Replace { from, to } => {
                assert_ne!(from, to);
                set(namespace, to);
            }
        }
    }
}

fn add(seen: &mut Seen, object: &Object, place: Place) {
    match object {
        Object::Sysctl(_) | Object::Link(_) => set(seen, object),
        Object::Neighbour(neighbour) => seen.neighbours.push(neighbour.clone()),
        Object::Rule(rule) => {
            assert!(!seen.rules.contains(rule), "EEXIST: {object}");
            seen.rules.push(rule.clone());
        }
        Object::Route(route) => add_route(seen, route, place),
    }
}

fn add_route(seen: &mut Seen, route: &Route, place: Place) {
    assert!(seen.link(&route.device).is_some_and(|link| link.up), "ENETDOWN: {route}");
    assert!(!seen.routes.iter().any(|other| other.same(route)), "EEXIST: {route}");
    if let Some(gateway) = route.gateway.filter(|_| !route.onlink) {
        let reaches = |other: &Route| {
            other.device == route.device && other.gateway.is_none() && other.destination.contains(&gateway)
        };
        let link_local = matches!(gateway, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
        assert!(
            link_local || seen.routes.iter().any(reaches) || matches!(gateway, std::net::IpAddr::V6(_)),
            "ENETUNREACH: {route}"
        );
    }
    let at = match place {
        Place::First => seen.routes.iter().position(|other| other.competes(route)),
        Place::Last => None,
    };
    seen.routes.insert(at.unwrap_or(seen.routes.len()), route.clone());
}

fn remove(seen: &mut Seen, object: &Object) {
    fn take<T: PartialEq + std::fmt::Debug>(list: &mut Vec<T>, item: &T) {
        let at = list.iter().position(|other| other == item);
        list.remove(at.unwrap_or_else(|| panic!("ENOENT: {item:?}")));
    }
    match object {
        Object::Neighbour(neighbour) => take(&mut seen.neighbours, neighbour),
        Object::Rule(rule) => take(&mut seen.rules, rule),
        Object::Route(route) => take(&mut seen.routes, route),
        Object::Sysctl(_) | Object::Link(_) => {}
    }
}

fn set(seen: &mut Seen, object: &Object) {
    match object {
        Object::Sysctl(sysctl) => {
            seen.sysctls.insert(sysctl.key.clone(), sysctl.value.clone());
        }
        Object::Link(link) => {
            let found = seen.links.iter_mut().find(|seen| seen.name == link.device).expect("ENODEV");
            match link.attribute {
                LinkAttribute::Up(up) => found.up = up,
                LinkAttribute::TxQueueLength(length) => found.tx_queue_length = length,
                LinkAttribute::Mac(mac) => found.mac = Some(mac),
            }
        }
        Object::Neighbour(neighbour) => {
            let key = |other: &&mut crate::plan::Neighbour| {
                (&other.device, other.address) == (&neighbour.device, neighbour.address)
            };
            *seen.neighbours.iter_mut().find(key).expect("ENOENT") = neighbour.clone();
        }
        Object::Rule(_) | Object::Route(_) => panic!("routes and rules are added and removed, not set: {object}"),
    }
}

/// The observation without the order of things that do not compete.
pub(super) fn sorted(seen: &Observation) -> Observation {
    let mut sorted = seen.clone();
    for side in [&mut sorted.pod, &mut sorted.host] {
        side.routes.sort();
        side.rules.sort();
        side.neighbours.sort();
    }
    sorted
}

/// The routes that win among their rivals.
pub(super) fn choices(seen: &Observation) -> Vec<Route> {
    let routes = &seen.pod.routes;
    let wins = |(at, route): &(usize, &Route)| !routes[..*at].iter().any(|other| other.competes(route));
    let mut winners: Vec<Route> = routes.iter().enumerate().filter(wins).map(|(_, route)| route.clone()).collect();
    winners.sort();
    winners
}
