//! Messages that RFC 9113 section 8 calls malformed are rejected, and reach no upstream.

use crate::harness::{Gateway, OK, Upstream};
use crate::http2_abuse::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, POST, RST_STREAM, Received, attack, code, frame,
};

const PROTOCOL_ERROR: u32 = 1;
const COMPRESSION_ERROR: u32 = 9;
/// `:status: 400` from the static table.
const STATUS_400: u8 = 0x8c;

/// GET, http and /.
const START: &[u8] = b"\x82\x86\x84";
/// `:authority: localhost`.
const AUTHORITY: &[u8] = b"\x41\x09localhost";

/// Returns a field as a literal.
fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
    [
        &[0, length(name.as_bytes())],
        name.as_bytes(),
        &[length(value)],
        value,
    ]
    .concat()
}

/// Returns header blocks that are malformed, by the section that says so.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let get = [START, AUTHORITY].concat();
    let with = |name: &str, value: &[u8]| [&get[..], &field(name, value)].concat();
    vec![
        ("8.2.1 upper case", with("X-A", b"b")),
        ("8.2.1 space in a name", with("x a", b"b")),
        ("8.2.1 colon in a name", with("x:a", b"b")),
        ("8.2.1 DEL in a name", with("x\x7f", b"b")),
        ("8.2.1 empty name", with("", b"b")),
        ("8.2.1 NUL in a value", with("x-a", b"b\0")),
        ("8.2.1 CR in a value", with("x-a", b"b\rc")),
        ("8.2.1 LF in a value", with("x-a", b"b\nc: d")),
        ("8.2.2 connection", with("connection", b"x-a")),
        ("8.2.2 keep-alive", with("keep-alive", b"timeout=5")),
        ("8.2.2 proxy-connection", with("proxy-connection", b"close")),
        (
            "8.2.2 transfer-encoding",
            with("transfer-encoding", b"chunked"),
        ),
        ("8.2.2 upgrade", with("upgrade", b"h2c")),
        ("8.2.2 te", with("te", b"gzip")),
        ("8.3 unknown pseudo-header field", with(":a", b"b")),
        ("8.3 of a response", with(":status", b"200")),
        (
            "8.3 after a field",
            [START, &field("x-a", b"b"), AUTHORITY].concat(),
        ),
        ("8.3 repeated path", [&get[..], b"\x84"].concat()),
        ("8.3 repeated authority", [&get[..], AUTHORITY].concat()),
        ("8.3.1 no method", [b"\x86\x84", AUTHORITY].concat()),
        ("8.3.1 no scheme", [b"\x82\x84", AUTHORITY].concat()),
        ("8.3.1 no path", [b"\x82\x86", AUTHORITY].concat()),
        (
            "8.3.1 empty path",
            [b"\x82\x86", &field(":path", b"")[..], AUTHORITY].concat(),
        ),
        (
            "8.3.1 user information",
            [START, &field(":authority", b"me@localhost")].concat(),
        ),
        ("8.3.1 another host", with("host", b"other")),
        (
            "8.3.1 two hosts",
            [
                START,
                &field("host", b"localhost"),
                &field("host", b"localhost"),
            ]
            .concat(),
        ),
        ("8.3.1 no authority", START.to_vec()),
    ]
}

/// Returns `true` if the gateway rejects the request, with a response or without.
async fn is_rejected(gateway: &Gateway, block: &[u8]) -> bool {
    let head = frame(HEADERS, END_STREAM | END_HEADERS, 1, block);
    let decides = |(kind, ..): &Received| matches!(*kind, HEADERS | RST_STREAM | GOAWAY);
    let received = attack(gateway, &[], head, decides).await;
    let (kind, _, payload) = received.last().unwrap();
    match *kind {
        HEADERS => payload[0] == STATUS_400,
        RST_STREAM => code(payload, 0) == PROTOCOL_ERROR,
        // `h2` takes an invalid name for an error of the compression.
        _ => matches!(code(payload, 4), PROTOCOL_ERROR | COMPRESSION_ERROR),
    }
}

#[tokio::test]
async fn rfc9113_8_1_1_malformed_requests_are_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut accepted = Vec::new();
    for (name, block) in malformed() {
        if !is_rejected(&gateway, &block).await {
            accepted.push(name);
        }
    }
    assert!(accepted.is_empty(), "{accepted:#?}");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9113_8_5_connect_is_rejected() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let connect = [&field(":method", b"CONNECT")[..], AUTHORITY].concat();
    for block in [&connect[..], &[&connect, &b"\x86\x84"[..]].concat()] {
        assert!(is_rejected(&gateway, block).await, "{block:x?}");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn rfc9113_8_1_1_body_of_another_length_completes_no_request() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let opened = frame(HEADERS, END_HEADERS, 1, POST);
    let announced = [POST, &field("content-length", b"3")].concat();
    let announced = frame(HEADERS, END_HEADERS, 1, &announced);
    let data = |body: &str| frame(DATA, END_STREAM, 1, body.as_bytes());
    for frames in [
        [announced.clone(), data("ab")],
        [announced, data("abcd")],
        // A second head that does not end the stream is no trailer section (section 8.1).
        [opened, frame(HEADERS, END_HEADERS, 1, &field("x-a", b"b"))],
    ] {
        let is_reset = |(kind, ..): &Received| *kind == RST_STREAM;
        let received = attack(&gateway, &[], frames.concat(), is_reset).await;
        let reset = received.iter().find(|frame| is_reset(frame));
        let code = reset.map(|(.., payload)| code(payload, 0));
        assert_eq!(code, Some(PROTOCOL_ERROR), "{frames:x?}");
    }
    let requests = upstream.take_requests().await;
    assert!(
        requests.iter().all(|request| !request.complete),
        "{requests:?}"
    );
}
