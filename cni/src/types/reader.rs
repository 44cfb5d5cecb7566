//! Takes typed values out of a JSON object. A value of another type is an error that says where it stands and what to
//! write there: serde's own messages name types of Rust, which help nobody who writes a network configuration.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::{CniError, Code};

/// An object and the way to it from the document's root. A key whose value is null counts as missing, as it does in
/// the reference implementation.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Reader<'a> {
    pub(crate) fn root(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// An object that stands at `path`.
    pub(crate) fn at(path: String, value: &'a Value) -> Result<Self, CniError> {
        match value {
            Value::Object(object) => Ok(Self { object, path }),
            _ => Err(wrong(&path, value, "an object {...}")),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.object.keys().map(String::as_str)
    }

    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        self.read(key, "a string", Value::as_str)
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, CniError> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(crate) fn integer<T: TryFrom<i64>>(&self, key: &str, wanted: &str) -> Result<Option<T>, CniError> {
        self.read(key, wanted, |value| value.as_i64().and_then(|number| T::try_from(number).ok()))
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, CniError> {
        self.get(key).map(|value| Self::at(self.path(key), value)).transpose()
    }

    pub(crate) fn objects(&self, key: &str) -> Result<Vec<Self>, CniError> {
        self.list(key, "a list of objects [{...}]")?.map(|(path, item)| Self::at(path, item)).collect()
    }

    pub(crate) fn strings(&self, key: &str, wanted: &str) -> Result<Vec<String>, CniError> {
        self.list(key, wanted)?
            .map(|(path, item)| item.as_str().map(str::to_owned).ok_or_else(|| wrong(&path, item, "a string")))
            .collect()
    }

    /// A string that is something more: an address, say. Empty counts as missing.
    pub(crate) fn parsed<T: FromStr>(&self, key: &str, wanted: &str) -> Result<Option<T>, CniError> {
        self.string(key)?
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().map_err(|_| self.wrong(key, wanted)))
            .transpose()
    }

    /// A list of strings that are something more.
    pub(crate) fn all_parsed<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, CniError> {
        self.list(key, &format!("a list of strings, each {wanted}"))?
            .map(|(path, item)| item.as_str().and_then(&parse).ok_or_else(|| wrong(&path, item, wanted)))
            .collect()
    }

    /// The error for a value that is there but will not do.
    pub(crate) fn wrong(&self, key: &str, wanted: &str) -> CniError {
        wrong(&self.path(key), self.object.get(key).unwrap_or(&Value::Null), wanted)
    }

    /// The error for a key that must be there.
    pub(crate) fn missing(&self, key: &str, wanted: &str) -> CniError {
        CniError::new(Code::InvalidConfiguration, format!("{} is missing: write {wanted}", self.path(key)))
    }

    fn read<T>(&self, key: &str, wanted: &str, take: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, CniError> {
        self.get(key).map(|value| take(value).ok_or_else(|| self.wrong(key, wanted))).transpose()
    }

    fn list(&self, key: &str, wanted: &str) -> Result<impl Iterator<Item = (String, &'a Value)> + use<'a>, CniError> {
        let items = self.read(key, wanted, |value| value.as_array().map(Vec::as_slice))?.unwrap_or_default();
        let path = self.path(key);
        Ok(items.iter().enumerate().map(move |(index, item)| (format!("{path}[{index}]"), item)))
    }
}

fn wrong(path: &str, found: &Value, wanted: &str) -> CniError {
    let mut found = found.to_string();
    // A configuration may hold anything, and the message goes into events and logs.
    if found.len() > 60 {
        found.truncate((0..=60).rev().find(|at| found.is_char_boundary(*at)).unwrap_or(0));
        found.push('…');
    }
    CniError::new(Code::InvalidConfiguration, format!("{path} is {found}: write {wanted}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_value_is_named_with_its_place_and_the_fix() {
        let value = json!({"ipam": {"pools": ["a", 5], "flag": "yes", "long": "x".repeat(200), "none": null}});
        let root = Reader::root(value.as_object().unwrap());
        let ipam = root.object("ipam").unwrap().unwrap();
        assert_eq!(ipam.strings("pools", "a list").unwrap_err().msg, "ipam.pools[1] is 5: write a string");
        assert_eq!(ipam.boolean("flag").unwrap_err().msg, "ipam.flag is \"yes\": write true or false");
        assert!(ipam.boolean("long").unwrap_err().msg.len() < 120);
        assert_eq!(ipam.boolean("none"), Ok(None));
        assert_eq!(root.string("ipam").unwrap_err().code, Code::InvalidConfiguration);
    }
}
