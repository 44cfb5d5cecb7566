//! One row of the journal: the length of its key in a byte, the key, the value.
//!
//! Holds: what is read as a key or as a framed value is byte for byte what would be written; what is read as a record
//! stays the same record.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spiderpool_proto::journal::{decode_key, decode_record, encode_key, encode_record, frame, unframe};

fuzz_target!(|input: &[u8]| {
    let Some((length, rest)) = input.split_first() else { return };
    let Some((name, value)) = rest.split_at_checked((*length).into()) else { return };
    if let Ok(payload) = unframe(name, value) {
        assert_eq!(frame(name, payload), value);
    }
    let Ok(key) = decode_key(name) else { return };
    assert_eq!(encode_key(&key), name);
    let Ok(record) = decode_record(&key, value) else { return };
    let written = encode_record(&record);
    assert_eq!(unframe(name, &frame(name, &written)), Ok(written.as_slice()));
    assert_eq!(decode_record(&key, &written), Ok(record));
});
