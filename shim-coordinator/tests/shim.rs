//! The program as a black box: that it is the coordinator. What both programs share is tested with the IPAM plugin.

use std::process::Command;

#[test]
fn says_who_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_coordinator")).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("CNI plugin coordinator v{}\n", env!("CARGO_PKG_VERSION"))
    );
}
