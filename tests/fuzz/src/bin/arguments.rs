//! CNI_ARGS, as a runtime puts it into the environment.
//!
//! Holds: what was read is the same when it is written and read again; a value ends where the next pair begins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use spiderpool_cni::types::Arguments;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(arguments) = Arguments::parse(text) else { return };
    let pairs = [
        ("K8S_POD_NAMESPACE", &arguments.pod_namespace),
        ("K8S_POD_NAME", &arguments.pod_name),
        ("K8S_POD_UID", &arguments.pod_uid),
        ("K8S_POD_INFRA_CONTAINER_ID", &arguments.infra_container_id),
    ];
    let known = pairs.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}")));
    let written = known.collect::<Vec<_>>().join(";");
    assert_eq!(Arguments::parse(&written), Ok(arguments.clone()));
    assert!(
        pairs.iter().all(|(_, value)| value.as_ref().is_none_or(|value| !value.is_empty() && !value.contains(';')))
    );
});
