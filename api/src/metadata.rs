//! The part of an object that all kinds share (metav1.ObjectMeta), as far as it is used. Other fields are let through.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::invalid::Faults;

/// Name, labels and state of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name of the object; for the kinds here unique in the cluster.
    pub name: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Finalizers: the object goes when none is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalizers: Option<Vec<String>>,
    /// When deletion was asked for (RFC 3339). An object that has it is terminating.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
}

impl Metadata {
    /// Whether the object is being deleted.
    pub fn terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(crate) fn check_name(&self, faults: &mut Faults) {
        if !is_subdomain(&self.name) {
            faults.add("metadata.name", not_a_subdomain(&self.name));
        }
    }
}

/// Whether a text is a DNS label (RFC 1123): up to 63 of a-z, 0-9 and `-`, no `-` at the ends.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// Whether a text is a DNS subdomain as Kubernetes takes it: labels joined by dots, up to 253 characters in all.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

pub(crate) fn not_a_subdomain(text: &str) -> String {
    format!("{text:?} is no name; write at most 253 of a-z, 0-9, - and ., beginning and ending with a letter or digit")
}

pub(crate) fn not_a_label(text: &str) -> String {
    format!("{text:?} is no name; write at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_takes() {
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        for (text, label, subdomain) in [
            ("10-6-v4", true, true),
            ("a.b-c.9", false, true),
            (long.as_str(), true, true),
            (longer.as_str(), false, true),
            ("", false, false),
            ("-a", false, false),
            ("a-", false, false),
            ("a..b", false, false),
            ("a.-b", false, false),
            ("A", false, false),
            ("a_b", false, false),
            ("ä", false, false),
            (&"ä".repeat(40), false, false),
            (&"a.".repeat(127), false, false),
        ] {
            assert_eq!((is_label(text), is_subdomain(text)), (label, subdomain), "{text}");
        }
    }
}
