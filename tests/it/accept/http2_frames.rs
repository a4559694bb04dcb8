//! Frames that RFC 9113 forbids end their stream or the connection, as it states; what it says to
//! ignore is ignored.

use crate::harness::{Gateway, OK, Upstream};
use crate::http2_abuse::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, GET, GOAWAY, HEADERS, PING,
    POST, PRIORITY, RST_STREAM, Received, SETTINGS, WINDOW_UPDATE, attack, code, frame, gateway,
};

/// The largest window.
const MAX_WINDOW: u32 = 0x7fff_ffff;

const PUSH_PROMISE: u8 = 5;
const ACK: u8 = 1;
const PADDED: u8 = 8;

const PROTOCOL_ERROR: u32 = 1;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// The end of a stream, or of the connection, with an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stream(u32),
    Connection(u32),
}

use End::{Connection, Stream};

fn opened(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, POST)
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

fn setting(parameter: u16, value: u32) -> Vec<u8> {
    let payload = [&parameter.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn is_end((kind, ..): &Received) -> bool {
    matches!(*kind, RST_STREAM | GOAWAY)
}

/// Returns how the gateway ends the stream or the connection after these frames.
async fn end_after(gateway: &Gateway, frames: &[Vec<u8>]) -> Option<End> {
    let received = attack(gateway, &[], frames.concat(), is_end).await;
    let (kind, _, payload) = received.into_iter().find(is_end)?;
    Some(match kind {
        RST_STREAM => Stream(code(&payload, 0)),
        _ => Connection(code(&payload, 4)),
    })
}

/// Name, frames, and the end that the RFC requires.
type Row = (&'static str, Vec<Vec<u8>>, End);

fn frames_on_the_wrong_stream() -> Vec<Row> {
    let on_zero = |kind, payload: &[u8]| vec![frame(kind, END_HEADERS, 0, payload)];
    let on_one = |kind, payload: &[u8]| vec![request(1), frame(kind, 0, 1, payload)];
    let rows = [
        ("6.1 DATA on 0", vec![frame(DATA, 0, 0, b"x")]),
        ("6.2 HEADERS on 0", on_zero(HEADERS, GET)),
        ("6.3 PRIORITY on 0", on_zero(PRIORITY, &[0; 5])),
        ("6.4 RST_STREAM on 0", on_zero(RST_STREAM, &[0; 4])),
        ("6.5 SETTINGS on 1", on_one(SETTINGS, b"")),
        ("6.7 PING on 1", on_one(PING, &[0; 8])),
        ("6.8 GOAWAY on 1", on_one(GOAWAY, &[0; 8])),
        ("6.10 CONTINUATION on 0", on_zero(CONTINUATION, GET)),
    ];
    rows.into_iter()
        .map(|(name, frames)| (name, frames, Connection(PROTOCOL_ERROR)))
        .collect()
}

fn frames_in_the_wrong_state() -> Vec<Row> {
    let on_idle = |kind, payload: &[u8]| vec![frame(kind, 0, 1, payload)];
    let promise = [&[0, 0, 0, 2][..], GET].concat();
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &promise);
    let of_connection = Connection(PROTOCOL_ERROR);
    vec![
        ("5.1 DATA when idle", on_idle(DATA, b"x"), of_connection),
        (
            "5.1 WINDOW_UPDATE when idle",
            on_idle(WINDOW_UPDATE, &[0, 0, 0, 1]),
            of_connection,
        ),
        (
            "6.4 RST_STREAM when idle",
            on_idle(RST_STREAM, &[0; 4]),
            of_connection,
        ),
        ("5.1.1 even stream", vec![request(2)], of_connection),
        (
            "5.1.1 lower stream",
            vec![request(5), request(3)],
            of_connection,
        ),
        (
            "5.1 DATA after END_STREAM",
            vec![request(1), frame(DATA, 0, 1, b"x")],
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1 HEADERS after END_STREAM",
            vec![request(1), request(1)],
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1 HEADERS after RST_STREAM",
            vec![opened(1), frame(RST_STREAM, 0, 1, &[0; 4]), request(1)],
            Stream(STREAM_CLOSED),
        ),
        (
            "8.1 HEADERS instead of trailers",
            vec![opened(1), request(1)],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "8.4 PUSH_PROMISE of a client",
            vec![opened(1), promise],
            of_connection,
        ),
    ]
}

fn frames_of_the_wrong_size() -> Vec<Row> {
    let alone = |kind, stream, payload: &[u8]| vec![frame(kind, 0, stream, payload)];
    let padded = |kind| frame(kind, PADDED | END_HEADERS, 1, &[5, 0x82, 0, 0, 0]);
    vec![
        (
            "4.2 DATA above the maximum",
            vec![opened(1), frame(DATA, 0, 1, &[0; 16_385])],
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.3 PRIORITY of 4 bytes",
            alone(PRIORITY, 1, &[0; 4]),
            Stream(FRAME_SIZE_ERROR),
        ),
        (
            "6.4 RST_STREAM of 3 bytes",
            vec![opened(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5 SETTINGS of 5 bytes",
            alone(SETTINGS, 0, &[0; 5]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5 SETTINGS ACK of 6 bytes",
            vec![frame(SETTINGS, ACK, 0, &[0; 6])],
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.7 PING of 7 bytes",
            alone(PING, 0, &[0; 7]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.9 WINDOW_UPDATE of 3 bytes",
            alone(WINDOW_UPDATE, 0, &[0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.1 DATA with too much padding",
            vec![opened(1), padded(DATA)],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2 HEADERS with too much padding",
            vec![padded(HEADERS)],
            Connection(PROTOCOL_ERROR),
        ),
    ]
}

fn invalid_settings_and_windows() -> Vec<Row> {
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    vec![
        (
            "6.5.2 ENABLE_PUSH of 2",
            vec![setting(2, 2)],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5.2 INITIAL_WINDOW_SIZE of 2^31",
            vec![setting(4, MAX_WINDOW + 1)],
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.5.2 MAX_FRAME_SIZE of 16383",
            vec![setting(5, 16_383)],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5.2 MAX_FRAME_SIZE of 2^24",
            vec![setting(5, 1 << 24)],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.9 increment of 0 for the connection",
            vec![update(0, 0)],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.9 increment of 0 for a stream",
            vec![opened(1), update(1, 0)],
            Stream(PROTOCOL_ERROR),
        ),
        (
            "6.9.1 window of a stream above 2^31 - 1",
            vec![opened(1), update(1, MAX_WINDOW)],
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2 window above 2^31 - 1 by SETTINGS",
            vec![
                opened(1),
                update(1, MAX_WINDOW - 65_535),
                setting(4, 65_536),
            ],
            Connection(FLOW_CONTROL_ERROR),
        ),
    ]
}

fn invalid_header_blocks() -> Vec<Row> {
    let begun = || frame(HEADERS, END_STREAM, 1, GET);
    vec![
        (
            "4.3 index without a field",
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                b"\x82\x86\x84\xfe",
            )],
            Connection(COMPRESSION_ERROR),
        ),
        (
            "4.3 truncated string",
            vec![frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                b"\x82\x86\x84\x41\x7f",
            )],
            Connection(COMPRESSION_ERROR),
        ),
        (
            "6.2 PING in a header block",
            vec![begun(), frame(PING, 0, 0, &[0; 8])],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2 DATA in a header block",
            vec![begun(), frame(DATA, 0, 1, b"x")],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10 CONTINUATION of another stream",
            vec![begun(), frame(CONTINUATION, END_HEADERS, 3, b"")],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.5 unknown frame in a header block",
            vec![begun(), frame(0x42, 0, 1, b"")],
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10 CONTINUATION without HEADERS",
            vec![request(1), frame(CONTINUATION, END_HEADERS, 1, b"")],
            Connection(PROTOCOL_ERROR),
        ),
    ]
}

#[tokio::test]
async fn rfc9113_6_forbidden_frames_end_the_stream_or_the_connection() {
    // Never responds, so that its streams remain open.
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut wrong = Vec::new();
    for rows in [
        frames_on_the_wrong_stream(),
        frames_in_the_wrong_state(),
        frames_of_the_wrong_size(),
        invalid_settings_and_windows(),
        invalid_header_blocks(),
    ] {
        for (name, frames, expected) in rows {
            let end = end_after(&gateway, &frames).await;
            // A generic code may stand for another, and an error of a stream may end the connection
            // (section 5.4). But a stream that has ended is not reset as if it were malformed.
            let is_right = match (end, expected) {
                (Some(Stream(code)), Stream(STREAM_CLOSED)) => code == STREAM_CLOSED,
                (Some(Stream(code)), Stream(exact))
                | (Some(Connection(code)), Stream(exact) | Connection(exact)) => {
                    code == exact || code == PROTOCOL_ERROR
                }
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{name}: {end:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn rfc9113_5_5_what_is_unknown_is_ignored() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for (name, frames) in [
        (
            "4.1 frame type",
            vec![frame(0x42, 0xff, 0, b"x"), frame(0x42, 0, 1, b"x")],
        ),
        (
            "4.1 flags",
            vec![frame(PING, 0xfe, 0, &[0; 8]), frame(SETTINGS, 0xfe, 0, b"")],
        ),
        (
            "4.1 reserved bit",
            vec![frame(WINDOW_UPDATE, 0, 1 << 31, &[0, 0, 0, 1])],
        ),
        ("6.5.2 setting", vec![setting(0x4242, 7)]),
        (
            "7 error code",
            vec![request(1), frame(RST_STREAM, 0, 1, &[0xff; 4])],
        ),
        ("6.7 PING ACK", vec![frame(PING, ACK, 0, &[0; 8])]),
        (
            "6.9 window update of a closed stream",
            vec![
                request(1),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            ],
        ),
        (
            "5.1 priority of a closed stream",
            vec![request(3), frame(PRIORITY, 0, 1, &[0; 5])],
        ),
    ] {
        let last = frame(PING, 0, 0, b"the last");
        let is_ack = |(kind, _, payload): &Received| *kind == PING && payload == b"the last";
        let received = attack(&gateway, &[], [frames.concat(), last].concat(), is_ack).await;
        assert!(received.iter().any(is_ack), "{name}: {received:?}");
        assert!(!received.iter().any(is_end), "{name}: {received:?}");
        // Only PING frames that are no responses are acknowledged.
        let pings = received.iter().filter(|(kind, ..)| *kind == PING).count();
        let expected = if name == "4.1 flags" { 2 } else { 1 };
        assert_eq!(pings, expected, "{name}");
    }
}

#[tokio::test]
async fn rfc9113_6_5_2_settings_of_the_gateway_are_within_their_ranges() {
    let (gateway, _upstream) = gateway("").await;
    let ping = frame(PING, 0, 0, &[0; 8]);
    let is_ack = |(kind, ..): &Received| *kind == PING;
    let received = attack(&gateway, &[], ping, is_ack).await;
    let (kind, stream, payload) = &received[0];
    assert_eq!((*kind, *stream), (SETTINGS, 0));
    for setting in payload.chunks(6) {
        let value = code(setting, 2);
        let is_valid = match setting[1] {
            // ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE.
            2 => value == 0,
            4 => value <= MAX_WINDOW,
            5 => (16_384..1 << 24).contains(&value),
            _ => true,
        };
        assert!(is_valid, "{setting:?}");
    }
}
