//! The verbs of CNI_COMMAND (CNI specification 1.1.0, section 2, "CNI operations").

use crate::types::{CniError, CniVersion, Code};

/// What a runtime asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    pub(super) fn parse(text: &str) -> Result<Self, CniError> {
        match text {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            _ => Err(CniError::new(Code::InvalidEnvironment, format!("CNI_COMMAND {text:?} is not known"))
                .with_details("write one of ADD, DEL, CHECK, GC, STATUS, VERSION")),
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Has the version of the configuration this verb?
    pub(super) fn check_version(self, version: CniVersion) -> Result<(), CniError> {
        let since = match self {
            Self::Add | Self::Del | Self::Version => CniVersion::V0_3_0,
            Self::Check => CniVersion::V0_4_0,
            Self::Gc | Self::Status => CniVersion::V1_1_0,
        };
        if version >= since {
            return Ok(());
        }
        Err(CniError::new(
            Code::IncompatibleVersion,
            format!("cniVersion {version} has no {}: it came with {since}", self.as_str()),
        ))
    }

    /// Which of the variables must be set. CNI_PATH: the reference implementation wants it of every verb.
    pub(super) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_bound_to_the_versions_that_have_them() {
        let table = [
            (Verb::Add, CniVersion::V0_3_0),
            (Verb::Del, CniVersion::V0_3_0),
            (Verb::Check, CniVersion::V0_4_0),
            (Verb::Gc, CniVersion::V1_1_0),
            (Verb::Status, CniVersion::V1_1_0),
        ];
        for (verb, since) in table {
            assert_eq!(Verb::parse(verb.as_str()), Ok(verb));
            for version in CniVersion::ALL {
                assert_eq!(verb.check_version(version).is_ok(), version >= since, "{verb:?} in {version}");
            }
        }
        assert_eq!(Verb::parse("add").unwrap_err().code, Code::InvalidEnvironment);
    }
}
