//! An interface that is listened to: up, with a carrier, of a kind that hears what it is told. It is left as it was found.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use spiderpool_core::plan::{self, Ask, Change, Link, LinkAttribute, Mac, Object, SeenLink, Side};
use tokio::io::unix::AsyncFd;
use tracing::debug;

use super::{CARRIER, LOOK, Place};
use crate::clock;
use crate::net::wire::Wire;
use crate::net::{Connection, NetError, Sandbox, answer, observe, request};

/// An interface, and what is known of its addresses without asking.
pub(super) struct Ear {
    pub(super) wire: AsyncFd<Wire>,
    pub(super) mac: Mac,
    /// Those that the sandbox has.
    pub(super) own: BTreeSet<IpAddr>,
    _interface: Interface,
}

/// The interface as long as it is used.
struct Interface {
    sandbox: Sandbox,
    link: SeenLink,
    /// It was down, and is to be down again: the main plugin expects it so, and the kernel announces addresses when it
    /// is set up.
    raised: bool,
}

impl Ear {
    /// Opens the interface, within a runtime, and waits for its carrier.
    pub(super) fn open(place: &Place, proc: &Path) -> Result<Ear, NetError> {
        let Place { netns, interface, .. } = place;
        let mut sandbox = Sandbox::open(Path::new(&netns.path), proc, &Ask::default())?;
        if !sandbox.identity()?.is_same(netns) {
            return Err(NetError::NoNamespace(netns.path.clone()));
        }
        let (link, _) = look(&mut sandbox, interface)?;
        let mac = link.mac.ok_or_else(|| refused(format!("{interface} has no Ethernet address")))?;
        if link.kind == "ipvlan" {
            // It passes an answer on to a Pod only if that has the address already.
            return Err(refused(format!("{interface} is an ipvlan, which hears no answers")));
        }
        let own = observe::addresses(&mut sandbox.netlink)?;
        let raised = !link.up && place.new;
        let mut interface = Interface { sandbox, link, raised };
        if raised {
            interface.set(true)?;
        }
        interface.wait_for_carrier()?;
        // Not before it is up: what was bound to an interface that is down hears of that first.
        let wire = Wire::open(&interface.sandbox.namespace, interface.link.index)?.listen()?;
        Ok(Ear { wire, mac, own, _interface: interface })
    }

    /// The Ethernet address under which this node itself has an address: a macvlan does not hear the interface below it.
    pub(super) fn of_node(address: IpAddr) -> Result<Option<Mac>, NetError> {
        observe::owner(&mut Connection::open()?, address)
    }
}

impl Interface {
    /// On an interface without a carrier every address would seem free.
    fn wait_for_carrier(&mut self) -> Result<(), NetError> {
        let until = clock::boot().saturating_add(CARRIER.as_nanos() as u64);
        while !look(&mut self.sandbox, &self.link.name)?.1 {
            if clock::boot() >= until {
                return Err(refused(format!("{} has no carrier", self.link.name)));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn set(&mut self, up: bool) -> Result<(), NetError> {
        let (device, attribute) = (self.link.name.clone(), LinkAttribute::Up(up));
        let object = Object::Link(Link { side: Side::Pod, device, attribute });
        let change = Change::Add { object, place: plan::Place::First };
        let request = request::request(&change, std::slice::from_ref(&self.link)).map_err(refused)?;
        for answer in self.sandbox.netlink.burst(request.into_iter().collect())? {
            answer.map_err(NetError::kernel(format!("set {} up or down", self.link.name)))?;
        }
        Ok(())
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        if self.raised
            && let Err(error) = self.set(false)
        {
            // It is gone, or goes with the ADD that fails.
            debug!(interface = self.link.name, %error, "An interface stays up after a probe");
        }
    }
}

/// The interface, and whether it has a carrier.
fn look(sandbox: &mut Sandbox, interface: &str) -> Result<(SeenLink, bool), NetError> {
    let found = sandbox.netlink.get(&request::get_link_named(interface))?;
    let link = found.as_ref().and_then(|message| Some((answer::link(message)?, answer::has_carrier(message))));
    link.ok_or_else(|| refused(format!("there is no interface {interface} yet")))
}

pub(super) fn refused(reason: String) -> NetError {
    NetError::kernel("probe an address")(io::Error::other(reason))
}
