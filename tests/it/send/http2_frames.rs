//! HTTP/2 of an upstream that violates RFC 9113 becomes no response, and what the gateway sends is
//! within the limits that the upstream sets.

use testkit::http2::{
    DATA, END_STREAM, GOAWAY, HEADERS, Http2Upstream, Http2Wire, NO_ERROR, PING, SETTINGS,
};

use super::http2::in_front_of;
use crate::harness::{get, get_with, within_timeout};

const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
/// The parameter SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Response heads that are malformed, by the section that says so.
const MALFORMED: [(&str, &[(&str, &str)]); 12] = [
    ("8.3.2 no status", &[("x-a", "b")]),
    ("8.3.2 invalid status", &[(":status", "20")]),
    (
        "8.3 repeated status",
        &[(":status", "200"), (":status", "200")],
    ),
    (
        "8.3 status after a field",
        &[("x-a", "b"), (":status", "200")],
    ),
    (
        "8.3 unknown pseudo-header field",
        &[(":status", "200"), (":a", "b")],
    ),
    ("8.2.1 upper case", &[(":status", "200"), ("X-A", "b")]),
    ("8.2.1 colon in a name", &[(":status", "200"), ("x:a", "b")]),
    (
        "8.2.1 NUL in a value",
        &[(":status", "200"), ("x-a", "b\0")],
    ),
    (
        "8.2.1 LF in a value",
        &[(":status", "200"), ("x-a", "b\nset-cookie: c")],
    ),
    (
        "8.2.2 connection",
        &[(":status", "200"), ("connection", "x-a")],
    ),
    (
        "8.2.2 transfer-encoding",
        &[(":status", "200"), ("transfer-encoding", "chunked")],
    ),
    ("8.2.2 upgrade", &[(":status", "200"), ("upgrade", "h2c")]),
];

/// Returns a request that is sent once, whatever happens.
fn post() -> String {
    get_with("/x", "Content-Length: 0\r\n").replace("GET", "POST")
}

#[tokio::test]
async fn rfc9113_8_1_1_malformed_responses_are_not_forwarded() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    for (name, fields) in MALFORMED {
        let mut caller = gateway.connect().await;
        caller.write(post()).await;
        let serve = async {
            let mut wire = upstream.connection().await;
            let (stream, _) = wire.request().await;
            wire.write_fields(stream, fields, 0).await;
            wire.write(DATA, END_STREAM, stream, b"{}").await;
            wire
        };
        let (response, wire) = tokio::join!(caller.response(), serve);
        if response.status() != 502 {
            wrong.push(format!("{name}: {}", response.line()));
        }
        // The next request is on another connection.
        drop(wire);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns the code of the GOAWAY that the gateway sends.
async fn goaway_code(wire: &mut Http2Wire) -> Option<u32> {
    while let Some(frame) = within_timeout(wire.frame()).await {
        if frame.kind == GOAWAY {
            return Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
    }
    None
}

#[tokio::test]
async fn rfc9113_6_6_server_push_ends_the_connection() {
    let promise = [&[0, 0, 0, 2][..], b"\x82\x87\x84\x41\x09localhost"].concat();
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let (stream, _) = wire.request().await;
        wire.write(PUSH_PROMISE, END_HEADERS, stream, &promise)
            .await;
        assert_eq!(goaway_code(&mut wire).await, Some(PROTOCOL_ERROR));
    };
    let (response, ()) = tokio::join!(gateway.raw(post()), serve);
    response.problem(502, "upstream_broken");
}

#[tokio::test]
async fn rfc9113_3_4_connection_begins_with_settings_that_disable_push() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let first = within_timeout(wire.frame()).await.unwrap();
        assert_eq!((first.kind, first.stream), (SETTINGS, 0));
        assert!(
            first
                .payload
                .chunks(6)
                .any(|setting| setting == [0, 2, 0, 0, 0, 0])
        );
        wire.write(PING, 0, 0, b"the ping").await;
        let (mut acknowledged, mut ponged, mut stream) = (false, false, None);
        while !(acknowledged && ponged && stream.is_some()) {
            let frame = within_timeout(wire.frame()).await.unwrap();
            match frame.kind {
                SETTINGS => acknowledged |= frame.flags == ACK && frame.payload.is_empty(),
                PING => ponged |= frame.flags == ACK && frame.payload == b"the ping",
                HEADERS => stream = Some(frame.stream),
                _ => {}
            }
        }
        // Client streams are odd (section 5.1.1).
        assert_eq!(stream, Some(1));
        wire.respond(1, "{}").await;
        wire
    };
    let (response, _wire) = tokio::join!(gateway.raw(get("/")), serve);
    assert_eq!(response.text(), "{}");
}

