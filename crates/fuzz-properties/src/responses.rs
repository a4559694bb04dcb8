//! Responses of upstreams over HTTP/1.1, read by the gateway and by hyper's client.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use citrix_auth_proxy::inbound::body::CallerBody;
use citrix_auth_proxy::upstream::http1::Connection;
use citrix_wire::response_framing;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::content::{Content, End};

/// Above every bound of the gateway.
const HYPER_LIMIT: usize = 1024 * 1024;
const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];

/// Checks a response: what the gateway reads of it, hyper's client reads as well; where their
/// readings differ, the gateway rejects it. The number of bytes that arrive at once has no effect.
///
/// The first byte is the method and, in its highest bit, whether the upstream closes at the end; the
/// second is the number of bytes that arrive at once.
pub fn upstream_response(input: &[u8]) {
    let [first, size, bytes @ ..] = input else {
        return;
    };
    let method = METHODS[usize::from(first & 0x7F) % METHODS.len()];
    let peer = |size: usize| Peer {
        rest: bytes.to_vec().into(),
        size: size.max(1),
        closes: first & 0x80 != 0,
        requested: false,
        reader: Waker::noop().clone(),
    };
    let ours = read_ours(peer(usize::MAX), method);
    let in_pieces = read_ours(peer(usize::from(*size)), method);
    assert_eq!(ours.summary(), in_pieces.summary(), "pieces of {size}");
    let hypers = read_hypers(peer(usize::MAX), method);
    compare(&ours, &hypers);
}

fn compare(ours: &Reading, hypers: &Reading) {
    if ours.head.is_none() {
        return;
    }
    let mut head = hypers.head.clone();
    if let Some((.., headers)) = &mut head {
        // The gateway leaves one of equal lengths.
        response_framing::normalize(headers).expect("the gateway rejects such lengths");
    }
    assert_eq!(ours.head, head);
    let (content, other) = (&ours.content, &hypers.content);
    match content.end {
        End::Error => assert!(other.data.starts_with(&content.data)),
        // The gateway may wait for a line end where hyper rejects the line.
        End::Pending => {
            assert_ne!(other.end, End::Complete);
            assert_eq!(content.data, other.data);
        }
        End::Complete => assert_eq!(content, other),
    }
    assert!(hypers.reusable || !ours.reusable);
}

/// A response as it is read.
#[derive(Debug, Default)]
struct Reading {
    head: Option<(StatusCode, Version, Option<Bytes>, HeaderMap)>,
    content: Content,
    /// The connection may carry another request.
    reusable: bool,
}

impl Reading {
    fn begin<B>(&mut self, response: &Response<B>) {
        let reason = response.extensions().get::<ReasonPhrase>();
        self.head = Some((
            response.status(),
            response.version(),
            reason.map(|reason| Bytes::copy_from_slice(reason.as_bytes())),
            response.headers().clone(),
        ));
    }

    /// Returns what does not depend on the sizes of pieces: content before an error may be less.
    fn summary(&self) -> impl PartialEq + std::fmt::Debug {
        let Content {
            data,
            trailers,
            end,
        } = &self.content;
        let data = (*end != End::Error).then_some(data);
        // Bytes after the response may arrive later.
        (&self.head, data, trailers, end)
    }
}

fn read_ours(peer: Peer, method: &str) -> Reading {
    let mut reading = Reading::default();
    let mut connection = Connection::new(peer);
    let (head, body) = request(method, CallerBody::empty()).into_parts();
    connection.begin(&mut head.into(), body, false);
    run(async {
        match poll_fn(|cx| connection.poll_response(cx)).await {
            Ok(response) => reading.begin(&response),
            Err(_) => return reading.content.end = End::Error,
        }
        while reading
            .content
            .add(poll_fn(|cx| connection.poll_frame(cx)).await)
        {}
        let silent = poll_fn(|cx| Poll::Ready(connection.is_silent(cx))).await;
        reading.reusable =
            reading.content.end == End::Complete && silent && connection.is_reusable();
    });
    reading
}

fn read_hypers(peer: Peer, method: &str) -> Reading {
    let mut reading = Reading::default();
    run(async {
        let handshake = Builder::new()
            .max_buf_size(HYPER_LIMIT)
            .max_header_size(HYPER_LIMIT)
            .handshake(TokioIo::new(peer));
        let (mut sender, connection) = handshake.await.expect("no I/O yet");
        let mut connection = pin!(connection);
        let mut ended = false;
        {
            let exchange = async {
                let sent = sender.send_request(request(method, Empty::<Bytes>::new()));
                let Ok(response) = sent.await else {
                    return reading.content.end = End::Error;
                };
                reading.begin(&response);
                let mut body = response.into_body();
                while reading
                    .content
                    .add(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await)
                {}
            };
            let mut exchange = pin!(exchange);
            poll_fn(|cx| {
                ended = ended || connection.as_mut().poll(cx).is_ready();
                exchange.as_mut().poll(cx)
            })
            .await;
        }
        // It may have more to read.
        poll_fn(|cx| {
            ended = ended || connection.as_mut().poll(cx).is_ready();
            Poll::Ready(())
        })
        .await;
        reading.reusable = reading.content.end == End::Complete && !ended && sender.is_ready();
    });
    reading
}

fn request<B>(method: &str, body: B) -> Request<B> {
    let request = Request::builder().method(method).uri("/");
    request.body(body).expect("a valid request")
}

/// An upstream that reads everything and sends bytes after the beginning of the request.
struct Peer {
    rest: Bytes,
    /// Bytes that arrive at once.
    size: usize,
    /// Closes after the bytes, else is silent.
    closes: bool,
    requested: bool,
    reader: Waker,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.requested {
            self.reader = cx.waker().clone();
            return Poll::Pending;
        }
        let length = self.rest.len().min(self.size).min(buf.remaining());
        if length == 0 && !self.closes {
            return Poll::Pending;
        }
        buf.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.requested = true;
        self.reader.wake_by_ref();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future until it is ready or nothing would wake it.
fn run(future: impl Future<Output = ()>) {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    while future
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_pending()
        && woken.0.swap(false, Ordering::Relaxed)
    {}
}
