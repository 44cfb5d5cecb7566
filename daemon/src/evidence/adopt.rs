//! What kernel and runtime know of sandboxes when the journal does not: it was lost, or is of another boot.
//!
//! Every namespace that can be found is settled before the first ADD: its addresses are read, and the results that the
//! runtime's CNI library keeps say whose they are. A namespace that is there and cannot be read is waited for; an
//! incomplete search ends no wait. One that a look sees and does not find again may have ended: it is waited for if the
//! next look does not find it either.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spiderpool_cni::cache::CachedResult;
use spiderpool_cni::types::CniResult;
use spiderpool_core::node::attachment::{Allocation, Attachment, Held, Netns};
use spiderpool_core::node::event::{Event, Found};
use spiderpool_core::select::Terms;
use spiderpool_core::world::{PodId, Route};
use tracing::{info, warn};

use super::around::Holders;
use crate::keeper::{Keeper, Stopped};
use crate::net::namespace;

/// Pause before a namespace that could not be read is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// A larger file is no cached result.
const LARGEST: u64 = 4 << 20;

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The host's proc file system.
    pub(crate) proc: PathBuf,
    /// Folders of namespaces.
    pub(crate) netns_folders: Vec<PathBuf>,
    /// Folders of cached results.
    pub(crate) cni_caches: Vec<PathBuf>,
}

impl Search {
    /// Hands over what is there, if the journal has not taken it over yet; else what stands on links alone, since pools
    /// may have grown while no daemon was there.
    pub(crate) async fn adopt(self, keeper: &Keeper) -> Result<(), Stopped> {
        if keeper.read(|node, _| node.meta().adopted).await? {
            return self.look_again(keeper).await;
        }
        let found = loop {
            let search = self.clone();
            match tokio::task::spawn_blocking(move || search.look()).await {
                Ok(looked) => match looked.incomplete() {
                    None => break looked.found,
                    Some(reason) => warn!(reason, "No ADD is served until every sandbox is known; trying again"),
                },
                Err(ended) => warn!(error = %ended, "The search for sandboxes ended early; trying again"),
            }
            tokio::time::sleep(PAUSE).await;
        };
        let (attachments, addresses) = (found.held.len(), found.seen.len());
        keeper.call(|ticket| Event::Adopt { ticket, found }).await?;
        info!(attachments, addresses, "A new journal: looked for what runtime and kernel know of");
        Ok(())
    }

    /// Looks again when addresses come new into the lease, or may have: what already stands on a link of a living sandbox
    /// is not given out.
    pub(crate) async fn look_again(&self, keeper: &Keeper) -> Result<(), Stopped> {
        let search = self.clone();
        match tokio::task::spawn_blocking(move || search.look()).await {
            Ok(looked) => {
                if let Some(reason) = looked.incomplete() {
                    warn!(reason, "Cannot look everywhere whether the new addresses are in use");
                }
                let found = Found { held: Vec::new(), ..looked.found };
                keeper.call(|ticket| Event::Adopt { ticket, found }).await?;
            }
            Err(ended) => warn!(error = %ended, "The look whether the new addresses are in use ended early"),
        }
        Ok(())
    }

    /// Everything that is there, looked at twice if something was lost on the way.
    fn look(&self) -> Looked {
        let looked = self.pass();
        if looked.lost.is_empty() { looked } else { looked.then(self.pass()) }
    }

    fn pass(&self) -> Looked {
        let mut looked = Looked::default();
        let holders = Holders::take(&self.proc);
        looked.missed = holders.unread().map(str::to_owned);
        let mut places = Vec::new();
        for (inode, paths) in holders.into_paths() {
            places.extend(looked.find(inode, leading_to(inode, paths)).flatten());
        }
        for folder in self.netns_folders.iter().filter(|folder| !folder.starts_with("/proc")) {
            for path in looked.note(files(folder)).into_iter().flatten() {
                places.extend(looked.note(settle(&path)).flatten().map(|netns| (path, netns)));
            }
        }
        let mut known = BTreeSet::new();
        // Several paths may lead to one.
        for (path, netns) in places.into_iter().filter(|(_, netns)| known.insert(netns.identity())) {
            let addresses = namespace::addresses(&path).map_err(|error| format!("{}: {error}", path.display()));
            let addresses = looked.find(netns.inode, addresses).into_iter().flatten();
            looked.found.seen.extend(addresses.map(|address| (address, netns.clone())));
        }
        for folder in &self.cni_caches {
            let files = looked.note(files(folder)).into_iter().flatten();
            looked.found.held.extend(files.filter_map(|file| cached(&file)));
        }
        looked
    }
}

