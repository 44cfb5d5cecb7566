//! The way from what is seen to what is planned, in the order in which the kernel accepts it, and back.

use std::fmt;

use super::{Object, Observation, Plan, Route, Side};

/// One step. It carries what it replaces, so it can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Make an object that is not there.
    Add {
        /// The object.
        object: Object,
        /// Where a route goes among those that compete with it.
        place: Place,
    },
    /// Remove an object that is there.
    Remove {
        /// The object as seen.
        object: Object,
        /// Where a route was among those that compete with it.
        place: Place,
    },
    /// Give an object another value.
    Replace {
        /// The object as seen.
        from: Object,
        /// The object as it shall be.
        to: Object,
    },
}

/// Where a route stands among those of the same table, destination and metric: the kernel takes the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Before them.
    First,
    /// After them.
    Last,
}

impl Change {
    /// The namespace it is made in.
    pub fn side(&self) -> Side {
        self.object().side()
    }

    /// The object that is made, removed or given its new value.
    pub fn object(&self) -> &Object {
        match self {
            Change::Add { object, .. } | Change::Remove { object, .. } => object,
            Change::Replace { to, .. } => to,
        }
    }

    /// What CHECK says of it: how the kernel differs from the plan.
    pub fn difference(&self) -> String {
        match self {
            Change::Add { object, .. } => format!("missing: {object}"),
            Change::Remove { object, .. } => format!("not to be there: {object}"),
            Change::Replace { from, to } => format!("wanted: {to}; found: {from}"),
        }
    }

    fn inverse(&self) -> Change {
        match self.clone() {
            Change::Add { object, place } => Change::Remove { object, place },
            Change::Remove { object, place } => Change::Add { object, place },
            Change::Replace { from, to } => Change::Replace { from: to, to: from },
        }
    }

    /// Its turn: gateways need the routes by which they are reached, rules the tables they name, and nothing is
    /// taken from `main` before it stands elsewhere.
    fn turn(&self) -> u8 {
        match self {
            Change::Replace { .. } => 0,
            Change::Add { object: Object::Sysctl(_) | Object::Link(_), .. } => 0,
            Change::Add { object: Object::Neighbour(_), .. } => 2,
            Change::Add { object: Object::Route(route), .. } => 3 + u8::from(route.gateway.is_some()),
            Change::Add { object: Object::Rule(_), .. } => 5,
            Change::Remove { object: Object::Rule(_), .. } => 6,
            Change::Remove { object: Object::Route(route), .. } => 8 - u8::from(route.gateway.is_some()),
            Change::Remove { .. } => 9,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Add { object, .. } => write!(f, "add {object}"),
            Change::Remove { object, .. } => write!(f, "remove {object}"),
            Change::Replace { from, to } => write!(f, "set {to} (was: {from})"),
        }
    }
}

/// The steps from a recorded plan to another, given what is there; none: the kernel is as `after` says.
///
/// What `before` wanted and `after` does not is removed, unless another sandbox wants it too, or it is a host rule whose
/// table others have routes in; what `before` moved away comes back if its link is still there. Kernel settings and link
/// attributes stay as they are. What competes with a wanted object gives way.
pub fn changes(before: &Plan, after: &Plan, seen: &Observation) -> Vec<Change> {
    let (wanted, unwanted) = (after.wanted(), after.unwanted());
    let mut steps = Steps { seen, list: Vec::new() };
    for object in &wanted {
        for rival in rivals(object, seen) {
            if !wanted.iter().any(|wanted| wanted.same(&rival)) {
                steps.remove(rival, 1);
            }
        }
        match seen.side(object.side()).counterpart(object) {
            Some(found) if found.same(object) => {}
            Some(from) => steps.push(Change::Replace { from, to: (*object).clone() }),
            None => steps.push(Change::Add { object: (*object).clone(), place: Place::First }),
        }
    }
    for object in &unwanted {
        steps.remove_if_there(object);
    }
    for object in before.wanted().difference(&wanted) {
        let lasting = matches!(object, Object::Sysctl(_) | Object::Link(_));
        let shared = seen.is_shared(object);
        let kept = wanted.iter().any(|wanted| wanted.same(object));
        if !lasting && !shared && !kept {
            steps.remove_if_there(object);
        }
    }
    for object in before.unwanted().difference(&unwanted) {
        let side = seen.side(object.side());
        let can_be = object.device().is_none_or(|device| side.link(device).is_some());
        if can_be && side.counterpart(object).is_none() {
            steps.push(Change::Add { object: (*object).clone(), place: Place::Last });
        }
    }
    steps.list.sort_by_key(|(turn, _)| *turn);
    steps.list.into_iter().map(|(_, change)| change).collect()
}

/// The steps back from those that were made, in reverse.
pub fn undo(applied: &[Change]) -> Vec<Change> {
    applied.iter().rev().map(Change::inverse).collect()
}

struct Steps<'a> {
    seen: &'a Observation,
    list: Vec<(u8, Change)>,
}

impl Steps<'_> {
    fn push(&mut self, change: Change) {
        let turn = change.turn();
        self.list.push((turn, change));
    }

    fn remove_if_there(&mut self, object: &Object) {
        if let Some(found) = self.seen.side(object.side()).counterpart(object).filter(|found| found.same(object)) {
            let change = Change::Remove { object: found.clone(), place: Place::Last };
            self.remove(found, change.turn());
        }
    }

    fn remove(&mut self, object: Object, turn: u8) {
        if !self.removes(&object) {
            let place = self.place(&object);
            self.list.push((turn, Change::Remove { object, place }));
        }
    }

    fn removes(&self, object: &Object) -> bool {
        self.list.iter().any(|(_, change)| matches!(change, Change::Remove { object: gone, .. } if gone == object))
    }

    /// Where a route stands among its rivals that are still there when it is removed.
    fn place(&self, object: &Object) -> Place {
        let Object::Route(route) = object else { return Place::Last };
        let first = self
            .seen
            .side(route.side)
            .routes
            .iter()
            .filter(|other| other.competes(route))
            .find(|other| !self.removes(&Object::from((*other).clone())));
        if first == Some(route) { Place::First } else { Place::Last }
    }
}

/// What is seen in an object's way: routes that compete with it, and on the host the same neighbour on other links.
fn rivals(object: &Object, seen: &Observation) -> Vec<Object> {
    let side = seen.side(object.side());
    match object {
        Object::Route(route) => {
            let rival = |other: &&Route| other.competes(route) && !other.same(route);
            side.routes.iter().filter(rival).cloned().map(Object::from).collect()
        }
        Object::Neighbour(neighbour) if neighbour.side == Side::Host => side
            .neighbours
            .iter()
            .filter(|other| other.address == neighbour.address && other.device != neighbour.device)
            .cloned()
            .map(Object::from)
            .collect(),
        _ => Vec::new(),
    }
}
