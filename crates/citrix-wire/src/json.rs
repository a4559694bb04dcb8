//! JSON bodies of Citrix, whose services write `Items` or `items`, with or without a byte order
//! mark (contract §3).

use serde_json::Value;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses a body; `None` if it is not JSON.
pub fn parse(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(without_bom(body)).ok()
}

/// Returns a body without its byte order mark, which RFC 8259 section 8.1 permits to ignore.
pub fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Returns the member `name` of an object, case-insensitive; an exact match takes precedence.
pub fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    object.get(name).or_else(|| {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_case_and_behind_a_byte_order_mark() {
        for text in [
            r#"{"Sites":1}"#,
            r#"{"sites":1}"#,
            "\u{feff}{\"SITES\":1}",
            r#"{"SITES":2,"Sites":1}"#,
        ] {
            let value = parse(text.as_bytes()).unwrap();
            assert_eq!(member(&value, "Sites"), Some(&Value::from(1)), "{text}");
        }
        assert_eq!(member(&Value::from("Sites"), "Sites"), None);
        assert_eq!(parse(b"\xef\xbb\xbf"), None);
    }
}
