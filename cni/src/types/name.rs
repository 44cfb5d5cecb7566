//! The names that a runtime gives. They become keys and parts of messages, and a hostile one must not become a path
//! (CNI specification 1.1.0, sections 1 and 2; the kernel's `dev_valid_name`).

use super::{CniError, Code};

/// Container IDs and network names end up in file names of runtimes; the kernel bounds those.
const LONGEST_NAME: usize = 255;
/// IFNAMSIZ less the closing zero (linux/if.h).
const LONGEST_INTERFACE: usize = 15;

/// CNI_CONTAINERID: letters, digits, `_`, `.`, `-`, beginning with a letter or digit.
///
/// # Errors
/// Code 4.
pub fn check_container_id(text: &str) -> Result<(), CniError> {
    check_name(text)
        .map_err(|reason| CniError::new(Code::InvalidEnvironment, format!("CNI_CONTAINERID {text:?} {reason}")))
}

/// Key `name` of the network configuration: the same characters as a container ID.
///
/// # Errors
/// Code 7.
pub fn check_network_name(text: &str) -> Result<(), CniError> {
    check_name(text)
        .map_err(|reason| CniError::new(Code::InvalidConfiguration, format!("name: network name {text:?} {reason}")))
}

/// CNI_IFNAME: what the kernel takes as the name of an interface.
///
/// # Errors
/// Code 4.
pub fn check_interface(text: &str) -> Result<(), CniError> {
    let reason = if text.is_empty() {
        "is empty"
    } else if text.len() > LONGEST_INTERFACE {
        "is longer than 15 bytes"
    } else if text == "." || text == ".." {
        "is no name"
    } else if text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        "contains '/', ':' or white space"
    } else {
        return Ok(());
    };
    Err(CniError::new(Code::InvalidEnvironment, format!("CNI_IFNAME {text:?} {reason}")))
}

fn check_name(text: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.is_empty() {
        Err("is empty")
    } else if text.len() > LONGEST_NAME {
        Err("is longer than 255 bytes")
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(allowed) {
        Err("must begin with a letter or digit and consist of letters, digits, '_', '.' and '-'")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "4e9c5d5b0a", "net.1_x-y", &"a".repeat(255)] {
            assert_eq!(check_container_id(good), Ok(()));
            assert_eq!(check_network_name(good), Ok(()));
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "../x", "a b", "a\n", "a:b", "ä", "a\0", &"a".repeat(256)] {
            assert_eq!(check_container_id(bad).unwrap_err().code, Code::InvalidEnvironment, "{bad:?}");
            assert_eq!(check_network_name(bad).unwrap_err().code, Code::InvalidConfiguration, "{bad:?}");
        }
    }

    #[test]
    fn interfaces() {
        for good in ["e", "eth0", "net1", "ens192.100", "a-b_c", "abcdefghijklmno", "..."] {
            assert_eq!(check_interface(good), Ok(()));
        }
        for bad in ["", "abcdefghijklmnop", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\n", "\u{a0}"] {
            assert_eq!(check_interface(bad).unwrap_err().code, Code::InvalidEnvironment, "{bad:?}");
        }
    }
}
