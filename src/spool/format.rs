//! The bytes of one entry: a header line with format, length and CRC-32, then the content. Pure.
//!
//! Later formats may change what follows the header, never the header itself: so an older obit can tell an entry of a newer
//! one, which it leaves alone, from one that was damaged.

#![forbid(unsafe_code)]

use std::fmt;

/// The first word of every header.
const MAGIC: &str = "obit";
/// What is written today.
const FORMAT: u32 = 1;
/// A header is at most this long: three numbers and the words between.
const HEADER_BYTES: usize = 64;

/// Why bytes are no entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Cut short, overwritten, or never ours.
    Corrupt(&'static str),
    /// Written whole by a later obit, in this format.
    Newer(u32),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Corrupt(why) => write!(f, "the entry is corrupt: {why}"),
            Unreadable::Newer(format) => {
                write!(
                    f,
                    "the entry was written by a later obit (format {format}, this one reads {FORMAT}); update obit"
                )
            }
        }
    }
}

/// Header and content in one piece.
pub fn encode(content: &[u8]) -> Vec<u8> {
    encode_as(FORMAT, content)
}

fn encode_as(format: u32, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let covered = format!("{MAGIC} {format} {length}");
    let mut crc = crc32fast::Hasher::new();
    crc.update(covered.as_bytes());
    crc.update(content);
    let mut bytes = format!("{covered} {:08x}\n", crc.finalize()).into_bytes();
    bytes.extend_from_slice(content);
    bytes
}

/// The content of the first entry in `bytes`, and what follows it.
pub fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    let head = &bytes[..bytes.len().min(HEADER_BYTES)];
    let end = head.iter().position(|byte| *byte == b'\n').ok_or(Unreadable::Corrupt("it has no header"))?;
    let (format, length) = numbers(&head[..end]).ok_or(Unreadable::Corrupt("its header is no header"))?;
    let rest = &bytes[end + 1..];
    let content = rest.get(..length).ok_or(Unreadable::Corrupt("it was cut short"))?;
    // Written anew and compared: whatever else the header says than we would is wrong.
    if encode_as(format, content)[..=end] != bytes[..=end] {
        return Err(Unreadable::Corrupt("its checksum does not fit"));
    }
    if format > FORMAT {
        return Err(Unreadable::Newer(format));
    }
    Ok((content, &rest[length..]))
}

/// The content, if `bytes` are one entry and nothing else.
pub fn decode(bytes: &[u8]) -> Result<&[u8], Unreadable> {
    match split(bytes)? {
        (content, []) => Ok(content),
        _ => Err(Unreadable::Corrupt("something follows its end")),
    }
}

fn numbers(header: &[u8]) -> Option<(u32, usize)> {
    let mut words = std::str::from_utf8(header).ok()?.split(' ');
    if words.next()? != MAGIC {
        return None;
    }
    let format: u32 = words.next()?.parse().ok()?;
    let length: usize = words.next()?.parse().ok()?;
    (format >= FORMAT).then_some((format, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_of_a_later_format_is_told_from_a_damaged_one() {
        let mut later = encode_as(FORMAT + 1, b"{}");
        assert_eq!(decode(&later), Err(Unreadable::Newer(FORMAT + 1)));
        *later.last_mut().unwrap() ^= 1;
        assert!(matches!(decode(&later), Err(Unreadable::Corrupt(_))));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_what_to_do() {
        assert_eq!(Unreadable::Corrupt("it has no header").to_string(), "the entry is corrupt: it has no header");
        assert_eq!(
            Unreadable::Newer(2).to_string(),
            "the entry was written by a later obit (format 2, this one reads 1); update obit"
        );
    }

    #[test]
    fn a_length_beyond_all_memory_is_only_a_wrong_length() {
        assert!(decode(b"obit 1 18446744073709551615 00000000\n{}").is_err());
        assert!(decode(b"obit 1 99999999999999999999999 00000000\n{}").is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_reads_back(content in proptest::collection::vec(any::<u8>(), 0..500)) {
            let bytes = encode(&content);
            prop_assert_eq!(decode(&bytes).unwrap(), &content[..]);
        }

        #[test]
        fn noise_is_never_an_entry(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_cut_at_any_byte_and_a_flip_of_any_bit_is_found() {
        let whole = encode(b"{\"event_id\":\"ab0102030405060708090a0b0c0d0eff\",\"reason\":\"signal\"}");
        for cut in 0..whole.len() {
            assert!(matches!(decode(&whole[..cut]), Err(Unreadable::Corrupt(_))), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bytes), Err(Unreadable::Corrupt(_))), "bit {bit}");
        }
    }
}