/// What was seen, and why that may not be all.
#[derive(Debug, Default)]
struct Looked {
    found: Found,
    missed: Option<String>,
    /// Namespaces that were seen and not found again, by inode, with what was wrong.
    lost: BTreeMap<u64, String>,
}

impl Looked {
    /// Both looks together. What ended between them is in neither's way; what neither finds counts as missed.
    fn then(self, next: Looked) -> Looked {
        let is_complete = self.missed.is_none();
        let mut both = next;
        both.lost.retain(|inode, _| !is_complete || self.lost.contains_key(inode));
        // Who holds a namespace may have been on the move at the second look.
        both.found.seen.extend(self.found.seen);
        both
    }

    /// Why there may be more, if there may.
    fn incomplete(&self) -> Option<&str> {
        self.missed.as_ref().or_else(|| self.lost.values().next()).map(String::as_str)
    }

    fn find<T>(&mut self, inode: u64, found: Result<T, String>) -> Option<T> {
        found.map_err(|reason| self.lost.insert(inode, reason)).ok()
    }

    fn note<T>(&mut self, seen: Result<T, String>) -> Option<T> {
        match seen {
            Ok(seen) => return Some(seen),
            Err(reason) => drop(self.missed.get_or_insert(reason)),
        }
        None
    }
}

/// What is in a folder; one that does not exist is empty.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
    }
}

/// The first of these paths that still leads to the namespace of this inode, with that. None: it is the node's own.
///
/// # Errors
/// None does: it may have ended, or be held by somebody else by now.
fn leading_to(inode: u64, paths: HashSet<PathBuf>) -> Result<Option<(PathBuf, Netns)>, String> {
    let first = paths.iter().next().map(|path| path.display().to_string()).unwrap_or_default();
    for path in paths {
        if let Ok(netns) = namespace::identify(&path)
            && netns.inode == inode
        {
            return Ok(foreign(netns)?.map(|netns| (path, netns)));
        }
    }
    Err(format!("network namespace {inode} is not to be found where it was seen: {first}"))
}

/// A namespace, unless it is the node's own.
fn foreign(netns: Netns) -> Result<Option<Netns>, String> {
    let own = namespace::own_cookie().map_err(|error| error.to_string())?;
    Ok((netns.cookie != own).then_some(netns))
}

/// The namespace at a path. None: there is none there, or it is the node's own.
fn settle(path: &Path) -> Result<Option<Netns>, String> {
    match namespace::identify(path) {
        Ok(netns) => foreign(netns),
        Err(error) => {
            // It is no namespace, or went away between the look around and now; anything else may pass.
            let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput);
            let is_absent = |error: std::io::Error| error.kind() == ErrorKind::NotFound;
            if gone || fs::symlink_metadata(path).is_err_and(is_absent) {
                Ok(None)
            } else {
                Err(format!("{}: {error}", path.display()))
            }
        }
    }
}

/// A cached result as an attachment, if its namespace lives. A file that cannot be read is passed over: what is on the
/// links of its sandbox is seen all the same.
fn cached(file: &Path) -> Option<(Attachment, Held)> {
    let size = fs::metadata(file).ok().filter(fs::Metadata::is_file)?.len();
    let content = (size <= LARGEST).then(|| fs::read(file).ok()).flatten()?;
    let cached = match CachedResult::parse(&content) {
        Ok(cached) => cached?,
        Err(error) => {
            warn!(file = %file.display(), %error, "A cached CNI result is not whole; it is passed over");
            return None;
        }
    };
    // A path below /proc may lead to another process by now, even to the node's own namespace.
    let netns = settle(Path::new(&cached.netns)).ok()??;
    let argument = |key| cached.argument(key).to_owned();
    let pod = PodId {
        namespace: argument("K8S_POD_NAMESPACE"),
        name: argument("K8S_POD_NAME"),
        uid: argument("K8S_POD_UID"),
    };
    let allocations = allocations(&cached.result);
    let CachedResult { container, interface, network, .. } = cached;
    let who = Attachment { container: container.into(), interface: interface.into(), network: network.into() };
    Some((who, Held { started: 0, pod, netns, since: 0, allocations }))
}

