//! Text in forms and queries.

/// As the URL standard says (the "application/x-www-form-urlencoded percent-encode set").
pub fn encode(text: &str, body: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b' ' => body.push(b'+'),
            b'*' | b'-' | b'.' | b'_' => body.push(byte),
            _ if byte.is_ascii_alphanumeric() => body.push(byte),
            _ => body.extend([
                b'%',
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]),
        }
    }
}
