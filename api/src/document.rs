//! One YAML document as a tree that remembers the line of each value.
//!
//! Objects are read from the tree rather than from the text, so that every fault has its field and line: those of
//! the types (an unknown field, text where a number belongs) as well as those that a rule finds later and names by
//! the field's path alone. JSON is read as the YAML it is.

use std::fmt;

use serde::de::{self, Deserialize, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

mod read;

pub(crate) use read::read;

/// A value and the line it starts on, counted from 1.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    /// What no `i64` holds.
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of writing, without doubles.
    Map(Vec<Entry>),
    /// Stands where a list's entry was taken out, so that the others keep their places.
    Taken,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    line: usize,
    value: Node,
}

/// A document that is no YAML, and the line where that shows.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// The texts of a file's documents, each with the number of its first line. A line that begins with `---` begins a
/// document; YAML allows it nowhere else (YAML 1.2.2, 9.1.2), so a document cannot spoil the others of its file.
pub(crate) fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker && at > start {
            documents.push((first, &text[start..at]));
            (start, first) = (at, index + 1);
        }
        at += line.len();
    }
    documents.push((first, &text[start..]));
    documents
}

impl Node {
    /// Reads the text of a document whose first line has the given number. None: it holds nothing but comments.
    pub(crate) fn parse(first: usize, text: &str) -> Result<Option<Node>, SyntaxError> {
        let empty = |line: &str| {
            let line = line.strip_prefix("---").unwrap_or(line).trim_start();
            line.is_empty() || line.starts_with('#')
        };
        if text.lines().all(empty) {
            return Ok(None);
        }
        let options = serde_saphyr::options! {
            with_snippet: false,
            // Objects are small; what an alias multiplies beyond that is an attack or an accident.
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        };
        let mut node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let line = error.location().map_or(1, |location| line_number(location.line()));
            SyntaxError {
                line: line + first - 1,
                reason: UserMessageFormatter.format_message(error.without_snippet()).into_owned(),
            }
        })?;
        node.shift(first - 1);
        Ok(Some(node))
    }

    fn shift(&mut self, lines: usize) {
        self.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.line += lines;
                entry.value.shift(lines);
            }),
            _ => {}
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text that the node is.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// Takes a key out of the map that the node is.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Value::Map(entries) = &mut self.value {
            entries.retain(|entry| entry.key != key);
        }
    }

    /// The line of a field, or of the innermost part of its path that is written.
    pub(crate) fn line_of(&self, field: &str) -> usize {
        let (mut node, mut line, mut rest) = (self, self.line, field);
        while !rest.is_empty() {
            let (step, after) = match rest.strip_prefix('[') {
                Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
                None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
            };
            rest = after.strip_prefix('.').unwrap_or(after);
            let next = match &node.value {
                Value::List(items) => {
                    step.parse::<usize>().ok().and_then(|place| items.get(place)).map(|item| (item.line, item))
                }
                _ => node.entry(step).map(|entry| (entry.line, &entry.value)),
            };
            let Some(next) = next else { break };
            (line, node) = next;
        }
        line
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        if let Value::Map(entries) = &self.value { entries.iter().find(|entry| entry.key == key) } else { None }
    }
}

fn line_number(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX).max(1)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { line: line_number(referenced.line()), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value()?;
            map.push(Entry { line: line_number(key.referenced.line()), key: key.value, value });
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests;
