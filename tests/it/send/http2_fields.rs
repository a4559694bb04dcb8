//! Field blocks of requests to an HTTP/2 upstream (RFC 9113 section 4.3).

use testkit::http2::{DATA, Frame, HEADERS, Http2Upstream, Http2Wire};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::http2::in_front_of;
use crate::harness::{get_with, within_timeout};

const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// The parameter SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The window of an upload: more than is under way.
const WINDOW: u32 = 1 << 20;

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
