//! RFC 9113 section 8.1: malformed trailers of a request are a stream error.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Gateway, OK, Upstream, within_timeout};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// POST, http, / and `:authority: localhost`; the last is added to the dynamic table.
const POST: &[u8] = b"\x83\x86\x84\x41\x09localhost";

pub(super) fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Sends a request with these trailers in two writes, split at `split` bytes from the end. Returns
/// `Ok` with the status as HPACK encodes it, or the error code of the stream or connection.
async fn outcome(gateway: &Gateway, trailers: &[Vec<u8>], split: usize) -> Result<u8, u32> {
    let frames = [
        frame(HEADERS, END_HEADERS, 1, POST),
        frame(0, 0, 1, b"body"),
        trailers.concat(),
    ];
    first_outcome(gateway, &frames.concat(), split).await
}

/// Sends frames in two writes, split at `split` bytes from the end. Returns the first outcome.
pub(super) async fn first_outcome(
    gateway: &Gateway,
    frames: &[u8],
    split: usize,
) -> Result<u8, u32> {
    let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let bytes = [PREFACE, frames].concat();
    let (first, second) = bytes.split_at(bytes.len() - split);
    socket.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    socket.write_all(second).await.unwrap();
    loop {
        let mut head = [0; 9];
        within_timeout(socket.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        within_timeout(socket.read_exact(&mut payload))
            .await
            .unwrap();
        match head[3] {
            HEADERS => return Ok(payload[0]),
            RST_STREAM => return Err(u32::from_be_bytes(payload[..4].try_into().unwrap())),
            GOAWAY => return Err(u32::from_be_bytes(payload[4..8].try_into().unwrap())),
            _ => {}
        }
    }
}

fn single(block: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, block)]
}

#[tokio::test]
async fn rfc9113_8_1_malformed_trailers_reset_the_stream() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let malformed: [Vec<Vec<u8>>; 9] = [
        // `:path: /` from the static table, alone and before and after another field.
        single(b"\x84"),
        single(b"\x84\x00\x03x-a\x01b"),
        single(b"\x00\x03x-a\x01b\x84"),
        // `:authority: localhost` from the dynamic table.
        single(b"\xbe"),
        // `:path` by name, never indexed.
        single(b"\x10\x05:path\x02/x"),
        // Uppercase; a connection-specific field.
        single(b"\x00\x03X-A\x01b"),
        single(b"\x00\x0aconnection\x05close"),
        vec![frame(
            HEADERS,
            END_STREAM | END_HEADERS | PADDED,
            1,
            b"\x01\x84\0",
        )],
        vec![
            frame(HEADERS, END_STREAM, 1, b"\x00\x03x-a\x01b"),
            frame(CONTINUATION, END_HEADERS, 1, b"\x84"),
        ],
    ];
    for trailers in malformed {
        for split in [0, 1, 5] {
            let outcome = outcome(&gateway, &trailers, split).await;
            // PROTOCOL_ERROR; `h2` takes an uppercase name for COMPRESSION_ERROR.
            let is_error = matches!(outcome, Err(1 | 9));
            assert!(is_error, "{trailers:?}, {split}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn valid_trailers_are_accepted() {
    /// `:status: 200` from the static table.
    const STATUS_200: u8 = 0x88;
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for block in [
        &b""[..],
        b"\x00\x03x-a\x01b",
        b"\x40\x03x-a\x01b",
        b"\x20\x3f\xe1\x1f\x00\x03x-a\x01b",
    ] {
        for split in [0, 1, 5, 12] {
            let outcome = outcome(&gateway, &single(block), split).await;
            assert_eq!(outcome, Ok(STATUS_200), "{block:?}, {split}");
            let request = upstream.request().await;
            let framed = String::from_utf8_lossy(&request.framed).into_owned();
            assert!(!framed.contains("host:"), "{framed}");
        }
    }
}