/// What a result says was allocated. The pool is the one that leases the address.
fn allocations(result: &CniResult) -> Vec<Allocation> {
    let of_family = |address: IpAddr| {
        let routes = result.routes.iter().filter(move |route| route.destination.addr().is_ipv4() == address.is_ipv4());
        routes.partition::<Vec<_>, _>(|route| route.destination.prefix_len() == 0)
    };
    let allocation = |ip: &spiderpool_cni::types::IpConfiguration| {
        let (defaults, further) = of_family(ip.address.addr());
        let routes = further
            .into_iter()
            .filter_map(|route| Some(Route { destination: route.destination, gateway: route.gateway? }));
        let terms = Terms {
            prefix: ip.address.prefix_len(),
            gateway: ip.gateway,
            default_route: !defaults.is_empty(),
            routes: routes.collect(),
        };
        Allocation { address: ip.address.addr(), pool: "".into(), terms, stranger: None }
    };
    result.ips.iter().map(allocation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule: One holder. What cannot be looked into may have any address: nothing is adopted until it can.
    #[test]
    fn a_search_that_could_not_see_everything_finds_nothing() {
        let machine = tempfile::tempdir().unwrap();
        let proc = machine.path().join("proc");
        fs::create_dir_all(proc.join("77")).unwrap();
        fs::write(proc.join("77/task"), "no folder").unwrap();
        let search = Search { proc: proc.clone(), netns_folders: Vec::new(), cni_caches: Vec::new() };
        let reason = search.look().missed.unwrap();
        assert!(reason.contains("77/task"), "{reason}");
        fs::remove_file(proc.join("77/task")).unwrap();
        assert_eq!(search.look().incomplete(), None);
    }

    /// Shows a process in the network namespace of an inode; its path leads nowhere.
    fn show(proc: &Path, inode: u64) {
        let folder = proc.join("77/task/77/ns");
        fs::create_dir_all(&folder).unwrap();
        let _ = fs::remove_file(folder.join("net"));
        std::os::unix::fs::symlink(format!("net:[{inode}]"), folder.join("net")).unwrap();
    }

    /// Rule: One holder. Where some end all the time the search ends all the same; what stays out of reach is waited for.
    #[test]
    fn what_two_looks_cannot_find_is_missed_and_what_one_cannot_may_have_ended() {
        let machine = tempfile::tempdir().unwrap();
        let proc = machine.path().join("proc");
        let search = Search { proc: proc.clone(), netns_folders: Vec::new(), cni_caches: Vec::new() };
        show(&proc, 11);
        let reason = search.look();
        assert!(reason.incomplete().unwrap().contains("network namespace 11 is not to be found"), "{reason:?}");
        let first = search.pass();
        show(&proc, 12);
        assert_eq!(first.then(search.pass()).incomplete(), None);
    }

    #[test]
    fn a_look_that_saw_not_everything_excuses_nothing() {
        let lost = |inode| BTreeMap::from([(inode, "not to be found".to_owned())]);
        let first = Looked { missed: Some("unreadable".into()), lost: lost(11), ..Looked::default() };
        let next = Looked { lost: lost(12), ..Looked::default() };
        assert_eq!(first.then(next).incomplete(), Some("not to be found"));
    }

    /// Rule: One holder. A holder may be on the move at the second look.
    #[test]
    fn what_either_look_saw_is_seen() {
        let netns = |inode| Netns { path: "/p".into(), inode, cookie: inode };
        let looked = |inode| Looked {
            found: Found { held: Vec::new(), seen: vec![(IpAddr::from([10, 6, 0, inode as u8]), netns(inode))] },
            ..Looked::default()
        };
        assert_eq!(looked(1).then(looked(2)).found.seen.len(), 2);
    }
}
