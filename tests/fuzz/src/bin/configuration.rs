//! The network configuration on standard input, and every part of it that is read on demand.
//!
//! Holds: what parses is the same again when it is written and parsed once more, and so is each part.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spiderpool_cni::types::NetworkConfiguration;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(configuration) = NetworkConfiguration::parse(text) else { return };
    let written = serde_json::to_string(&configuration.raw).expect("an object of JSON");
    let again = NetworkConfiguration::parse(&written).expect("it parsed before");
    assert_eq!(again, configuration);
    assert_eq!(again.ipam(), configuration.ipam());
    assert_eq!(again.coordinator(), configuration.coordinator());
    assert_eq!(again.previous_result(), configuration.previous_result());
    assert_eq!(again.valid_attachments(), configuration.valid_attachments());
    if let Ok(Some(previous)) = configuration.previous_result() {
        previous.render(configuration.cni_version);
    }
});
