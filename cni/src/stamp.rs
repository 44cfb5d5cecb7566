//! Points in time that compare within one boot, whatever happens to the wall clock.

use std::{fs, io};

use nix::time::{ClockId, clock_gettime};
use spiderpool_proto::node::Stamp;

/// The kernel's random ID of this boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This moment: the boot's ID and nanoseconds of CLOCK_BOOTTIME, which goes on while the machine is suspended.
///
/// # Errors
/// The boot ID cannot be read, or the clock cannot.
pub fn now() -> io::Result<Stamp> {
    // The clock first: what follows must not make a program look younger than it is.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let boot_id =
        fs::read_to_string(BOOT_ID).map_err(|error| io::Error::new(error.kind(), format!("{BOOT_ID}: {error}")))?;
    let nanoseconds = i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec());
    Ok(Stamp { boot_id: boot_id.trim().to_owned(), boottime_ns: u64::try_from(nanoseconds).map_err(io::Error::other)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_stamp_is_greater_in_the_same_boot() {
        let (first, second) = (now().unwrap(), now().unwrap());
        assert_eq!(first.boot_id, second.boot_id);
        assert_eq!(first.boot_id.len(), 36, "a UUID: {}", first.boot_id);
        assert!(first.boottime_ns > 0 && second.boottime_ns > first.boottime_ns);
    }
}
