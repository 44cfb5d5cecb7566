//! The CNI error: what a program prints instead of a result (CNI specification 1.1.0, section 5, "Error").

use std::fmt;

use super::CniVersion;

/// What went wrong, as a number that runtimes know. Below 100: CNI specification 1.1.0, section 5, "Error"; 8 is the
/// reference implementation's; from 100 on: this product's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// The configuration's `cniVersion` is not supported, or lacks the verb.
    IncompatibleVersion = 1,
    /// A field that is known but not supported; the message names key and value.
    UnsupportedField = 2,
    /// CHECK of a container that is not known. "This error implies the runtime does not need to perform any
    /// container network cleanup."
    UnknownContainer = 3,
    /// A `CNI_*` variable is missing or wrong; the message names all of them.
    InvalidEnvironment = 4,
    /// Disk, socket or kernel.
    Io = 5,
    /// Text that is not what it should be: standard input, or an answer.
    Decode = 6,
    /// A value of the configuration; the message names the field and what to write.
    InvalidConfiguration = 7,
    /// `CNI_NETNS` is the namespace that the program itself runs in.
    InvalidNamespace = 8,
    /// Transient: the runtime should try again later.
    TryAgain = 11,
    /// STATUS: ADD cannot be served.
    NotAvailable = 50,
    /// No pool may serve the Pod, each with its reason.
    NoPool = 100,
    /// CHECK found a difference, each object named.
    Difference = 101,
}

impl Code {
    /// The number in the printed error.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// A CNI error without its version, which [`CniError::render`] adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CniError {
    /// What went wrong, for programs.
    pub code: Code,
    /// What went wrong, for people: one line.
    pub msg: String,
    /// What would help, or more facts. May be empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The JSON text to print. An error looks the same in all versions.
    pub fn render(&self, version: CniVersion) -> String {
        let mut object = serde_json::Map::new();
        object.insert("cniVersion".to_owned(), version.as_str().into());
        object.insert("code".to_owned(), self.code.number().into());
        object.insert("msg".to_owned(), self.msg.as_str().into());
        if !self.details.is_empty() {
            object.insert("details".to_owned(), self.details.as_str().into());
        }
        serde_json::Value::Object(object).to_string()
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.msg, self.code.number())?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_are_those_of_the_specification() {
        let table = [
            (Code::IncompatibleVersion, 1),
            (Code::UnsupportedField, 2),
            (Code::UnknownContainer, 3),
            (Code::InvalidEnvironment, 4),
            (Code::Io, 5),
            (Code::Decode, 6),
            (Code::InvalidConfiguration, 7),
            (Code::InvalidNamespace, 8),
            (Code::TryAgain, 11),
            (Code::NotAvailable, 50),
            (Code::NoPool, 100),
            (Code::Difference, 101),
        ];
        for (code, number) in table {
            assert_eq!(code.number(), number);
        }
    }

    #[test]
    fn renders_the_object_and_leaves_out_empty_details() {
        let error = CniError::new(Code::TryAgain, "no \"free\" address");
        let parsed: Value = serde_json::from_str(&error.render(CniVersion::V0_3_1)).unwrap();
        assert_eq!(parsed, json!({"cniVersion": "0.3.1", "code": 11, "msg": "no \"free\" address"}));
        let parsed: Value =
            serde_json::from_str(&error.with_details("pool a: 0 of 3").render(CniVersion::V1_1_0)).unwrap();
        assert_eq!(parsed["details"], "pool a: 0 of 3");
    }
}
