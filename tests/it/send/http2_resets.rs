//! What arrives on streams to an upstream after the gateway has reset them (RFC 9113 sections 5.1
//! and 6.9).

use testkit::http2::{DATA, END_STREAM, HEADERS, Http2Upstream, Http2Wire, RST_STREAM, SETTINGS};

use super::http2::in_front_of;
use crate::harness::{get, within_timeout};

const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
/// The window of a stream and of the connection unless a peer changes it.
const INITIAL_WINDOW: usize = 65_535;
/// The frame size that every peer accepts.
const MAX_FRAME: usize = 16 * 1024;

/// An upstream that uses the windows of the gateway up, but never exceeds them.
struct GreedyUpstream {
    wire: Http2Wire,
    /// The initial window of each stream.
    stream_window: usize,
    /// What is left of the window of the connection.
    connection_window: usize,
}

fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes.try_into().unwrap()) as usize
}

impl GreedyUpstream {
    fn new(wire: Http2Wire) -> Self {
        Self {
            wire,
            stream_window: INITIAL_WINDOW,
            connection_window: INITIAL_WINDOW,
        }
    }

    /// Reads a frame. Returns its kind and stream.
    async fn frame(&mut self) -> (u8, u32) {
        let frame = within_timeout(self.wire.frame()).await.expect("a frame");
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => {
                for setting in frame.payload.chunks(6) {
                    // SETTINGS_INITIAL_WINDOW_SIZE.
                    if setting[..2] == [0, 4] {
                        self.stream_window = number(&setting[2..]);
                    }
                }
                self.wire.write(SETTINGS, ACK, 0, &[]).await;
            }
            WINDOW_UPDATE if frame.stream == 0 => self.connection_window += number(&frame.payload),
            _ => {}
        }
        (frame.kind, frame.stream)
    }

    /// Reads the head of the next request and returns its stream.
    async fn head(&mut self) -> u32 {
        loop {
            if let (HEADERS, stream) = self.frame().await {
                return stream;
            }
        }
    }

    /// Sends a response that fills the window of its stream, as the window of the connection
    /// permits.
    async fn respond(&mut self, stream: u32) {
        self.wire
            .write_fields(stream, &[(":status", "200")], 0)
            .await;
        let body = vec![b'x'; self.stream_window];
        for piece in body.chunks(MAX_FRAME) {
            while self.connection_window < piece.len() {
                self.frame().await;
            }
            self.wire.write(DATA, 0, stream, piece).await;
            self.connection_window -= piece.len();
        }
        self.wire.write(DATA, END_STREAM, stream, b"").await;
    }
}

#[tokio::test]
async fn rfc9113_6_9_data_on_reset_streams_leaves_the_connection_its_window() {
    let upstream = Http2Upstream::start().await;
    let gateway = in_front_of(&upstream).start().await;
    let mut caller = gateway.connect().await;
    caller.write(get("/")).await;
    let mut greedy = GreedyUpstream::new(upstream.connection().await);
    let mut stream = greedy.head().await;
    let (announced, mut sent) = (greedy.connection_window, 0);
    // More than the first window of the connection: it was enlarged meanwhile.
    while sent <= announced {
        drop(caller);
        while greedy.frame().await != (RST_STREAM, stream) {}
        greedy.respond(stream).await;
        sent += greedy.stream_window;
        caller = gateway.connect().await;
        caller.write(get("/")).await;
        stream = greedy.head().await;
    }
    let (response, ()) = tokio::join!(caller.response(), greedy.respond(stream));
    assert_eq!(response.status(), 200);
    assert!(response.complete);
    assert_eq!(response.body.len(), greedy.stream_window);
    assert_eq!(upstream.connections(), 1);
}
