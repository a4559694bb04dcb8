use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::response_framing::Delimiter;

fn parsed(head: &str) -> Result<ResponseHead, HeadError> {
    let bytes = Bytes::copy_from_slice(head.as_bytes());
    let Some(length) = SectionEnd::default().find(&bytes)? else {
        panic!("{head:?} is not complete");
    };
    parse(&bytes.slice(..length), HeaderMap::new())
}

#[test]
fn rfc9112_4_status_line_and_fields_are_read() {
    let head =
        parsed("HTTP/1.1 206 Some\r\nA: 1\r\nb:\t2 \r\nA:3\r\nC:\r\nD: caf\u{e9}\r\n\r\n").unwrap();
    assert_eq!(
        (head.status.as_u16(), head.version),
        (206, Version::HTTP_11)
    );
    assert_eq!(head.reason.as_deref(), Some(&b"Some"[..]));
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let expected: [(&str, &[u8]); 5] = [
        ("a", b"1"),
        ("a", b"3"),
        ("b", b"2"),
        ("c", b""),
        ("d", "caf\u{e9}".as_bytes()),
    ];
    assert_eq!(fields.collect::<Vec<_>>(), expected);
    assert_eq!(
        parsed("HTTP/1.0 200 OK\r\n\r\n").unwrap().version,
        Version::HTTP_10
    );
    for usual in [
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "HTTP/1.1 599 \r\n\r\n",
        "HTTP/1.1 599\r\n\r\n",
    ] {
        let reason = parsed(usual).unwrap().reason;
        assert!(reason.is_none_or(|reason| reason.is_empty()), "{usual}");
    }
}

#[test]
fn rfc9112_5_heads_with_more_than_one_reading_are_rejected() {
    for head in [
        // Versions.
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        // Status lines.
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1\t200 OK\r\n\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 200 O\rK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        // Line ends.
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\n\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n\n",
        "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n",
        // Fields.
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\t: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n\tc: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA(: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\x7f\r\n\r\n",
    ] {
        assert!(parsed(head).is_err(), "{head:?}");
    }
}

#[test]
fn first_bytes_show_what_is_no_response() {
    for bytes in ["", "H", "HTTP/1.", "HTTP/1.1 200"] {
        assert!(may_begin(bytes.as_bytes()), "{bytes}");
    }
    for bytes in ["S", "HTTP/2", "\r\n", "<html>", "http/1.1"] {
        assert!(!may_begin(bytes.as_bytes()), "{bytes}");
    }
}

#[test]
fn heads_and_trailers_are_bounded() {
    let with =
        |fields: usize, size: usize| format!("X: {}\r\n", "x".repeat(size)).repeat(fields) + "\r\n";
    let too_large = Some(HeadError::TooLarge(HeadTooLarge));
    for (fields, size, expected) in [(100, 1), (101, 1), (1, 128 * 1024 - 5), (1, 128 * 1024 - 4)]
        .into_iter()
        .zip([None, too_large, None, too_large])
        .map(|((fields, size), expected)| (fields, size, expected))
    {
        let section = with(fields, size);
        let head = parsed(&format!("HTTP/1.1 200 OK\r\n{section}"));
        assert_eq!(head.err(), expected, "{fields} fields of {size} bytes");
        assert_eq!(parse_trailers(&section.into()).err(), expected);
    }
}

#[test]
fn rfc9112_9_3_persistence_follows_version_and_connection() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: x , CLOSE\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: closed\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: \u{e9}\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(parsed(head).unwrap().persists, expected, "{head}");
    }
}

#[test]
fn framing_fields_are_those_of_the_head() {
    let head = parsed("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n").unwrap();
    assert_eq!(head.headers.get_all(CONTENT_LENGTH).iter().count(), 1);
    assert_eq!(
        head.framing.delimiter(head.version),
        Ok(Delimiter::Length(2))
    );
    let head = parsed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(head.framing, FramingFields::of(&head.headers));
}

#[test]
fn rfc9112_7_1_2_trailers_are_fields() {
    let trailers = parse_trailers(&Bytes::from_static(b"X-Sum: 1\r\n\r\n")).unwrap();
    assert_eq!(trailers["x-sum"], "1");
    for section in [
        "X : 1\r\n\r\n",
        "X: 1\r\n 2\r\n\r\n",
        "X\r\n\r\n",
        "X: 1\r\n\r\nY: 2\r\n\r\n",
    ] {
        assert!(
            parse_trailers(&Bytes::from(section)).is_err(),
            "{section:?}"
        );
    }
}

proptest! {
    #[test]
    fn fields_are_read_as_they_were_written(
        status in 100_u16..1000,
        fields in prop::collection::vec(("[a-z][a-z0-9-]{0,12}", "([!-~]([ -~]{0,20}[!-~])?)?"), 0..20),
    ) {
        let lines = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("HTTP/1.1 {status} Reason\r\n{}\r\n", lines.collect::<String>());
        let head = parsed(&head).unwrap();
        prop_assert_eq!(head.status.as_u16(), status);
        let mut expected = HeaderMap::new();
        for (name, value) in &fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            expected.append(name, HeaderValue::from_str(value).unwrap());
        }
        prop_assert_eq!(head.framing, FramingFields::of(&expected));
        prop_assert_eq!(head.headers, expected);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>, prefix in prop::sample::select(vec!["", "HTTP/1.1 200 OK\r\n"])) {
        let bytes = Bytes::from([prefix.as_bytes(), &bytes].concat());
        let _ = parse(&bytes, HeaderMap::new());
        let _ = parse_trailers(&bytes);
    }
}
