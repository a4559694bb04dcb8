//! Percent encoding (RFC 3986 section 2.1).

use crate::hex;

/// Splits the first byte off, decoded if it is an escape. A `%` without two digits is returned as
/// it is.
pub(crate) fn split_first(text: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, rest @ ..] = text
        && let Some(byte) = hex::byte([*high, *low])
    {
        return Some((byte, rest));
    }
    text.split_first().map(|(byte, rest)| (*byte, rest))
}

/// Decodes all escapes. Bytes that are not UTF-8 become U+FFFD.
pub fn decode_lossy(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = split_first(rest) {
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_escapes_are_decoded() {
        for (text, decoded) in [
            ("", ""),
            ("a%2Fb%3f%25", "a/b?%"),
            ("%252F", "%2F"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("a+b", "a+b"),
            ("%C3%BC", "ü"),
            ("%FF", "\u{fffd}"),
        ] {
            assert_eq!(decode_lossy(text), decoded, "{text}");
        }
    }
}
