//! Rows to bytes and back.

use proptest::prelude::*;
use prost::Message as _;
use spiderpool_core::journal::{Key, Record};

use super::{FACT, Malformed, decode_key, decode_record, encode_key, encode_record, wire};

mod any;
mod golden;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What was written is what is read.
    #[test]
    fn a_row_comes_back_as_it_was((key, record) in any::row()) {
        prop_assert_eq!(decode_key(&encode_key(&key)), Ok(key.clone()));
        prop_assert_eq!(decode_record(&key, &encode_record(&record)), Ok(record));
    }

    /// A store orders by bytes as core orders keys: attachments sandbox by sandbox, facts by sequence.
    #[test]
    fn keys_sort_as_in_core((one, other) in any::keys_in_order()) {
        prop_assert_eq!(encode_key(&one).cmp(&encode_key(&other)), one.cmp(&other));
    }

    /// Facts come behind everything else, so that a reader can stop at the first.
    #[test]
    fn facts_sort_last(one in any::key(), sequence in any::<u64>()) {
        let bytes = encode_key(&one);
        prop_assert_eq!(bytes.starts_with(&[FACT]), matches!(one, Key::Fact(_)));
        let fact = encode_key(&Key::Fact(sequence));
        prop_assert!(matches!(one, Key::Fact(_)) || bytes < fact);
    }

    /// Different keys are different bytes.
    #[test]
    fn no_two_keys_are_one(one in any::key(), other in any::key()) {
        prop_assert_eq!(encode_key(&one) == encode_key(&other), one == other);
    }

    /// Bytes that are no row are an error, not a panic; those that are one mean one thing.
    #[test]
    fn any_bytes_are_a_key_or_an_error(bytes in any::bytes()) {
        if let Ok(key) = decode_key(&bytes) {
            prop_assert_eq!(encode_key(&key), bytes);
        }
    }

    /// As above, for values.
    #[test]
    fn any_bytes_are_a_record_or_an_error(key in any::key(), bytes in any::bytes()) {
        if let Ok(record) = decode_record(&key, &bytes) {
            prop_assert_eq!(decode_record(&key, &encode_record(&record)), Ok(record));
        }
    }

    /// A row with a flipped bit or a lost end is read or refused, never a panic.
    #[test]
    fn a_torn_row_does_not_panic((key, record) in any::row(), place in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = encode_record(&record);
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            let _ = decode_record(&key, &bytes[..place]);
            bytes[place] ^= 1_u8 << bit;
            let _ = decode_record(&key, &bytes);
        }
    }
}

/// What a reader must not take for something else is refused with the field's name.
#[test]
fn a_field_without_meaning_is_named() {
    let lease = Key::Lease(golden::grant());
    let field = |key: &Key, bytes: Vec<u8>| match decode_record(key, &bytes) {
        Err(Malformed::Field(name)) => name,
        other => panic!("{other:?}"),
    };
    let reversed = wire::Range { first: vec![10, 0, 0, 2], last: vec![10, 0, 0, 1] };
    let of_length = |length| wire::Range { first: vec![1; length], last: Vec::new() };
    for range in [reversed, of_length(0), of_length(5)] {
        let message = wire::Lease { pool: "p".into(), addresses: vec![range] };
        assert_eq!(field(&lease, message.encode_to_vec()), "addresses");
    }
    let planned = |plan| wire::Sandbox {
        netns: Some(wire::Netns::default()),
        pod: Some(wire::Pod::default()),
        plan: Some(plan),
        ..Default::default()
    };
    let attached = |attached| {
        field(
            &Key::Sandbox("a".into()),
            planned(wire::Plan { attached: vec![attached], ..Default::default() }).encode_to_vec(),
        )
    };
    assert_eq!(attached(wire::Attached { mac: vec![1; 5], ..Default::default() }), "mac");
    assert_eq!(attached(wire::Attached { rp_filter: Some(256), ..Default::default() }), "rp_filter");
    let long = wire::Net { address: vec![10, 0, 0, 1], prefix: 33 };
    assert_eq!(attached(wire::Attached { addresses: vec![long.clone()], ..Default::default() }), "addresses");
    let route = |route: wire::object::Route| {
        let object = wire::Object { host: false, kind: Some(wire::object::Kind::Route(route)) };
        let want = vec![wire::plan::Owned { interface: "net1".into(), object: Some(object) }];
        field(&Key::Sandbox("a".into()), planned(wire::Plan { want, ..Default::default() }).encode_to_vec())
    };
    let destination = Some(wire::Net { address: vec![0; 4], prefix: 0 });
    assert_eq!(route(wire::object::Route { destination: Some(long), ..Default::default() }), "destination");
    assert_eq!(
        route(wire::object::Route { destination: destination.clone(), scope: 256, ..Default::default() }),
        "scope"
    );
    assert_eq!(route(wire::object::Route { destination, gateway: vec![1], ..Default::default() }), "gateway");
    let empty: Vec<u8> = Vec::new();
    let of = |kind: &str, key: &Key| assert_eq!(field(key, empty.clone()), kind);
    of("journal", &Key::Meta);
    of("pod", &Key::Attachment(golden::attachment()));
    of("state", &Key::Released([10, 0, 0, 1].into()));
    of("netns", &Key::Sandbox("a".into()));
    of("kind", &Key::Fact(0));
    assert_eq!(decode_record(&lease, &[0xff]).map_err(|error| matches!(error, Malformed::Message(_))), Err(true));
}

/// Keys of no kind, or with more or less in them than their kind has.
#[test]
fn bytes_that_are_no_key_are_refused() {
    for bytes in [
        &b""[..],
        b"x",
        b"mm",
        b"l",
        b"a",
        b"aa",
        b"aa\0b\0",
        b"aa\0b\0c",
        b"aa\0b\0c\0d\0",
        b"rabc",
        b"w",
        b"wx",
        b"~1",
    ] {
        assert_eq!(decode_key(bytes), Err(Malformed::Key), "{bytes:?}");
    }
    assert_eq!(decode_key(b"s\xff"), Err(Malformed::Key), "not text");
}