#[tokio::test]
async fn rfc9113_6_9_1_body_stays_within_the_window_of_the_upstream() {
    let upstream = Http2Upstream::with_settings(&[(INITIAL_WINDOW_SIZE, 3)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let stream = wire.head().await;
        let mut received = Vec::new();
        for (window, expected) in [(2_u32, "abc"), (5, "abcde"), (0, "abcdefghij")] {
            while received.len() < expected.len() {
                let frame = wire.next().await.unwrap();
                assert_eq!(frame.kind, DATA);
                received.extend_from_slice(&frame.payload);
            }
            assert_eq!(received, expected.as_bytes());
            if window > 0 {
                // A PING shows that nothing else was under way.
                wire.write(PING, 0, 0, &[7; 8]).await;
                let next = within_timeout(wire.frame()).await.unwrap();
                assert_eq!((next.kind, next.flags), (PING, ACK), "{next:?}");
                wire.write(WINDOW_UPDATE, 0, stream, &window.to_be_bytes())
                    .await;
            }
        }
        wire.respond(stream, "{}").await;
        wire
    };
    let post = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabcdefghij";
    let (response, _wire) = tokio::join!(gateway.raw(post), serve);
    assert_eq!(response.status(), 200);
}

/// Asserts, by a PING, that only acknowledgements were under way.
pub async fn assert_nothing_else_sent(wire: &mut Http2Wire) {
    wire.write(PING, 0, 0, &[7; 8]).await;
    loop {
        let next = within_timeout(wire.frame()).await.unwrap();
        assert!(
            matches!(next.kind, PING | SETTINGS) && next.flags == ACK,
            "{next:?}"
        );
        if next.kind == PING {
            break;
        }
    }
}

/// Returns the next bytes of a request body, at least `length`.
async fn data(wire: &mut Http2Wire, length: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < length {
        let frame = wire.next().await.unwrap();
        assert_eq!(frame.kind, DATA);
        received.extend_from_slice(&frame.payload);
    }
    received
}

#[tokio::test]
async fn rfc9113_6_5_3_settings_of_the_upstream_apply_in_order_and_at_once() {
    // The second one of a parameter replaces the first one.
    let upstream =
        Http2Upstream::with_settings(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 3)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let stream = wire.head().await;
        let mut received = Vec::new();
        let larger = [[0, 4, 0, 0, 0, 9], [0, 4, 0, 0, 0, 6]];
        for (settings, expected) in [(Some(larger), "abc"), (None, "abcdef")] {
            while received.len() < expected.len() {
                let frame = wire.next().await.unwrap();
                assert_eq!(frame.kind, DATA);
                received.extend_from_slice(&frame.payload);
            }
            assert_eq!(received, expected.as_bytes());
            assert_nothing_else_sent(&mut wire).await;
            if let Some(settings) = settings {
                wire.write(SETTINGS, 0, 0, settings.as_flattened()).await;
            }
        }
        wire.write(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]).await;
        let last = wire.next().await.unwrap();
        assert_eq!(last.payload, b"ghij");
        wire.respond(stream, "{}").await;
        wire
    };
    let post = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabcdefghij";
    let (response, _wire) = tokio::join!(gateway.raw(post), serve);
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn rfc9113_6_8_settings_and_windows_after_goaway_apply_to_its_last_stream() {
    let upstream = Http2Upstream::with_settings(&[(INITIAL_WINDOW_SIZE, 3)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let serve = async {
        let mut wire = upstream.connection().await;
        let stream = wire.head().await;
        assert_eq!(data(&mut wire, 3).await, b"abc");
        // The first SETTINGS are acknowledged.
        assert_nothing_else_sent(&mut wire).await;
        wire.go_away(stream, NO_ERROR).await;
        wire.write(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 6]).await;
        let (mut acknowledged, mut received) = (false, Vec::new());
        while !acknowledged || received.len() < 3 {
            let frame = within_timeout(wire.frame()).await.unwrap();
            match frame.kind {
                DATA => received.extend(frame.payload),
                SETTINGS => acknowledged |= frame.flags == ACK && frame.payload.is_empty(),
                _ => panic!("{frame:?}"),
            }
        }
        assert_eq!(received, b"def");
        assert_nothing_else_sent(&mut wire).await;
        wire.write(WINDOW_UPDATE, 0, stream, &4_u32.to_be_bytes())
            .await;
        assert_eq!(data(&mut wire, 4).await, b"ghij");
        wire.respond(stream, "{}").await;
        wire
    };
    let post = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabcdefghij";
    let (response, _wire) = tokio::join!(gateway.raw(post), serve);
    assert_eq!((response.status(), response.text().as_str()), (200, "{}"));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn rfc9113_6_9_2_nothing_is_sent_until_a_window_below_zero_is_exceeded() {
    const HEAD: &str = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n";
    const BODY: &str = "abcdefghijklmnopqrst";
    // The window is open, or used up while the rest of the body waits for it.
    let windows: [(&[(u16, u32)], usize); 2] = [
        (&[(INITIAL_WINDOW_SIZE, 10)], 8),
        (&[(INITIAL_WINDOW_SIZE, 8)], 20),
    ];
    for (settings, arrived) in windows {
        let upstream = Http2Upstream::with_settings(settings).await;
        let gateway = in_front_of(&upstream).start().await;
        let mut caller = gateway.connect().await;
        caller.write(format!("{HEAD}{}", &BODY[..arrived])).await;
        let mut wire = upstream.connection().await;
        let stream = wire.head().await;
        assert_eq!(data(&mut wire, 8).await, b"abcdefgh");
        // Eight bytes of a window of 3 leave -5.
        wire.write(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 3]).await;
        assert_nothing_else_sent(&mut wire).await;
        caller.write(&BODY[arrived..]).await;
        for (increment, expected) in [(2_u32, ""), (3, ""), (4, "ijkl"), (8, "mnopqrst")] {
            wire.write(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
                .await;
            let sent = data(&mut wire, expected.len()).await;
            assert_eq!(sent, expected.as_bytes());
            assert_nothing_else_sent(&mut wire).await;
        }
        wire.respond(stream, "{}").await;
        assert_eq!(caller.response().await.status(), 200);
    }
}
