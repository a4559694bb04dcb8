//! HTTP/1.0 and HTTP/1.1 from callers: hyper's server with timeouts around it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::body::CallerBody;
use super::connection::{Connection, ConnectionEnd, Directive};
use super::connection_count::ConnectionCount;
use super::stream::Stream;
use crate::config::Limits;
use crate::error::{Failure, Reason, X_PROXY_ERROR};
use citrix_wire::citrix::headers::CITRIX_TRANSACTION_ID;
use citrix_wire::framing_guard::{BodyLength, FramingGuard};
use citrix_wire::transaction_id;

/// Bytes that hyper buffers of a body or head.
const READ_BUFFER: usize = 64 * 1024;
/// Timeout for writing a final response, and for reading what the caller still sends.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// The end of HTTP on a connection.
pub enum Served {
    /// The connection has ended.
    Ended(ConnectionEnd),
    /// A CONNECT request was accepted; what follows belongs to the tunnel.
    Tunnel(Stream),
}

/// The result of running hyper's server.
enum ServerExit {
    Ended(ConnectionEnd),
    /// Behind an accepted CONNECT request, with the bytes that hyper had read.
    Tunnel(Stream, Bytes),
    /// Between two requests, with the bytes that it had read but not parsed.
    Parked(Stream, Bytes),
}

/// Serves one connection until it ends, or until it becomes a tunnel.
///
/// An idle connection is parked: hyper's server is dropped with its buffers and recreated for the
/// next request.
pub async fn serve<H, F, B>(
    mut stream: Stream,
    connection: Rc<Connection>,
    count: &ConnectionCount,
    limits: &Limits,
    handle: H,
) -> Served
where
    H: Fn(Request<CallerBody>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        // Boxed, so that a parked connection does not reserve space for it.
        let unread = match Box::pin(serve_requests(stream, &connection, limits, &handle)).await {
            ServerExit::Ended(end) => return Served::Ended(end),
            ServerExit::Tunnel(mut tunnel, unread) => {
                tunnel.put_back(&unread);
                return Served::Tunnel(tunnel);
            }
            ServerExit::Parked(parked, unread) => {
                connection.buffers_released();
                stream = parked;
                unread
            }
        };
        let idle = count.enter_idle();
        let readable = park(&mut stream, &connection, unread).await;
        drop(idle);
        if !readable {
            Box::pin(stream.close()).await;
            return Served::Ended(ConnectionEnd::Closed);
        }
    }
}

/// Waits for the next request. Returns `false` when the connection must close.
async fn park(stream: &mut Stream, connection: &Connection, unread: Bytes) -> bool {
    stream.put_back(&unread);
    drop(unread);
    poll_fn(|cx| match stream.poll_readable(cx) {
        Poll::Ready(readable) => Poll::Ready(readable.unwrap_or(false)),
        Poll::Pending => match connection.poll_directive(cx) {
            Some(Directive::Drain | Directive::Abort) => Poll::Ready(false),
            // Neither occurs before bytes are read.
            Some(Directive::HeadTimedOut | Directive::HeadRejected | Directive::Park) | None => {
                Poll::Pending
            }
        },
    })
    .await
}

