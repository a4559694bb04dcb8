//! `application/x-www-form-urlencoded` text, for forms and queries.

use std::borrow::Cow;

use crate::hex;

/// Appends `text`, encoded as the URL standard prescribes ("application/x-www-form-urlencoded
/// percent-encode set").
pub fn encode(text: &str, body: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b' ' => body.push(b'+'),
            b'*' | b'-' | b'.' | b'_' => body.push(byte),
            _ if byte.is_ascii_alphanumeric() => body.push(byte),
            _ => {
                body.push(b'%');
                body.extend(hex::digits(byte).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
}

/// Returns the decoded names and values of a query, in their order.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.as_bytes())
}
