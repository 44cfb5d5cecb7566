//! The results that a runtime's CNI library keeps, from which a lost journal is rebuilt.
//!
//! Holds: the names that are read are what ADD would have accepted; they make a key of the journal and come back from it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spiderpool_cni::cache::CachedResult;
use spiderpool_cni::types::{CniVersion, check_container_id, check_interface, check_network_name};
use spiderpool_core::journal::Key;
use spiderpool_core::node::attachment::Attachment;
use spiderpool_proto::journal::{decode_key, encode_key};

fuzz_target!(|input: &[u8]| {
    let Ok(Some(cached)) = CachedResult::parse(input) else { return };
    assert_eq!(check_container_id(&cached.container), Ok(()));
    assert_eq!(check_interface(&cached.interface), Ok(()));
    assert_eq!(check_network_name(&cached.network), Ok(()));
    let who = Attachment {
        container: cached.container.as_str().into(),
        interface: cached.interface.as_str().into(),
        network: cached.network.as_str().into(),
    };
    let key = Key::Attachment(who);
    assert_eq!(decode_key(&encode_key(&key)), Ok(key));
    assert!(!cached.netns.is_empty());
    cached.argument("K8S_POD_NAME");
    cached.result.render(CniVersion::V1_1_0);
});
