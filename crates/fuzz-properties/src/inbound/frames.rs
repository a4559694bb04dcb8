//! The frames of an HTTP/2 connection, read by the gateway, by `h2` and by a strict reference.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use citrix_auth_proxy::inbound::http2;
use h2::RecvStream;
use http::Response;
use http_body::{Body, Frame};
use testkit::strict_http2::{self, StrictStream};
use tokio::task::spawn_local;

use super::{
    CONFIG, ReadRequest, agrees, assert_same_fields, assert_same_trailers, converse, serve,
    with_stream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Empty SETTINGS.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// Stream windows, as the gateway's.
const WINDOW: u32 = 65_535;
const MAX_STREAMS: u32 = 100;

/// Checks a connection: what the gateway accepts of its frames, `h2` and a strict reader read as well;
/// every stream ends, and so does the connection. The number of bytes that arrive at once has no
/// effect.
///
/// The first byte is the number of bytes that arrive at once. Each frame follows as its type, flags,
/// stream and length in one byte each, and its payload. A type above 31 is raw: that many bytes.
pub fn inbound_frames(input: &[u8]) {
    let Some((size, input)) = input.split_first() else {
        return;
    };
    let frames = frames(input);
    let bytes = [PREFACE, &SETTINGS, &frames].concat();
    let ours = read_ours(&bytes, usize::MAX);
    let in_pieces = read_ours(&bytes, usize::from(*size) + 1);
    let strict = strict_http2::read(&frames);
    for read in [&ours, &in_pieces] {
        let mut rest = strict.iter();
        for request in read.iter().filter(|request| request.is_accepted()) {
            let same = rest.find(|strict| is_same(request, strict));
            assert!(same.is_some(), "{request:?} is not among {strict:?}");
        }
    }
    let (h2s, failed) = read_h2s(&bytes);
    // The gateway does not begin requests that are reset by then.
    let mut rest = h2s.iter();
    for request in &ours {
        // `h2` may fail before it returns a request.
        let found = rest.any(|other| agrees(request, other)) || failed;
        assert!(found, "{request:?} is not among {h2s:?}");
    }
}

/// Returns the frames that the input describes.
fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    while let Some((&kind, rest)) = input.split_first() {
        if kind > 31 {
            let (raw, rest) = rest.split_at(rest.len().min(usize::from(kind)));
            frames.extend_from_slice(raw);
            input = rest;
            continue;
        }
        let Some((&[flags, stream, length], rest)) = rest.split_first_chunk() else {
            break;
        };
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(length)));
        let length = u8::try_from(payload.len()).unwrap_or(length);
        frames.extend_from_slice(&[0, 0, length, kind, flags, 0, 0, 0, stream]);
        frames.extend_from_slice(payload);
        input = rest;
    }
    frames
}

/// Returns `true` if the reference read the same request.
fn is_same(ours: &ReadRequest, strict: &StrictStream) -> bool {
    let text = |part: Option<&str>| part.unwrap_or_default().as_bytes().to_vec();
    let path = ours
        .uri
        .path_and_query()
        .map(http::uri::PathAndQuery::as_str);
    let authority = ours.uri.authority().map(http::uri::Authority::as_str);
    let is_same = strict.is_complete
        && ours.method.as_str().as_bytes() == strict.method
        && text(ours.uri.scheme_str()) == strict.scheme.to_ascii_lowercase()
        && text(path) == strict.path
        && text(authority) == strict.authority.clone().unwrap_or_default()
        && ours.content.data == strict.content;
    if is_same {
        assert_same_fields(&ours.fields, &strict.fields);
        assert_same_trailers(ours.content.trailers.as_ref(), &strict.trailers);
    }
    is_same
}

fn read_ours(bytes: &[u8], size: usize) -> Vec<ReadRequest> {
    let read = converse(bytes, size, |socket, log| {
        with_stream(socket, |stream, connection| async move {
            connection.set_http2();
            let handle = {
                let connection = Rc::clone(&connection);
                move |request| serve(request, log.clone(), Rc::clone(&connection))
            };
            http2::serve(stream, connection, &CONFIG.live.limits, handle).await;
        })
    });
    read.0
}

/// Returns the requests, and `true` if the connection ended with an error.
fn read_h2s(bytes: &[u8]) -> (Vec<ReadRequest>, bool) {
    let failed = Rc::new(Cell::new(false));
    let header_bytes = CONFIG.live.limits.max_header_bytes;
    let read = converse(bytes, usize::MAX, async |socket, log| {
        let handshake = h2::server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(MAX_STREAMS * WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .handshake::<_, Bytes>(socket);
        let Ok(mut connection) = handshake.await else {
            return failed.set(true);
        };
        while let Some(accepted) = connection.accept().await {
            let Ok((request, mut respond)) = accepted else {
                return failed.set(true);
            };
            let (head, body) = request.into_parts();
            let at = log.begin(&head);
            let log = log.clone();
            spawn_local(async move {
                let _open = log.open(None);
                log.read(at, Received(body)).await;
                // The client may have reset the stream.
                let _ = respond.send_response(Response::new(()), true);
            });
        }
    });
    (read.0, failed.get())
}

/// A request body as `h2` reads it.
struct Received(RecvStream);

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
