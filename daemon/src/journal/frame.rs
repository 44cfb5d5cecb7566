//! How a value lies on disk: a version byte, a CRC-32 over key and payload, the payload. The checksum covers the key, so
//! that a value found under another row's key is damage, not data.

/// Version of the frame.
const VERSION: u8 = 1;

/// Longest piece of a value: well inside what sled keeps in its one data file.
pub(super) const PIECE: usize = 3 * 1024;

/// Why a value is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Torn {
    #[error("the value is too short")]
    Short,
    #[error("the value has frame version {0}, this program reads {VERSION}")]
    Version(u8),
    #[error("the checksum does not match")]
    Checksum,
}

pub(super) fn frame(key: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[VERSION][..], &checksum(key, payload), payload].concat()
}

pub(super) fn unframe<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Torn> {
    let (&version, rest) = value.split_first().ok_or(Torn::Short)?;
    if version != VERSION {
        return Err(Torn::Version(version));
    }
    let (sum, payload) = rest.split_first_chunk::<4>().ok_or(Torn::Short)?;
    if *sum == checksum(key, payload) { Ok(payload) } else { Err(Torn::Checksum) }
}

pub(super) fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.chunks(PIECE)
}

fn checksum(key: &[u8], payload: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(payload);
    sum.finalize().to_be_bytes()
}
