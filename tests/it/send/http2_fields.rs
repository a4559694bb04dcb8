//! Field blocks of requests to an HTTP/2 upstream (RFC 9113 section 4.3).

use testkit::http2::{DATA, Frame, HEADERS, Http2Upstream, Http2Wire, SETTINGS};
use testkit::strict_http2::Decoder;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::http2::in_front_of;
use super::http2_frames::assert_nothing_else_sent;
use crate::harness::{get_with, within_timeout};

const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// The parameter SETTINGS_HEADER_TABLE_SIZE.
const HEADER_TABLE_SIZE: u16 = 1;
/// The parameter SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The window of an upload: more than is under way.
const WINDOW: u32 = 1 << 20;
/// A field that enters the dynamic table.
const SMALL_FIELD: &str = "X-Small: field\r\n";

/// Uploads until the gateway closes the connection.
async fn upload(mut caller: TcpStream) {
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n";
    let piece = vec![b'a'; 16 * 1024];
    let mut written = caller.write_all(head.as_bytes()).await;
    while written.is_ok() {
        written = caller.write_all(&piece).await;
    }
}

/// Returns the next frame. What it uses of a window is returned.
async fn next(wire: &mut Http2Wire) -> Frame {
    let frame = within_timeout(wire.frame()).await.expect("a frame");
    if frame.kind == DATA {
        let increment = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
        for stream in [0, frame.stream] {
            wire.write(WINDOW_UPDATE, 0, stream, &increment).await;
        }
    }
    frame
}

/// Reads a field block and responds to its request. Returns the number of its frames.
async fn serve(wire: &mut Http2Wire) -> usize {
    let head = loop {
        let frame = next(wire).await;
        if frame.kind == HEADERS {
            break frame;
        }
    };
    let (mut frames, mut flags) = (1, head.flags);
    while flags & END_HEADERS == 0 {
        let frame = next(wire).await;
        assert_eq!((frame.kind, frame.stream), (CONTINUATION, head.stream));
        flags = frame.flags;
        frames += 1;
    }
    wire.respond(head.stream, "{}").await;
    frames
}

#[tokio::test]
async fn rfc9113_4_3_field_block_is_sent_without_frames_of_an_upload_in_between() {
    let upstream = Http2Upstream::with_settings(&[(INITIAL_WINDOW_SIZE, WINDOW)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let caller = TcpStream::connect(gateway.address()).await.unwrap();
    let uploading = tokio::spawn(upload(caller));
    let mut wire = upstream.connection().await;
    wire.write(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes()).await;
    wire.head().await;
    // More than two frames, also in Huffman coding.
    let request = get_with("/x", &format!("X-Large: {}\r\n", "z".repeat(40 * 1024)));
    for _ in 0..10 {
        // The upload goes on.
        while next(&mut wire).await.kind != DATA {}
        let (response, frames) = tokio::join!(gateway.raw(&request), serve(&mut wire));
        assert_eq!(response.status(), 200);
        assert!(frames > 2, "{frames}");
    }
    while next(&mut wire).await.kind != DATA {}
    assert_eq!(upstream.connections(), 1);
    uploading.abort();
}

/// Sends SETTINGS_HEADER_TABLE_SIZE.
async fn set_table_size(wire: &mut Http2Wire, size: u32) {
    let setting = [&HEADER_TABLE_SIZE.to_be_bytes()[..], &size.to_be_bytes()].concat();
    wire.write(SETTINGS, 0, 0, &setting).await;
}

/// Returns the field block of the next request, and responds to it.
async fn field_block(wire: &mut Http2Wire) -> Vec<u8> {
    loop {
        let frame = wire.next().await.expect("a request");
        if frame.kind == HEADERS {
            assert_eq!(frame.flags & END_HEADERS, END_HEADERS);
            wire.respond(frame.stream, "{}").await;
            return frame.payload;
        }
    }
}

/// Asserts that a field block is that of [`SMALL_FIELD`].
fn assert_decodes(decoder: &mut Decoder<'_>, mut block: Vec<u8>) {
    let mut fields = Vec::new();
    decoder.decode(&mut block, &mut fields).unwrap();
    let mut fields = fields.into_iter().map(|(name, value, _)| (name, value));
    assert!(fields.any(|field| field == (b"x-small".to_vec(), b"field".to_vec())));
}

/// Returns the size of the dynamic table with which a field block begins (RFC 7541 section 6.3), if
/// it is below 159.
fn size_update(block: &[u8]) -> Option<u32> {
    match *block {
        [first @ 0x20..0x3f, ..] => Some(u32::from(first) - 0x20),
        [0x3f, rest @ 0..0x80, ..] => Some(31 + u32::from(rest)),
        _ => None,
    }
}

#[tokio::test]
async fn rfc9113_4_3_1_field_blocks_stay_within_the_table_size_of_the_upstream() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let request = get_with("/x", SMALL_FIELD);
    let mut decoder = Decoder::default();
    let first = async {
        let mut wire = upstream.connection().await;
        let block = field_block(&mut wire).await;
        (wire, block)
    };
    let (response, (mut wire, block)) = tokio::join!(gateway.raw(&request), first);
    assert_eq!(response.status(), 200);
    assert_decodes(&mut decoder, block);
    // The smallest of the sizes since the last block must be signaled.
    for (sizes, smallest) in [(&[100][..], 100), (&[40, 4096][..], 40), (&[0][..], 0)] {
        for size in sizes {
            set_table_size(&mut wire, *size).await;
            decoder.set_max_dynamic_size(*size);
        }
        assert_nothing_else_sent(&mut wire).await;
        for is_first in [true, false] {
            let (response, block) = tokio::join!(gateway.raw(&request), field_block(&mut wire));
            assert_eq!(response.status(), 200);
            let update = size_update(&block);
            assert!(
                !is_first || update.is_some_and(|size| size <= smallest),
                "{sizes:?}: {update:?}"
            );
            assert_decodes(&mut decoder, block);
        }
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn rfc9113_4_3_1_upstream_without_a_dynamic_table_gets_decodable_field_blocks() {
    let upstream = Http2Upstream::with_settings(&[(HEADER_TABLE_SIZE, 0)]).await;
    let gateway = in_front_of(&upstream).start().await;
    let request = get_with("/x", SMALL_FIELD);
    let mut decoder = Decoder::with_dynamic_size(0);
    let mut wire: Option<Http2Wire> = None;
    for update in [Some(0), None, None] {
        let serve = async {
            let mut wire = match wire.take() {
                Some(wire) => wire,
                None => upstream.connection().await,
            };
            let block = field_block(&mut wire).await;
            (wire, block)
        };
        let (response, (used, block)) = tokio::join!(gateway.raw(&request), serve);
        wire = Some(used);
        assert_eq!(response.status(), 200);
        assert_eq!(size_update(&block), update);
        assert_decodes(&mut decoder, block);
    }
    assert_eq!(upstream.connections(), 1);
}
