//! Faults of an object, each with its field.

use std::fmt::Display;

/// A field that is not valid, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Path of the field, as Kubernetes writes it: `spec.ips[0]`, `spec.nodeAffinity.matchLabels[zone]`.
    pub field: String,
    /// What is wrong, and the fix.
    pub reason: String,
}

/// Collects the faults of one object, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Invalid>);

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, reason: impl Display) {
        self.0.push(Invalid { field: field.into(), reason: reason.to_string() });
    }

    /// The value, or its fault noted.
    pub(crate) fn take<T>(&mut self, field: impl Into<String>, parsed: Result<T, impl Display>) -> Option<T> {
        parsed.map_err(|reason| self.add(field, reason)).ok()
    }

    pub(crate) fn append(&mut self, more: Vec<Invalid>) {
        self.0.extend(more);
    }

    /// The value, if nothing was noted.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Vec<Invalid>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// The value, if there is one and nothing was noted.
    pub(crate) fn or_none<T>(self, value: Option<T>) -> Result<T, Vec<Invalid>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}
