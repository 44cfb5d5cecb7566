//! Tombstones: files of the spool, and any request as one.
//!
//! Holds: what is read as a tombstone says the same when it is written again; every request survives the way.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use spiderpool_cni::spool::{decode, encode};
use spiderpool_proto::node::CniRequest;

fuzz_target!(|input: &[u8]| {
    for request in [decode(input).ok(), CniRequest::decode(input).ok()].into_iter().flatten() {
        assert_eq!(decode(&encode(&request)).expect("it was whole"), request);
    }
});
