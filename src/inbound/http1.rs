//! HTTP/1.0 and HTTP/1.1 from callers: hyper's server, with our clocks around it.

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
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::body::CallerBody;
use super::connection::{Connection, Directive};
use super::connection_count::ConnectionCount;
use super::stream::Stream;
use crate::config::Limits;
use crate::error::{Failure, Reason, X_PROXY_ERROR};
use citrix_wire::citrix::headers::CITRIX_TRANSACTION_ID;
use citrix_wire::framing_guard::BodyLength;
use citrix_wire::transaction_id;

/// hyper reads at most this much of a body ahead of who takes it.
const READ_BUFFER: usize = 64 * 1024;
/// How long a connection is kept to tell a caller why it ends: to write that, or to read what he still sends.
const LINGER: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With its last exchange, or for being idle.
    Served,
    /// With a 408 for a request head that stalled.
    HeadStalled,
}

/// What became of hyper's server of a connection.
enum Left {
    /// The connection ended.
    Ended(Ended),
    /// It was taken down between two requests; this it had read, but not looked at.
    Resting(Stream, Bytes),
}

/// Serves one connection until it ends.
///
/// A connection on which nothing happens rests: hyper's server is taken down, with all its buffers, and another one
/// is set up when the next request comes.
pub async fn serve<H, F, B>(
    mut stream: Stream,
    connection: Rc<Connection>,
    count: &ConnectionCount,
    limits: &Limits,
    handle: H,
) -> Ended
where
    H: Fn(Request<CallerBody>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        // Boxed: who rests shall not keep room for it.
        let unread = match Box::pin(serve_requests(stream, &connection, limits, &handle)).await {
            Left::Ended(ended) => return ended,
            Left::Resting(resting, unread) => {
                stream = resting;
                unread
            }
        };
        let idle = count.enter_idle();
        let readable = rest(&mut stream, &connection, unread).await;
        drop(idle);
        if !readable {
            return Ended::Served;
        }
    }
}

/// Waits for the next request; `false` when none is to be served.
async fn rest(stream: &mut Stream, connection: &Connection, unread: Bytes) -> bool {
    stream.put_back(&unread);
    drop(unread);
    poll_fn(|cx| match stream.poll_readable(cx) {
        Poll::Ready(readable) => Poll::Ready(readable.unwrap_or(false)),
        Poll::Pending => match connection.poll_directive(cx) {
            Some(Directive::Drain | Directive::Abort) => Poll::Ready(false),
            // Neither comes before there is something to read.
            Some(Directive::HeadTimedOut | Directive::Park) | None => Poll::Pending,
        },
    })
    .await
}

/// Serves requests until the connection ends or has nothing to do.
async fn serve_requests<H, F, B>(
    mut stream: Stream,
    connection: &Rc<Connection>,
    limits: &Limits,
    handle: &H,
) -> Left
where
    H: Fn(Request<CallerBody>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let heads = stream.watch_heads();
    let service = service_fn(|mut request: Request<Incoming>| {
        // At once, before hyper reads on.
        if let Err(fault) = heads.borrow_mut().check_head(length_of(request.body())) {
            request.extensions_mut().insert(fault);
        }
        // Boxed: hyper would keep room for it as long as the connection lives, and move it about.
        let answer = Box::pin(handle(
            request.map(|body| CallerBody::http1(body, &heads, connection)),
        ));
        async { Ok::<_, Infallible>(close_after_refusal(answer.await)) }
    });
    let mut server = Builder::new()
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(READ_BUFFER.max(limits.max_header_bytes))
        .serve_connection(TokioIo::new(stream), service);
    loop {
        // The server first: a request that has arrived already is answered whatever the order says.
        let event = poll_fn(|cx| match Pin::new(&mut server).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Ok(ended)),
            Poll::Pending => connection
                .poll_directive(cx)
                .map_or(Poll::Pending, |order| Poll::Ready(Err(order))),
        });
        match event.await {
            Ok(Ok(())) => {
                Box::pin(linger(server.into_parts().io.into_inner(), connection)).await;
                return Left::Ended(Ended::Served);
            }
            Err(Directive::Abort) => return Left::Ended(Ended::Served),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a caller's connection ended badly");
                if error.is_parse() {
                    // hyper has answered and shut our side down; the caller may still be sending.
                    Box::pin(linger(server.into_parts().io.into_inner(), connection)).await;
                }
                return Left::Ended(Ended::Served);
            }
            Err(Directive::Drain) => Pin::new(&mut server).graceful_shutdown(),
            Err(Directive::Park) if connection.is_idle() && heads.borrow().is_body_complete() => {
                let parts = server.into_parts();
                return Left::Resting(parts.io.into_inner(), parts.read_buf);
            }
            // A request came in the meantime, or the last one's body has not been read.
            Err(Directive::Park) => {}
            Err(Directive::HeadTimedOut) => {
                let mut stream = server.into_parts().io.into_inner();
                let failure = Failure::new(Reason::RequestTimeout, "the request head stalled");
                // The caller may be gone or not read; there is nobody else to tell.
                let _ = timeout(LINGER, write_failure(&mut stream, failure)).await;
                return Left::Ended(Ended::HeadStalled);
            }
        }
    }
}

/// The length of a body as hyper frames it.
fn length_of(body: &Incoming) -> BodyLength {
    body.size_hint()
        .exact()
        .map_or(BodyLength::Chunked, BodyLength::Bytes)
}

/// Ends the connection with an answer of ours that calls the request bad: what follows on it may be the rest of that
/// request, or somebody else's idea of the next.
fn close_after_refusal<B>(mut response: Response<B>) -> Response<B> {
    if response.status() == StatusCode::BAD_REQUEST
        && response.headers().contains_key(X_PROXY_ERROR)
    {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads on for a while after an answer that did not wait for the request's end.
///
/// To close a socket with bytes unread resets the connection, and the reset may take the answer away from a
/// caller that is still sending (RFC 9112 section 9.6). hyper has shut our side down already.
async fn linger(mut stream: Stream, connection: &Connection) {
    stream.unwatch();
    // Seldom is anything left, and then no buffer is needed.
    let mut probe = [0; 1];
    if !matches!(stream.read(&mut probe).now_or_never(), Some(Ok(1))) {
        return;
    }
    let drained = async {
        let mut scratch = vec![0; READ_BUFFER];
        while !matches!(stream.read(&mut scratch).await, Ok(0) | Err(_)) {}
    };
    let mut drained = pin!(timeout(LINGER, drained));
    poll_fn(|cx| match connection.poll_directive(cx) {
        Some(Directive::Drain | Directive::HeadTimedOut | Directive::Abort) => Poll::Ready(()),
        Some(Directive::Park) | None => drained.as_mut().poll(cx).map(drop),
    })
    .await;
}

/// Writes a failure to a connection on which hyper has no request to answer, and closes it.
///
/// # Errors
/// Those of writing.
pub async fn write_failure<W: AsyncWrite + Unpin>(
    to: &mut W,
    failure: Failure,
) -> std::io::Result<()> {
    let id = transaction_id::generate();
    let reason = failure.reason().as_str();
    let mut response = failure.into_response(&id);
    // Not at a higher level: whoever floods the door must not flood the log.
    tracing::debug!(reason, request_id = ?id, "refused before there was a request");
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
