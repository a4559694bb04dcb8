//! Blind tunnels: bytes pass unread in both directions.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional_with_sizes,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::inbound::connection::{Connection, Directive};
use crate::inbound::stream::WatchedSocket;

/// Bytes that are held in each direction.
const BUFFER: usize = 16 * 1024;
/// Silence after which a tunnel ends while the program drains.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// Relays until both sides have closed, nothing was transferred for `idle`, or the connection must
/// close. `early` are bytes that the client has already sent.
pub(super) async fn relay(
    mut client: WatchedSocket,
    early: Vec<u8>,
    upstream: TcpStream,
    connection: &Connection,
    idle: Duration,
) {
    let last = Rc::new(Cell::new(Instant::now()));
    let limit = Cell::new(idle);
    let mut upstream = Observed {
        stream: upstream,
        last: Rc::clone(&last),
    };
    let copied = async {
        upstream.write_all(&early).await?;
        drop(early);
        copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await
    };
    let mut copied = pin!(copied);
    loop {
        let event = poll_fn(|cx| match copied.as_mut().poll(cx) {
            // Either side may have reset its connection; an error reaches no one.
            Poll::Ready(_) => Poll::Ready(Directive::Abort),
            Poll::Pending => match connection.poll_directive(cx) {
                Some(directive @ (Directive::Drain | Directive::Abort)) => Poll::Ready(directive),
                Some(Directive::HeadTimedOut | Directive::HeadRejected | Directive::Park)
                | None => Poll::Pending,
            },
        });
        tokio::select! {
            directive = event => match directive {
                Directive::Drain => limit.set(DRAIN_IDLE.min(idle)),
                _ => return,
            },
            () = sleep_until(last.get() + limit.get()) => {
                if last.get().elapsed() >= limit.get() {
                    return;
                }
            }
        }
    }
}

/// A stream that records the time of each transfer.
struct Observed<S> {
    stream: S,
    last: Rc<Cell<Instant>>,
}

impl<S> Observed<S> {
    fn record(&self) {
        self.last.set(Instant::now());
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.record();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if polled.is_ready() {
            self.record();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
