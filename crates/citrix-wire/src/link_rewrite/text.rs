//! Links in JSON strings with escapes (RFC 8259 section 7).

use super::{LinkCounts, LinkRewriter, Splice};
use crate::hex;

/// Placeholder for any character outside ASCII, which neither hosts nor prefixes contain.
const NOT_ASCII: u8 = 0x80;

/// Returns the change to the text of a JSON string that is a link, in bytes of JSON. Inserted
/// slashes are escaped if the removed ones are.
pub(super) fn rewrite(
    links: &LinkRewriter,
    text: &[u8],
    counts: &mut LinkCounts,
) -> Option<Splice> {
    if memchr::memchr(b'\\', text).is_none() {
        return counts.add(links.rewrite(text));
    }
    let plain: Vec<u8> = Characters { text, at: 0 }.collect();
    let splice = counts.add(links.rewrite(&plain))?;
    let mut characters = Characters { text, at: 0 };
    for _ in characters.by_ref().take(splice.remove) {}
    let remove = characters.at;
    let escaped = text[..remove].windows(2).any(|pair| pair == br"\/");
    let insert = if escaped {
        splice.insert.replace('/', r"\/")
    } else {
        splice.insert
    };
    Some(Splice { remove, insert })
}

/// The characters of a JSON string's text; one byte for each ASCII character.
struct Characters<'t> {
    text: &'t [u8],
    at: usize,
}

impl Iterator for Characters<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        let (byte, length) = match rest {
            [] => return None,
            [b'\\', b'u', code @ ..] => match code.get(..4).and_then(code_unit) {
                Some(code) => (
                    u8::try_from(code)
                        .ok()
                        .filter(u8::is_ascii)
                        .unwrap_or(NOT_ASCII),
                    6,
                ),
                None => (NOT_ASCII, 2),
            },
            [b'\\', escaped, ..] => (*escaped, 2),
            [byte, ..] => (*byte, 1),
        };
        self.at += length;
        Some(match (length, byte) {
            // Invalid escapes, and those of control characters, which no URL contains.
            (2, escaped) if !matches!(escaped, b'/' | b'\\' | b'"') => NOT_ASCII,
            _ => byte,
        })
    }
}

fn code_unit(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |value, digit| {
        Some(value << 4 | u16::from(hex::digit(*digit)?))
    })
}
