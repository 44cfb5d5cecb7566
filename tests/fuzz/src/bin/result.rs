//! The CNI result that a chained plugin reads and prints.
//!
//! Holds: what was read comes out whole in its own version; in any version, what is printed is a result, and reading and
//! printing it changes nothing more.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spiderpool_cni::types::{CniResult, CniVersion};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(result) = CniResult::parse(text) else { return };
    let source = result.source.expect("it was read");
    assert_eq!(CniResult::parse(&result.render(source)).as_ref(), Ok(&result));
    for version in CniVersion::ALL {
        let printed = result.render(version);
        let read = CniResult::parse(&printed).expect("what was printed is a result");
        assert_eq!(read.source, Some(version));
        assert_eq!((read.ips.len(), read.routes.len()), (result.ips.len(), result.routes.len()));
        assert_eq!(read.render(version), printed);
    }
});
