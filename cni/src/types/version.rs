//! Versions of the CNI protocol that are spoken here.

use std::fmt;

use super::{CniError, Code};

/// A version of the CNI protocol, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CniVersion {
    /// 0.3.0: results list interfaces and addresses.
    V0_3_0,
    /// 0.3.1: plugin lists.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses of a result no longer say their family.
    V1_0_0,
    /// 1.1.0: GC and STATUS; more fields of routes and interfaces.
    V1_1_0,
}

impl CniVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest one: what is spoken when the caller's version is not known.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads the value of a key `cniVersion`; a missing or empty one means 0.1.0 (CNI specification 0.2.0, "Network
    /// Configuration").
    ///
    /// # Errors
    /// Code 1 for a version that is not in [`CniVersion::ALL`].
    pub fn parse(text: Option<&str>) -> Result<Self, CniError> {
        let text = text.unwrap_or_default();
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let found = if text.is_empty() {
                "cniVersion is missing, which means 0.1.0, and that is not supported".to_owned()
            } else {
                format!("cniVersion {text:?} is not supported")
            };
            CniError::new(Code::IncompatibleVersion, found)
                .with_details(format!("write one of {} in the network configuration", Self::list()))
        })
    }

    /// All versions in one line, for messages.
    pub fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_versions_parse_and_print_the_same() {
        for version in CniVersion::ALL {
            assert_eq!(CniVersion::parse(Some(version.as_str())), Ok(version));
        }
        assert!(CniVersion::V0_4_0 > CniVersion::V0_3_1 && CniVersion::NEWEST == CniVersion::V1_1_0);
    }

    #[test]
    fn others_are_refused_with_the_list() {
        for text in ["0.1.0", "0.2.0", "1.2.0", "1.0", "v1.0.0", " 1.0.0"] {
            let error = CniVersion::parse(Some(text)).unwrap_err();
            assert_eq!(error.code, Code::IncompatibleVersion);
            assert!(error.msg.contains(text) && error.details.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{error}");
        }
        assert!(CniVersion::parse(None).unwrap_err().msg.contains("missing"));
    }
}
