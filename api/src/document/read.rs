//! Typed values out of a [`Node`], with field and line for whatever does not fit.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Entry, Node, Value};
use crate::invalid::Invalid;

/// What reading found wrong with the structure of a document, by field.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    /// Fields that are unknown, missing or of the wrong type.
    pub(crate) faults: Vec<Invalid>,
    /// Entries of lists were passed over, so that places in what was read are not the places in the document.
    pub(crate) shifted: bool,
}

/// More faults than that are not looked for.
const MOST: usize = 20;

/// Reads a value, passing over what does not fit. None: what is left is not enough.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> (Option<T>, Structure) {
    let (mut node, mut structure) = (node.clone(), Structure::default());
    loop {
        let Mismatch { path, reason } = match T::deserialize(&node) {
            Ok(value) => return (Some(value), structure),
            Err(mismatch) => mismatch,
        };
        let path: Vec<Step> = path.into_iter().rev().collect();
        let field = show(&path);
        // A field that was taken out because of its type may now be missing: that is no further fault.
        if structure.faults.iter().all(|fault| fault.field != field) {
            structure.faults.push(Invalid { field, reason });
        }
        match take(&mut node, &path) {
            Some(_) if structure.faults.len() >= MOST => return (None, structure),
            Some(shifted) => structure.shifted |= shifted,
            None => return (None, structure),
        }
    }
}

/// Takes out what a path names. Whether it was a list's entry; none: there is no such thing.
fn take(node: &mut Node, path: &[Step]) -> Option<bool> {
    match (&mut node.value, path) {
        (Value::Map(entries), [Step::Key(key)]) => {
            let place = entries.iter().position(|entry| entry.key == *key)?;
            entries.remove(place);
            Some(false)
        }
        (Value::List(items), [Step::Place(place)]) => {
            items.get_mut(*place)?.value = Value::Taken;
            Some(true)
        }
        (Value::Map(entries), [Step::Key(key), rest @ ..]) => {
            take(&mut entries.iter_mut().find(|entry| entry.key == *key)?.value, rest)
        }
        (Value::List(items), [Step::Place(place), rest @ ..]) => take(items.get_mut(*place)?, rest),
        _ => None,
    }
}

/// A step from a value into one of its parts.
#[derive(Debug)]
enum Step {
    Key(String),
    Place(usize),
}

/// A path as Kubernetes writes it. A key that is no plain word stands in brackets.
fn show(path: &[Step]) -> String {
    let mut shown = String::new();
    for step in path {
        match step {
            Step::Place(place) => shown.push_str(&format!("[{place}]")),
            Step::Key(key) if key.chars().all(char::is_alphanumeric) => {
                let dot = if shown.is_empty() { "" } else { "." };
                shown.push_str(&format!("{dot}{key}"));
            }
            Step::Key(key) => shown.push_str(&format!("[{key}]")),
        }
    }
    shown
}

/// A part that does not fit. Its path is built from the inside out.
#[derive(Debug)]
pub(crate) struct Mismatch {
    path: Vec<Step>,
    reason: String,
}

impl Mismatch {
    fn under(mut self, step: Step) -> Mismatch {
        self.path.push(step);
        self
    }
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: Display>(message: T) -> Mismatch {
        Mismatch { path: Vec::new(), reason: message.to_string() }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Mismatch {
        let scalar = matches!(unexpected, Unexpected::Bool(_) | Unexpected::Signed(_) | Unexpected::Float(_));
        let expected = expected.to_string();
        let wanted = match expected.as_str() {
            "a string" if scalar => "text: put it in quotes",
            "a string" => "text",
            "i64" => "a whole number",
            "a boolean" => "true or false",
            "a sequence" => "a list, with - before each entry",
            "a map" => "a map of KEY: VALUE",
            other if other.starts_with("struct ") => "fields, each as NAME: VALUE",
            other => other,
        };
        match unexpected {
            Unexpected::Unit => de::Error::custom(format_args!("is empty; write {wanted}")),
            _ => de::Error::custom(format_args!("{unexpected} does not fit; write {wanted}")),
        }
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Mismatch {
        de::Error::custom(format_args!("is no field of this object; it has {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Mismatch {
        Mismatch { path: vec![Step::Key(field.into())], reason: "is missing; it must be written".into() }
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.value {
            Value::Null | Value::Taken => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(value),
            Value::List(items) => visitor.visit_seq(Items { rest: items.iter().enumerate() }),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if matches!(self.value, Value::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    /// Serde would take a list as the fields in their order; no object is written like that.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct Items<'de> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let Some((place, item)) = self.rest.find(|(_, item)| !matches!(item.value, Value::Taken)) else {
            return Ok(None);
        };
        seed.deserialize(item).map(Some).map_err(|mismatch| mismatch.under(Step::Place(place)))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mismatch;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Mismatch> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mismatch| mismatch.under(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mismatch> {
        let entry = self.current.ok_or_else(|| de::Error::custom("value asked for before its key"))?;
        seed.deserialize(&entry.value).map_err(|mismatch| mismatch.under(Step::Key(entry.key.clone())))
    }
}
