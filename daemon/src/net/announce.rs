//! Tells the neighbours on the segment where an address is.

use std::net::IpAddr;

use spiderpool_cni::failpoint::{Point, reach};
use spiderpool_core::plan::Mac;

use super::wire::Wire;
use super::{NetError, Sandbox, frame};

/// Announces addresses from an interface of the sandbox.
///
/// # Errors
/// A frame could not be sent.
pub(crate) fn announce(sandbox: &Sandbox, index: u32, mac: Mac, addresses: &[IpAddr]) -> Result<(), NetError> {
    if addresses.is_empty() {
        return Ok(());
    }
    let wire = Wire::open(&sandbox.namespace, index)?;
    for address in addresses {
        for frame in frame::announcements(mac, *address) {
            reach(Point::RoutesAnnouncing);
            wire.send(&frame).map_err(NetError::kernel(format!("announce {address}")))?;
        }
    }
    Ok(())
}
