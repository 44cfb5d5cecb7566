//! How a value lies on disk: a version byte, a CRC-32 over key and payload, the payload. The checksum covers the key, so
//! that a value found under another row's key is damage, not data.

/// Version of the frame.
const VERSION: u8 = 1;

/// Why a value is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Torn {
    /// It ends before its payload begins.
    #[error("the value is too short")]
    Short,
    /// Another version of the frame.
    #[error("the value has frame version {0}, this program reads {VERSION}")]
    Version(u8),
    /// Other bytes than were written, or another row's.
    #[error("the checksum does not match")]
    Checksum,
}

/// A payload as it is to lie under a key.
pub fn frame(key: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[VERSION][..], &checksum(key, payload), payload].concat()
}

/// The payload of what lies under a key.
///
/// # Errors
/// It is not what was written there.
pub fn unframe<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Torn> {
    let (&version, rest) = value.split_first().ok_or(Torn::Short)?;
    if version != VERSION {
        return Err(Torn::Version(version));
    }
    let (sum, payload) = rest.split_first_chunk::<4>().ok_or(Torn::Short)?;
    if *sum == checksum(key, payload) { Ok(payload) } else { Err(Torn::Checksum) }
}

fn checksum(key: &[u8], payload: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key);
    sum.update(payload);
    sum.finalize().to_be_bytes()
}
