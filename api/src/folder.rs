//! A folder of YAML documents as the source of what is known: standalone mode.
//!
//! The texts are given in; nothing here reads a disk. What is refused has file, line and field, and leaves the last
//! good state in force:
//! - a document that is refused keeps the last good version of the object that it names;
//! - a document whose object cannot be told (no YAML, no kind, no name) keeps all objects that came from its file,
//!   as far as no other document gives them;
//! - an object that no document gives any more is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use spiderpool_core::world::{Pool, World};

use crate::invalid::Invalid;
use crate::overlap::conflict;

mod object;

use object::{Identity, Kind, Object, Reading};

/// A file of the folder.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
}

/// Something to be said about a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Name of the file.
    pub file: String,
    /// The line of the field, counted from 1 in the file.
    pub line: usize,
    /// Path of the field; empty if the whole document is meant.
    pub field: String,
    /// What is to be said; of something refused, what is wrong and the fix.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}

/// What a folder's files come to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is known. The same value as before if nothing changed.
    pub world: Arc<World>,
    /// What was refused.
    pub refused: Vec<Remark>,
    /// What was taken, but is probably not meant.
    pub noticed: Vec<Remark>,
}

/// The folder's last good state.
#[derive(Debug)]
pub struct Folder {
    node: String,
    coordinator: String,
    good: BTreeMap<Identity, Held>,
    world: Arc<World>,
}

/// An object with the place that it came from.
#[derive(Clone, Debug)]
struct Held {
    object: Object,
    place: Place,
}

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What the documents of one load name and give.
#[derive(Default)]
struct Intake {
    /// Objects that are named, valid or not, with the place of the first document that names them.
    named: BTreeMap<Identity, Place>,
    /// Valid ones.
    readings: BTreeMap<Identity, Reading>,
    /// Files with a document whose object cannot be told.
    obscure: BTreeSet<String>,
    refused: Vec<Remark>,
    noticed: Vec<Remark>,
}

impl Folder {
    /// An empty folder of the node of that name, whose routes the SpiderCoordinator of the other name sets.
    pub fn new(node: &str, coordinator: &str) -> Folder {
        let mut folder =
            Folder { node: node.into(), coordinator: coordinator.into(), good: BTreeMap::new(), world: Arc::default() };
        folder.world = Arc::new(folder.build());
        folder
    }

    /// Whether a file is read: its name ends in `.yaml`, `.yml` or `.json`, and does not begin with a dot, as what
    /// editors keep beside a file does.
    pub fn reads(file: &str) -> bool {
        let ending = file.rsplit_once('.').map(|(_, ending)| ending);
        !file.starts_with('.') && matches!(ending, Some("yaml" | "yml" | "json"))
    }

    /// Takes over what the files hold now. All files are given each time, in any order; those that are not read are
    /// passed over. Of two documents for one object the later one, by file name and line, is refused.
    pub fn load(&mut self, mut files: Vec<File>) -> Loaded {
        files.retain(|file| Folder::reads(&file.name));
        files.sort_by(|left, right| left.name.cmp(&right.name));
        let mut intake = Intake::default();
        files.iter().for_each(|file| intake.take_file(file));
        let Intake { named, mut readings, obscure, mut refused, mut noticed } = intake;
        noticed.extend(readings.iter().filter_map(|(identity, reading)| self.idle(identity, reading)));

        let mut kept: BTreeMap<Identity, Held> = BTreeMap::new();
        for (identity, held) in &self.good {
            match named.get(identity) {
                Some(_) if readings.contains_key(identity) => {}
                Some(place) => {
                    kept.insert(identity.clone(), Held { place: place.clone(), ..held.clone() });
                }
                None if obscure.contains(&held.place.file) => {
                    kept.insert(identity.clone(), held.clone());
                }
                None => {}
            }
        }
        self.part(&mut readings, &mut kept, &mut refused);
        kept.extend(readings.into_iter().map(|(identity, reading)| (identity, reading.held())));
        self.good = kept;
        let world = self.build();
        if world != *self.world {
            self.world = Arc::new(world);
        }
        refused.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
        Loaded { world: self.world.clone(), refused, noticed }
    }

