//! One document of a folder: which object it names, and the object or what is wrong with it.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use spiderpool_core::address::AddressSet;
use spiderpool_core::world::{self, Coordinator, Pool};

use super::{Place, Remark};
use crate::coordinator::SpiderCoordinator;
use crate::document::{self, Node};
use crate::invalid::Invalid;
use crate::pool::SpiderIPPool;
use crate::reserved::SpiderReservedIP;
use crate::{API_VERSION, namespace, node};

/// The kinds that a folder may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pool,
    Reserved,
    Coordinator,
    Namespace,
    Node,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Pool, Kind::Reserved, Kind::Coordinator, Kind::Namespace, Kind::Node];

    fn name(self) -> &'static str {
        match self {
            Kind::Pool => "SpiderIPPool",
            Kind::Reserved => "SpiderReservedIP",
            Kind::Coordinator => "SpiderCoordinator",
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Kind::Pool | Kind::Reserved | Kind::Coordinator => API_VERSION,
            Kind::Namespace | Kind::Node => "v1",
        }
    }
}

/// Kind and name: what makes two documents speak of the same object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)
    }
}

/// A valid object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Pool(Arc<Pool>),
    Reserved(AddressSet),
    Coordinator(Coordinator),
    Namespace(world::Namespace),
    Node(world::Node),
}

impl Object {
    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        if let Object::Pool(pool) = self { Some(pool) } else { None }
    }

    pub(super) fn reserved(&self) -> Option<&AddressSet> {
        if let Object::Reserved(addresses) = self { Some(addresses) } else { None }
    }
}

/// A valid object with its place, and the document for the lines of its fields.
pub(super) struct Reading {
    pub(super) object: Object,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// What a document says.
pub(super) struct Document {
    /// The object that it names, as far as that can be told.
    pub(super) identity: Option<Identity>,
    pub(super) place: Place,
    /// The line of the object's name.
    pub(super) name_line: usize,
    pub(super) outcome: Result<Box<Reading>, Vec<Remark>>,
    /// What is valid, but probably not meant.
    pub(super) remarks: Vec<Remark>,
}

/// The documents of a file; empty ones are left out.
pub(super) fn documents(file: &str, text: &str) -> Vec<Document> {
    document::split(text).into_iter().filter_map(|(first, text)| Document::parse(file, first, text)).collect()
}

impl Document {
    fn parse(file: &str, first: usize, text: &str) -> Option<Document> {
        let node = match Node::parse(first, text) {
            Ok(node) => node?,
            Err(error) => {
                let remark =
                    Remark { file: file.into(), line: error.line, field: String::new(), text: error.to_string() };
                let place = Place { file: file.into(), line: first };
                return Some(Document::obscure(place, vec![remark]));
            }
        };
        let place = Place { file: file.into(), line: node.line };
        let remarks_of = |faults: Vec<Invalid>| -> Vec<Remark> {
            let remark = |Invalid { field, reason }| Remark {
                file: file.into(),
                line: node.line_of(&field),
                field,
                text: reason,
            };
            faults.into_iter().map(remark).collect()
        };
        let kind = match kind(&node) {
            Ok(kind) => kind,
            Err(fault) => {
                let remarks = remarks_of(vec![fault]);
                return Some(Document::obscure(place, remarks));
            }
        };
        let name = node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text);
        let identity = name.map(|name| Identity { kind, name: name.into() });
        let (object, remarks) = parse(kind, &node);
        let remarks = remarks_of(remarks);
        let outcome = object.map_err(remarks_of);
        let name_line = node.line_of("metadata.name");
        let outcome = outcome.map(|object| Box::new(Reading { object, place: place.clone(), node }));
        Some(Document { identity, place, name_line, outcome, remarks })
    }

    /// A document whose object cannot be told.
    fn obscure(place: Place, faults: Vec<Remark>) -> Document {
        Document { identity: None, name_line: place.line, place, outcome: Err(faults), remarks: Vec::new() }
    }
}

/// The kind that a document says it is of.
fn kind(node: &Node) -> Result<Kind, Invalid> {
    let known = || Kind::ALL.map(Kind::name).join(", ");
    let fault = |reason| Invalid { field: "kind".into(), reason };
    let Some(text) = node.get("kind").and_then(Node::text) else {
        return Err(fault(format!("is missing; write one of {}", known())));
    };
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    kind.ok_or_else(|| fault(format!("{text:?} is not known here; write one of {}", known())))
}

/// The object of a document and what is to be said about it, or all of its faults.
fn parse(kind: Kind, node: &Node) -> (Result<Object, Vec<Invalid>>, Vec<Invalid>) {
    let mut faults = Vec::new();
    let version = node.get("apiVersion").and_then(Node::text);
    if version != Some(kind.api_version()) {
        let (name, right) = (kind.name(), kind.api_version());
        let reason = match version {
            Some(text) => format!("{text:?} is not the version of {name}; write {right}"),
            None => format!("is missing; write {right}"),
        };
        faults.push(Invalid { field: "apiVersion".into(), reason });
    }
    let mut body = node.clone();
    body.remove("apiVersion");
    body.remove("kind");
    let mut remarks = Vec::new();
    let object = match kind {
        Kind::Pool => check(&body, &mut faults, |pool: &SpiderIPPool| {
            remarks = pool.remarks();
            pool.parse().map(Arc::new).map(Object::Pool)
        }),
        Kind::Reserved => check(&body, &mut faults, |it: &SpiderReservedIP| it.parse().map(Object::Reserved)),
        Kind::Coordinator => check(&body, &mut faults, |it: &SpiderCoordinator| it.parse().map(Object::Coordinator)),
        Kind::Namespace => check(&body, &mut faults, |it: &namespace::Namespace| it.parse().map(Object::Namespace)),
        Kind::Node => check(&body, &mut faults, |it: &node::Node| it.parse().map(Object::Node)),
    };
    match object {
        Some(object) if faults.is_empty() => (Ok(object), remarks),
        _ => (Err(faults), Vec::new()),
    }
}

/// Reads an object and parses it; all faults are noted, those of the rules as far as the structure lets them be told.
fn check<T: DeserializeOwned>(
    body: &Node,
    faults: &mut Vec<Invalid>,
    parse: impl FnOnce(&T) -> Result<Object, Vec<Invalid>>,
) -> Option<Object> {
    let (read, structure) = document::read::<T>(body);
    faults.extend(structure.faults);
    let parsed = read.filter(|_| !structure.shifted).map(|read| parse(&read))?;
    parsed.map_err(|more| faults.extend(more)).ok()
}
