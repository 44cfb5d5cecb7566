//! The only reader of clocks. Decisions use the boot clock, which no administrator and no time server sets; the wall
//! clock is for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use spiderpool_core::node::event::Now;

/// Nanoseconds of CLOCK_BOOTTIME, which counts through suspend (clock_gettime(2)).
pub(crate) fn boot() -> u64 {
    // The call fails only for a clock that the kernel lacks; CLOCK_BOOTTIME is there since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods)] // this is the one place
pub(crate) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Both.
pub(crate) fn now() -> Now {
    Now { boot: boot(), wall: wall() }
}

/// The time that is left until a point on the boot clock.
pub(crate) fn until(point: u64) -> Duration {
    Duration::from_nanos(point.saturating_sub(boot()))
}

/// Seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| time.to_string())
}