    /// Refuses pools that cannot stand beside others. One that is refused falls back to its last good version, and
    /// the rest is tried anew beside it: the last good versions never stood in each other's way.
    fn part(
        &self,
        readings: &mut BTreeMap<Identity, Reading>,
        kept: &mut BTreeMap<Identity, Held>,
        refused: &mut Vec<Remark>,
    ) {
        loop {
            let clashes = self.clashes(readings, kept);
            let fallback = |(identity, _): &&(Identity, Remark)| self.good.contains_key(identity);
            let Some((identity, remark)) = clashes.iter().find(fallback) else {
                for (identity, remark) in clashes {
                    readings.remove(&identity);
                    refused.push(remark);
                }
                return;
            };
            refused.push(remark.clone());
            if let (Some(held), Some(reading)) = (self.good.get(identity), readings.remove(identity)) {
                kept.insert(identity.clone(), Held { object: held.object.clone(), place: reading.place });
            }
        }
    }

    /// The pools that cannot stand. Those that are as they were stand; the others join them in the order of writing.
    fn clashes(
        &self,
        readings: &BTreeMap<Identity, Reading>,
        kept: &BTreeMap<Identity, Held>,
    ) -> Vec<(Identity, Remark)> {
        let unchanged =
            |identity: &Identity, object: &Object| self.good.get(identity).is_some_and(|held| held.object == *object);
        let mut standing: Vec<(&Pool, &Place)> =
            kept.values().filter_map(|held| Some((held.object.pool()?.as_ref(), &held.place))).collect();
        let mut joining = Vec::new();
        for (identity, reading) in readings {
            match reading.object.pool() {
                Some(pool) if unchanged(identity, &reading.object) => standing.push((pool, &reading.place)),
                Some(pool) => joining.push((&reading.place, pool, identity, &reading.node)),
                None => {}
            }
        }
        joining.sort_by_key(|(place, ..)| *place);
        let mut clashes = Vec::new();
        for (place, pool, identity, node) in joining {
            match standing.iter().find_map(|(other, at)| Some((conflict(pool, other)?, at))) {
                None => standing.push((pool, place)),
                Some((Invalid { field, reason }, at)) => {
                    let line = node.line_of(&field);
                    let remark = Remark { file: place.file.clone(), line, field, text: format!("{reason} ({at})") };
                    clashes.push((identity.clone(), remark));
                }
            }
        }
        clashes
    }

    /// Says of a SpiderCoordinator that it is not the one that counts.
    fn idle(&self, identity: &Identity, reading: &Reading) -> Option<Remark> {
        let idle = identity.kind == Kind::Coordinator && identity.name != self.coordinator;
        idle.then(|| Remark {
            file: reading.place.file.clone(),
            line: reading.node.line_of("metadata.name"),
            field: "metadata.name".into(),
            text: format!("has no effect: the SpiderCoordinator named {} counts", self.coordinator),
        })
    }

    fn build(&self) -> World {
        let objects = || self.good.iter().map(|(identity, held)| (&identity.name, &held.object));
        let pools = objects().filter_map(|(_, object)| object.pool().cloned());
        let reserved = objects().filter_map(|(_, object)| object.reserved());
        let mut world = World::new(pools, reserved.flat_map(|set| set.ranges()).collect());
        world.node.name.clone_from(&self.node);
        for (name, object) in objects() {
            match object {
                Object::Namespace(namespace) => {
                    world.namespaces.insert(name.clone(), namespace.clone());
                }
                Object::Node(node) if *name == self.node => world.node = node.clone(),
                Object::Coordinator(coordinator) if *name == self.coordinator => {
                    world.coordinator = Some(coordinator.clone());
                }
                _ => {}
            }
        }
        world
    }
}

impl Intake {
    fn take_file(&mut self, file: &File) {
        let text = match &file.text {
            Ok(text) => text,
            Err(reason) => {
                self.obscure.insert(file.name.clone());
                let text = format!("cannot be read: {reason}");
                self.refused.push(Remark { file: file.name.clone(), line: 1, field: String::new(), text });
                return;
            }
        };
        for document in object::documents(&file.name, text) {
            self.take(&file.name, document);
        }
    }

    fn take(&mut self, file: &str, document: object::Document) {
        let object::Document { identity, place, name_line, outcome, remarks } = document;
        self.noticed.extend(remarks);
        let Some(identity) = identity else {
            self.obscure.insert(file.into());
            self.refused.extend(outcome.err().into_iter().flatten());
            return;
        };
        if let Some(first) = self.named.get(&identity) {
            let text = format!("{identity} is written at {first} already; remove one of the two");
            self.refused.push(Remark { file: place.file, line: name_line, field: "metadata.name".into(), text });
            return;
        }
        self.named.insert(identity.clone(), place);
        match outcome {
            Ok(reading) => {
                self.readings.insert(identity, *reading);
            }
            Err(faults) => self.refused.extend(faults),
        }
    }
}

impl Reading {
    fn held(self) -> Held {
        Held { object: self.object, place: self.place }
    }
}

#[cfg(test)]
mod tests;
