//! Hexadecimal digits (RFC 4648 section 8).

/// Returns two lower-case digits per byte.
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| digits(*byte))
        .map(char::from)
        .collect()
}

/// Returns the two lower-case digits of a byte.
pub(crate) fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)])
}

/// Returns the `N` bytes of exactly `2 * N` case-insensitive digits.
pub fn decode<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = self::byte(*pair)?;
    }
    Some(bytes)
}

/// Returns the byte of two case-insensitive digits.
pub(crate) fn byte([high, low]: [u8; 2]) -> Option<u8> {
    Some(digit(high)? << 4 | digit(low)?)
}

/// Returns the value of one case-insensitive digit.
pub(crate) fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digits_of_either_case_are_decoded() {
        assert_eq!(decode(b"00fFa9"), Some([0, 255, 0xa9]));
        assert_eq!(decode(b""), Some([]));
    }

    #[test]
    fn wrong_length_or_character_is_rejected() {
        for digits in ["00", "00ff0", "00ff00ff", "00fg00", "+0ff00", " 0ff00"] {
            assert_eq!(decode::<3>(digits.as_bytes()), None, "{digits}");
        }
    }

    proptest! {
        #[test]
        fn encoded_bytes_decode_to_themselves(bytes: [u8; 32]) {
            let digits = encode(&bytes);
            prop_assert_eq!(&digits, &digits.to_ascii_lowercase());
            prop_assert_eq!(decode(digits.as_bytes()), Some(bytes));
        }
    }
}
