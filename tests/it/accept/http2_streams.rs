//! Streams of callers after their end (RFC 9113 sections 5.1 and 5.4.2).

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::harness::{Gateway, Upstream, within_timeout};
use crate::http2_abuse::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, PING, RST_STREAM, Received, SETTINGS,
    WINDOW_UPDATE, frame, next,
};

/// The window of a stream and of the connection unless a peer changes it.
const INITIAL_WINDOW: usize = 65_535;
/// More than the windows and the gateway's buffers.
const LENGTH: usize = 300_000;
const CANCEL: u32 = 8;

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, GET)
}

/// Returns the frames up to the one that satisfies `is_last`.
async fn frames_until(
    from: &mut OwnedReadHalf,
    mut is_last: impl FnMut(&Received) -> bool,
) -> Vec<Received> {
    let mut frames = Vec::new();
    loop {
        let frame = within_timeout(next(from)).await.expect("a frame");
        let last = is_last(&frame);
        frames.push(frame);
        if last {
            return frames;
        }
    }
}

/// Returns the frames up to the one that fills the initial window of a stream.
async fn fill_window(from: &mut OwnedReadHalf, stream: u32) -> Vec<Received> {
    let mut received = 0;
    frames_until(from, |(kind, on, payload)| {
        if (*kind, *on) == (DATA, stream) {
            received += payload.len();
        }
        received >= INITIAL_WINDOW
    })
    .await
}

#[tokio::test]
async fn rfc9113_5_1_nothing_is_sent_on_a_stream_that_the_caller_has_reset() {
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n{}",
        "x".repeat(LENGTH)
    );
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let is_ack = |(kind, ..): &Received| *kind == PING;
    let window = |stream| frame(WINDOW_UPDATE, 0, stream, &(1_u32 << 20).to_be_bytes());
    let reset = frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    let ping = frame(PING, 0, 0, &[0; 8]);
    // The rest of the response waits for a window, or is about to be sent.
    for is_about_to_be_sent in [false, true] {
        let socket = TcpStream::connect(gateway.address()).await.unwrap();
        let (mut from, mut to) = socket.into_split();
        let opening = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &frame(SETTINGS, 0, 0, &[])[..],
            &request(1),
        ]
        .concat();
        to.write_all(&opening).await.unwrap();
        fill_window(&mut from, 1).await;
        let frames = if is_about_to_be_sent {
            [window(0), window(1), reset.clone(), ping.clone()]
        } else {
            [reset.clone(), window(0), window(1), ping.clone()]
        };
        to.write_all(&frames.concat()).await.unwrap();
        let before_ack = frames_until(&mut from, is_ack).await;
        // The connection has a window, and serves another stream.
        to.write_all(&request(3)).await.unwrap();
        let after_ack = fill_window(&mut from, 3).await;
        let is_on_reset = |(_, stream, _): &Received| *stream == 1;
        assert!(!after_ack.iter().any(is_on_reset), "{is_about_to_be_sent}");
        // Only what was sent before the reset arrived, and no reset in response (section 5.4.2).
        let mut early = before_ack.iter().filter(|frame| is_on_reset(frame));
        assert!(early.all(|(kind, ..)| is_about_to_be_sent && *kind == DATA));
    }
}
