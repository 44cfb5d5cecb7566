//! Label selectors (metav1.LabelSelector).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spiderpool_core::world::{Condition, Requirement, Selector};

use crate::invalid::Faults;
use crate::metadata::is_subdomain;

/// Which labels are meant. All requirements must hold; none at all matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Keys and the value that each must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// One requirement (metav1.LabelSelectorRequirement).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// Values, for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

impl LabelSelector {
    /// The parsed selector; faults are noted under `field`.
    pub(crate) fn parse(&self, field: &str, faults: &mut Faults) -> Selector {
        let mut requirements = Vec::new();
        for (key, value) in self.match_labels.iter().flatten() {
            let at = format!("{field}.matchLabels[{key}]");
            check_key(&at, key, faults);
            check_value(&at, value, faults);
            requirements.push(Requirement { key: key.clone(), condition: Condition::In(vec![value.clone()]) });
        }
        for (place, expression) in self.match_expressions.iter().flatten().enumerate() {
            requirements.extend(expression.parse(&format!("{field}.matchExpressions[{place}]"), faults));
        }
        Selector(requirements)
    }
}

impl LabelSelectorRequirement {
    fn parse(&self, field: &str, faults: &mut Faults) -> Option<Requirement> {
        check_key(&format!("{field}.key"), &self.key, faults);
        let values = self.values.clone().unwrap_or_default();
        for (place, value) in values.iter().enumerate() {
            check_value(&format!("{field}.values[{place}]"), value, faults);
        }
        let takes_values = matches!(self.operator.as_str(), "In" | "NotIn");
        let condition = match self.operator.as_str() {
            "In" => Condition::In(values),
            "NotIn" => Condition::NotIn(values),
            "Exists" => Condition::Exists,
            "DoesNotExist" => Condition::DoesNotExist,
            other => {
                let reason = format!("{other:?} is no operator; write In, NotIn, Exists or DoesNotExist");
                faults.add(format!("{field}.operator"), reason);
                return None;
            }
        };
        let written = self.values.as_ref().is_some_and(|values| !values.is_empty());
        if takes_values != written {
            let fix = if takes_values { "needs values; list one or more" } else { "takes no values; remove them" };
            faults.add(format!("{field}.values"), format!("the operator {} {fix}", self.operator));
        }
        Some(Requirement { key: self.key.clone(), condition })
    }
}

/// A label's key: a name of up to 63 characters, with a DNS subdomain and `/` before it or not.
fn check_key(field: &str, key: &str, faults: &mut Faults) {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.is_empty() || !is_label_text(name) || prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        let form = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit";
        faults.add(field, format!("{key:?} is no label key; write {form}, with a DNS name and / before it or not"));
    }
}

fn check_value(field: &str, value: &str, faults: &mut Faults) {
    if !is_label_text(value) {
        let form = "at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit";
        faults.add(field, format!("{value:?} is no label value; write {form}"));
    }
}

/// What a label's value, and the name in its key, is made of; may be empty.
fn is_label_text(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 63 && text.bytes().all(inner) && ends(text.bytes().next()) && ends(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        let values = (!values.is_empty()).then(|| values.iter().map(ToString::to_string).collect());
        let requirement = LabelSelectorRequirement { key: key.into(), operator: operator.into(), values };
        LabelSelector { match_labels: None, match_expressions: Some(vec![requirement]) }
    }

    #[test]
    fn operators_are_parsed() {
        let rows = [
            ("In", &["a", ""][..], Condition::In(vec!["a".into(), String::new()])),
            ("NotIn", &["a"], Condition::NotIn(vec!["a".into()])),
            ("Exists", &[], Condition::Exists),
            ("DoesNotExist", &[], Condition::DoesNotExist),
        ];
        for (operator, values, condition) in rows {
            let mut faults = Faults::default();
            let parsed = expression("example.org/zone", operator, values).parse("s", &mut faults);
            let expected = Selector(vec![Requirement { key: "example.org/zone".into(), condition }]);
            assert_eq!(faults.or(parsed), Ok(expected));
        }
    }

    #[test]
    fn wrong_requirements_are_named_with_the_fix() {
        let form = "write at most 63 letters, digits, -, _ and ., beginning and ending with a letter or digit";
        let at = "s.matchExpressions[0]";
        let key =
            |key: &str| format!("{at}.key: {key:?} is no label key; {form}, with a DNS name and / before it or not");
        let rows = [
            (
                expression("k", "in", &["a"]),
                format!("{at}.operator: \"in\" is no operator; write In, NotIn, Exists or DoesNotExist"),
            ),
            (expression("k", "In", &[]), format!("{at}.values: the operator In needs values; list one or more")),
            (
                expression("k", "Exists", &["a"]),
                format!("{at}.values: the operator Exists takes no values; remove them"),
            ),
            (expression("k", "In", &["a b"]), format!("{at}.values[0]: \"a b\" is no label value; {form}")),
            (expression("", "Exists", &[]), key("")),
            (expression("Example.org/zone", "Exists", &[]), key("Example.org/zone")),
            (expression("example.org/", "Exists", &[]), key("example.org/")),
            (expression("/zone", "Exists", &[]), key("/zone")),
            (expression("a/b/c", "Exists", &[]), key("a/b/c")),
            (expression(&"k".repeat(64), "Exists", &[]), key(&"k".repeat(64))),
        ];
        for (selector, expected) in rows {
            let mut faults = Faults::default();
            selector.parse("s", &mut faults);
            let found = faults.or(()).unwrap_err();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }
}
