//! Traffic of an HTTP/2 connection, and the watchdog that detects a silent one.
//!
//! A path may fail without a FIN or RST. An HTTP/1.1 connection then fails the one exchange that it
//! carries; an HTTP/2 connection would fail all of its requests, and each that follows.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::system::burst::Burst;

/// Silence, while requests wait, after which a PING is sent.
const MAX_SILENCE: Duration = Duration::from_secs(10);
/// Silence after the PING after which the connection is abandoned.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes without part of a response after which the connection is abandoned. Four times the window, which
/// limits what may arrive of responses that nothing reads.
pub(super) const MAX_OVERHEAD: u64 = 4 * super::CONNECTION_WINDOW as u64;
/// Bytes after which the connection lets other tasks run: those of an upstream that sends frames
/// without end would wait, and what the frames leave would accumulate.
pub(super) const MAX_BURST: usize = 64 * 1024;

/// The traffic of one connection, shared by its streams and its task.
pub struct Traffic {
    /// Time at which it was opened.
    pub(super) born: Instant,
    /// It has carried an exchange.
    pub(super) used: Cell<bool>,
    /// Streams in use.
    pub(super) streams: Cell<usize>,
    /// Responses of which the caller is still to read a part.
    pub(super) unread: Cell<usize>,
    /// Bytes were received.
    pub(super) heard: Cell<bool>,
    /// Bytes sent.
    pub(super) written: Cell<u64>,
    /// Bytes received since the last part of a response.
    overhead: Cell<u64>,
    /// Time since which a request waits and nothing was received. Requests whose callers leave
    /// continue to count, because nothing shows that they were received.
    silent_since: Cell<Option<Instant>>,
    /// Time of the PING in the present silence.
    pinged: Cell<Option<Instant>>,
}

impl Traffic {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            born: Instant::now(),
            used: Cell::new(false),
            streams: Cell::new(0),
            unread: Cell::new(0),
            heard: Cell::new(false),
            written: Cell::new(0),
            overhead: Cell::new(0),
            silent_since: Cell::new(None),
            pinged: Cell::new(None),
        })
    }

    /// Records a request that is about to be sent.
    pub(super) fn request_sent(&self) {
        if self.silent_since.get().is_none() {
            self.silent_since.set(Some(Instant::now()));
        }
    }

    /// Records the end of a stream, after its whole response or before.
    pub(super) fn stream_ended(&self, after_response: bool) {
        self.streams.set(self.streams.get() - 1);
        if after_response && self.streams.get() == 0 {
            self.silent_since.set(None);
        }
    }

    /// Records part of a response: its head, or data.
    pub(super) fn response_progressed(&self) {
        self.overhead.set(0);
    }

    /// Returns `true` if the upstream sends frames, but no response.
    pub(super) fn is_flooded(&self) -> bool {
        self.overhead.get() > MAX_OVERHEAD
    }

    fn received(&self, bytes: usize) {
        self.overhead.set(self.overhead.get() + bytes as u64);
        self.heard.set(true);
        self.pinged.set(None);
        self.silent_since
            .set((self.streams.get() > 0).then(Instant::now));
    }

    /// Returns the end of the permitted silence, and whether a PING has been sent in it.
    fn deadline(&self) -> Option<(Instant, bool)> {
        let since = self.silent_since.get()?;
        Some(match self.pinged.get() {
            Some(pinged) => (pinged + PING_TIMEOUT, true),
            None => (since + MAX_SILENCE, false),
        })
    }
}

/// The result of a silence.
pub(super) enum Silence {
    /// The connection is to send a PING.
    Pinged,
    /// The connection is to be abandoned.
    TooLong,
}

/// Sends a PING on a silent connection, and detects that it remains silent.
pub(super) struct Watchdog {
    traffic: Rc<Traffic>,
    ping: Option<PingPong>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    pub(super) fn new(traffic: Rc<Traffic>, ping: Option<PingPong>) -> Self {
        Self {
            traffic,
            ping,
            timer: None,
        }
    }

    /// Is ready when a deadline has passed. To be polled after the connection has read all that has
    /// arrived.
    pub(super) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Silence> {
        loop {
            let Some((deadline, pinged)) = self.traffic.deadline() else {
                return Poll::Pending;
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() < deadline {
                // Set for an earlier deadline.
                continue;
            }
            if pinged {
                return Poll::Ready(Silence::TooLong);
            }
            self.traffic.pinged.set(Some(Instant::now()));
            if let Some(ping) = &mut self.ping {
                // Takes the response to an earlier PING, so that another can be sent. One that is
                // still without a response serves as well.
                let _ = ping.poll_pong(cx);
                let _ = ping.send_ping(Ping::opaque());
            }
            return Poll::Ready(Silence::Pinged);
        }
    }
}

/// A byte stream that records its traffic.
pub(super) struct Recorded<T> {
    io: T,
    traffic: Rc<Traffic>,
    /// Bytes received since other tasks ran.
    burst: Burst,
}

impl<T> Recorded<T> {
    pub(super) fn new(io: T, traffic: Rc<Traffic>) -> Self {
        Self {
            io,
            traffic,
            burst: Burst::new(MAX_BURST),
        }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            let written = &self.traffic.written;
            written.set(written.get() + *bytes as u64);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Recorded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.burst.poll_permitted(cx));
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            self.burst.add(bytes);
            self.traffic.received(bytes);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Recorded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
