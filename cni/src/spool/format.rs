//! The bytes of a tombstone.

use std::io;

use prost::Message as _;
use spiderpool_proto::node::CniRequest;
use thiserror::Error;

const MAGIC: &str = "spiderpool tombstone";
const VERSION: &str = "1";

/// Why a file of the spool is no tombstone.
#[derive(Debug, Error)]
pub enum Junk {
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It does not begin as a tombstone does.
    #[error("has no header of a tombstone")]
    Header,
    /// A newer program wrote it.
    #[error("has format version {0}; this program knows version 1")]
    Version(String),
    /// It is shorter or longer than its header says, or its bytes are others.
    #[error("is torn: {0}")]
    Torn(&'static str),
    /// Its bytes are as they were written, but they are no request.
    #[error("holds no request: {0}")]
    Request(#[source] prost::DecodeError),
}

/// A request as a tombstone.
pub fn encode(request: &CniRequest) -> Vec<u8> {
    let body = request.encode_to_vec();
    let mut content = format!("{MAGIC} {VERSION} {:08x} {}\n", crc32fast::hash(&body), body.len()).into_bytes();
    content.extend_from_slice(&body);
    content
}

/// The request that a tombstone holds.
///
/// # Errors
/// Why it is none.
pub fn decode(content: &[u8]) -> Result<CniRequest, Junk> {
    let end = content.iter().take(100).position(|byte| *byte == b'\n').ok_or(Junk::Header)?;
    let header = content.get(..end).and_then(|line| str::from_utf8(line).ok()).ok_or(Junk::Header)?;
    let body = content.get(end + 1..).ok_or(Junk::Header)?;
    let mut words = header.strip_prefix(MAGIC).ok_or(Junk::Header)?.split_ascii_whitespace();
    let version = words.next().ok_or(Junk::Header)?;
    if version != VERSION {
        return Err(Junk::Version(version.to_owned()));
    }
    let sum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok()).ok_or(Junk::Header)?;
    let length: usize = words.next().and_then(|word| word.parse().ok()).ok_or(Junk::Header)?;
    if body.len() != length {
        return Err(Junk::Torn("its length differs from the one in its header"));
    }
    if crc32fast::hash(body) != sum {
        return Err(Junk::Torn("its checksum differs from the one in its header"));
    }
    CniRequest::decode(body).map_err(Junk::Request)
}
