//! The journal's rows as bytes, and back: the codec between core's records and `journal.proto`.
//!
//! Facts sort behind all other rows, by their sequence. Decoding never panics: a row that cannot be read is an error
//! that names what is wrong with it.

use std::net::IpAddr;
use std::sync::Arc;

use prost::Message as _;
use spiderpool_core::journal::{Key, Record};
use spiderpool_core::message::{GrantId, JournalId};
use spiderpool_core::node::attachment::{Attachment, Plugin};

mod frame;
mod plan;
mod row;
mod value;

pub use frame::{Torn, frame, unframe};

#[allow(missing_docs, unreachable_pub, clippy::all)] // generated
mod wire {
    include!(concat!(env!("OUT_DIR"), "/spiderpool.journal.v1.rs"));
}

/// Why bytes are no row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The key is of no known form.
    #[error("unknown key")]
    Key,
    /// The value is no message of the key's kind.
    #[error("no message: {0}")]
    Message(#[from] prost::DecodeError),
    /// A field of the message has no meaning.
    #[error("field {0} is missing or has no meaning")]
    Field(&'static str),
}

const META: u8 = b'm';
const LEASE: u8 = b'l';
const ATTACHMENT: u8 = b'a';
const RELEASED: u8 = b'r';
const WORD: u8 = b'w';
const SANDBOX: u8 = b's';
/// Facts sort behind all other rows.
const FACT: u8 = b'~';

/// A key as bytes.
pub fn encode_key(key: &Key) -> Vec<u8> {
    match key {
        Key::Meta => vec![META],
        Key::Lease(id) => {
            let parts = [&id.journal.0.to_be_bytes()[..], &id.session.to_be_bytes(), &id.number.to_be_bytes()];
            [&[LEASE][..], &parts.concat()].concat()
        }
        Key::Attachment(who) => [&[ATTACHMENT][..], &attachment(who)].concat(),
        Key::Released(address) => [&[RELEASED][..], &value::address(*address)].concat(),
        Key::Word(plugin, who) => [&[WORD, plugin_byte(*plugin)][..], &attachment(who)].concat(),
        Key::Sandbox(container) => [&[SANDBOX][..], container.as_bytes()].concat(),
        Key::Fact(sequence) => [&[FACT][..], &sequence.to_be_bytes()].concat(),
    }
}

/// Bytes as a key.
pub fn decode_key(bytes: &[u8]) -> Result<Key, Malformed> {
    let (kind, rest) = bytes.split_first().ok_or(Malformed::Key)?;
    match *kind {
        META if rest.is_empty() => Ok(Key::Meta),
        LEASE => {
            let (journal, rest) = rest.split_first_chunk().ok_or(Malformed::Key)?;
            let (session, number) = rest.split_first_chunk().ok_or(Malformed::Key)?;
            Ok(Key::Lease(GrantId {
                journal: JournalId(u128::from_be_bytes(*journal)),
                session: u64::from_be_bytes(*session),
                number: u32::from_be_bytes(number.try_into().map_err(|_| Malformed::Key)?),
            }))
        }
        ATTACHMENT => Ok(Key::Attachment(as_attachment(rest)?)),
        RELEASED => Ok(Key::Released(value::as_address(rest).ok_or(Malformed::Key)?)),
        WORD => {
            let (plugin, rest) = rest.split_first().ok_or(Malformed::Key)?;
            Ok(Key::Word(as_plugin(*plugin)?, as_attachment(rest)?))
        }
        SANDBOX => Ok(Key::Sandbox(text(rest)?)),
        FACT => Ok(Key::Fact(u64::from_be_bytes(rest.try_into().map_err(|_| Malformed::Key)?))),
        _ => Err(Malformed::Key),
    }
}

/// A record as bytes.
pub fn encode_record(record: &Record) -> Vec<u8> {
    match record {
        Record::Meta(meta) => wire::Meta::from(meta).encode_to_vec(),
        Record::Lease(lease) => wire::Lease::from(lease).encode_to_vec(),
        Record::Attachment(held) => wire::Held::from(held).encode_to_vec(),
        Record::Released(released) => wire::Released::from(released).encode_to_vec(),
        Record::Word(started) => wire::Word { started: *started }.encode_to_vec(),
        Record::Sandbox(sandbox) => wire::Sandbox::from(sandbox).encode_to_vec(),
        Record::Fact(fact) => wire::Fact::from(fact).encode_to_vec(),
    }
}

/// Bytes as the record that belongs to a key.
pub fn decode_record(key: &Key, bytes: &[u8]) -> Result<Record, Malformed> {
    Ok(match key {
        Key::Meta => Record::Meta(wire::Meta::decode(bytes)?.try_into()?),
        Key::Lease(_) => Record::Lease(wire::Lease::decode(bytes)?.try_into()?),
        Key::Attachment(_) => Record::Attachment(wire::Held::decode(bytes)?.try_into()?),
        Key::Released(_) => Record::Released(wire::Released::decode(bytes)?.try_into()?),
        Key::Word(..) => Record::Word(wire::Word::decode(bytes)?.started),
        Key::Sandbox(_) => Record::Sandbox(wire::Sandbox::decode(bytes)?.try_into()?),
        Key::Fact(_) => Record::Fact(wire::Fact::decode(bytes)?.try_into()?),
    })
}

/// The parts of an attachment, each ended by a zero byte: none can hold one, and shorter names sort first.
fn attachment(who: &Attachment) -> Vec<u8> {
    [&who.container, &who.interface, &who.network].into_iter().flat_map(|part| part.bytes().chain([0])).collect()
}

fn as_attachment(bytes: &[u8]) -> Result<Attachment, Malformed> {
    let mut parts = bytes.strip_suffix(&[0]).ok_or(Malformed::Key)?.split(|byte| *byte == 0);
    let mut next = || parts.next().ok_or(Malformed::Key).and_then(text);
    let who = Attachment { container: next()?, interface: next()?, network: next()? };
    if parts.next().is_some() { Err(Malformed::Key) } else { Ok(who) }
}

fn text(bytes: &[u8]) -> Result<Arc<str>, Malformed> {
    std::str::from_utf8(bytes).map(Arc::from).map_err(|_| Malformed::Key)
}

fn plugin_byte(plugin: Plugin) -> u8 {
    match plugin {
        Plugin::Ipam => b'i',
        Plugin::Coordinator => b'c',
    }
}

fn as_plugin(byte: u8) -> Result<Plugin, Malformed> {
    match byte {
        b'i' => Ok(Plugin::Ipam),
        b'c' => Ok(Plugin::Coordinator),
        _ => Err(Malformed::Key),
    }
}

/// A field that must be there.
fn required<T>(field: Option<T>, name: &'static str) -> Result<T, Malformed> {
    field.ok_or(Malformed::Field(name))
}

/// An address that may be absent: no bytes.
fn maybe_address(bytes: &[u8], name: &'static str) -> Result<Option<IpAddr>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { required(value::as_address(bytes), name).map(Some) }
}

#[cfg(test)]
mod tests;