/// Serves requests until the connection ends or is parked.
async fn serve_requests<H, F, B>(
    mut stream: Stream,
    connection: &Rc<Connection>,
    limits: &Limits,
    handle: &H,
) -> ServerExit
where
    H: Fn(Request<CallerBody>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let guard = stream.add_framing_guard();
    let service = service_fn(|mut request: Request<Incoming>| {
        // Before hyper reads on.
        if let Err(fault) = guard.borrow_mut().check_head(length_of(request.body())) {
            request.extensions_mut().insert(fault);
        }
        // Boxed, because hyper would reserve space for it and move it.
        let response = Box::pin(handle(
            request.map(|body| CallerBody::http1(body, &guard, connection)),
        ));
        let guard = Rc::clone(&guard);
        async move { Ok::<_, Infallible>(announce_close(response.await, &guard.borrow())) }
    });
    let mut server = Builder::new()
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(READ_BUFFER.max(limits.max_header_bytes))
        .serve_connection(TokioIo::new(stream), service);
    loop {
        // The server first: a request that has arrived is served whatever the directive.
        let event = poll_fn(|cx| match Pin::new(&mut server).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Ok(ended)),
            Poll::Pending => connection
                .poll_directive(cx)
                .map_or(Poll::Pending, |directive| Poll::Ready(Err(directive))),
        });
        match event.await {
            // hyper has ended as for an upgrade, without closing the connection.
            Ok(Ok(())) if connection.is_tunnel() => {
                let parts = server.into_parts();
                return ServerExit::Tunnel(parts.io.into_inner(), parts.read_buf);
            }
            Ok(Ok(())) => {
                Box::pin(linger(server.into_parts().io.into_inner(), connection)).await;
                return ServerExit::Ended(ConnectionEnd::Closed);
            }
            Err(Directive::Abort) => {
                // Otherwise a response is truncated, and must not look complete.
                if connection.is_idle() {
                    Box::pin(server.into_parts().io.into_inner().close()).await;
                }
                return ServerExit::Ended(ConnectionEnd::Closed);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection of a caller failed");
                if error.is_parse() {
                    // hyper has responded and shut down its side; the caller may still be sending.
                    Box::pin(linger(server.into_parts().io.into_inner(), connection)).await;
                }
                return ServerExit::Ended(ConnectionEnd::Closed);
            }
            Err(Directive::Drain) => Pin::new(&mut server).graceful_shutdown(),
            Err(Directive::Park) if connection.is_idle() && guard.borrow().is_body_complete() => {
                let parts = server.into_parts();
                return ServerExit::Parked(parts.io.into_inner(), parts.read_buf);
            }
            // A request has begun, or the last body has not been read.
            Err(Directive::Park) => {}
            Err(Directive::HeadTimedOut) => {
                let failure = Failure::new(
                    Reason::RequestTimeout,
                    "request head stalled for limits.header_read_timeout",
                );
                reject_head(server.into_parts().io.into_inner(), failure).await;
                return ServerExit::Ended(ConnectionEnd::HeadTimedOut);
            }
            Err(Directive::HeadRejected) => {
                let failure = Failure::overloaded("unfinished request heads use too much memory");
                reject_head(server.into_parts().io.into_inner(), failure).await;
                return ServerExit::Ended(ConnectionEnd::HeadRejected);
            }
        }
    }
}

async fn reject_head(mut stream: Stream, failure: Failure) {
    // The caller may have disconnected.
    let _ = timeout(LINGER_TIMEOUT, write_failure(&mut stream, failure)).await;
}

/// Returns the length of a body as hyper frames it.
fn length_of(body: &Incoming) -> BodyLength {
    body.size_hint()
        .exact()
        .map_or(BodyLength::Chunked, BodyLength::Bytes)
}

/// Ends the connection behind some responses of the gateway: after a 400, what follows may be the
/// rest of that request rather than the next; and hyper closes after a body that it cannot skip,
/// which the caller must know before it sends another request (RFC 9112 section 9.6).
fn announce_close<B>(mut response: Response<B>, guard: &FramingGuard) -> Response<B> {
    let is_bad_request = response.status() == StatusCode::BAD_REQUEST;
    let ends = is_bad_request || !guard.is_rest_skipped();
    if ends && response.headers().contains_key(X_PROXY_ERROR) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads on for a while after a response that was sent before the end of the request.
///
/// Closing a socket with unread bytes resets the connection, and the reset may destroy the response
/// before a caller that is still sending has read it (RFC 9112 section 9.6).
async fn linger(mut stream: Stream, connection: &Connection) {
    // Usually nothing is left: the close ends both sides, and no buffer is needed.
    let mut probe = [0; 1];
    if !matches!(stream.discard(&mut probe).now_or_never(), Some(Ok(1..))) {
        return;
    }
    let drained = async {
        // The caller may have disconnected, which the first read shows.
        let _ = stream.end_writes().await;
        let mut scratch = vec![0; READ_BUFFER];
        while !matches!(stream.discard(&mut scratch).await, Ok(0) | Err(_)) {}
    };
    let mut drained = pin!(timeout(LINGER_TIMEOUT, drained));
    poll_fn(|cx| match connection.poll_directive(cx) {
        Some(Directive::Drain | Directive::HeadTimedOut | Directive::Abort) => Poll::Ready(()),
        Some(Directive::Park | Directive::HeadRejected) | None => {
            drained.as_mut().poll(cx).map(drop)
        }
    })
    .await;
}

/// Writes a response to a connection without a request, and closes it.
///
/// # Errors
/// When writing fails.
pub async fn write_failure<W: AsyncWrite + Unpin>(
    to: &mut W,
    failure: Failure,
) -> std::io::Result<()> {
    let id = transaction_id::generate();
    let reason = failure.reason().as_str();
    let mut response = failure.into_response(&id);
    // At `debug`, so that a flood of connections does not flood the log.
    tracing::debug!(reason, request_id = ?id, "connection rejected");
    response
        .headers_mut()
        .insert(CITRIX_TRANSACTION_ID, id.clone());
    response
        .headers_mut()
        .insert(transaction_id::X_PROXY_REQUEST_ID, id);
    to.write_all(&head_and_body(&response)).await?;
    to.shutdown().await
}

fn head_and_body(response: &Response<Bytes>) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(
        format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            response.body().len()
        )
        .as_bytes(),
    );
    out.extend_from_slice(response.body());
    out
}
