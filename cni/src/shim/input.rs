//! Standard input: read whole within a bound, and looked into for `cniVersion` alone.

use std::io::Read;

use serde::Deserialize;

use crate::types::{CniError, CniVersion, Code};

/// Bytes. The largest GC of a node with thousands of attachments is far below.
pub(super) const LARGEST: u64 = 1 << 20;

#[derive(Deserialize)]
struct Light {
    #[serde(rename = "cniVersion")]
    cni_version: Option<String>,
}

/// Reads to the end.
pub(super) fn read(stdin: impl Read) -> Result<String, CniError> {
    let mut bytes = Vec::new();
    stdin
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CniError::new(Code::Io, format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(CniError::new(
            Code::Decode,
            format!("the network configuration on standard input is larger than {LARGEST} bytes (1 MiB)"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        CniError::new(Code::Decode, format!("the network configuration on standard input is no UTF-8 text: {error}"))
    })
}

/// The version that the configuration asks for.
pub(super) fn version(text: &str) -> Result<CniVersion, CniError> {
    if text.trim().is_empty() {
        return Err(CniError::new(Code::Decode, "standard input is empty: write the network configuration to it"));
    }
    let light: Light = serde_json::from_str(text).map_err(|error| {
        CniError::new(Code::Decode, format!("the network configuration on standard input is no JSON object: {error}"))
    })?;
    CniVersion::parse(light.cni_version.as_deref())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn looks_for_the_version_alone() {
        let text = r#"{"cniVersion": "0.3.1", "ipam": {"type": 5}, "name": []}"#;
        assert_eq!(version(text), Ok(CniVersion::V0_3_1));
        for junk in ["", " \n", "x", "{", "5", "null", "\"1.0.0\"", r#"{"cniVersion": 1}"#, "{}x"] {
            assert_eq!(version(junk).unwrap_err().code, Code::Decode, "{junk:?}");
        }
        assert_eq!(version("{}").unwrap_err().code, Code::IncompatibleVersion);
        assert_eq!(version(r#"{"cniVersion": "2.0.0"}"#).unwrap_err().code, Code::IncompatibleVersion);
    }

    #[test]
    fn is_bounded_at_one_mebibyte() {
        let fits = read(io::repeat(b' ').take(LARGEST)).unwrap();
        assert_eq!(fits.len() as u64, LARGEST);
        let error = read(io::repeat(b' ')).unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.msg.contains("1048576 bytes"), "{error}");
        assert_eq!(read(&b"\xff\xfe"[..]).unwrap_err().code, Code::Decode);
    }
}
