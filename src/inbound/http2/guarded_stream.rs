//! The byte stream of an HTTP/2 connection behind its [`FrameGuard`].

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use crate::inbound::stream::Stream;
use citrix_wire::frame_guard::FrameGuard;

/// Bytes read at once to complete the header of a frame.
const SHORT_READ: usize = 1024;

/// Streams with a fragment in `:path` that `h2` has not returned yet. More end the connection.
const MAX_FRAGMENTS: usize = 1000;

/// Frames after which others are served. `h2` handles all frames that have arrived in one turn, and a
/// frame may cost more than its nine bytes.
const FRAMES_PER_TURN: u32 = 256;

/// Streams whose `:path` has a fragment, in ascending order.
pub(super) type Fragments = Rc<RefCell<Vec<u32>>>;

/// A stream whose requests are checked where `h2` is lenient.
pub(super) struct GuardedStream {
    stream: Stream,
    guard: FrameGuard,
    fragments: Fragments,
    /// Scanned bytes that are not returned yet.
    scanned: BytesMut,
    /// The first bytes of a frame's header.
    partial: BytesMut,
}

impl GuardedStream {
    pub(super) fn new(stream: Stream, fragments: Fragments) -> Self {
        Self {
            stream,
            guard: FrameGuard::default(),
            fragments,
            scanned: BytesMut::new(),
            partial: BytesMut::new(),
        }
    }

    /// Scans bytes to be returned later.
    fn scan(&mut self, mut bytes: BytesMut) {
        loop {
            let scanned = self.guard.scan(&mut bytes);
            self.scanned.extend_from_slice(&bytes[..scanned.permitted]);
            bytes.advance(scanned.permitted);
            match scanned.insert {
                Some(byte) => self.scanned.put_u8(byte),
                None => break,
            }
        }
        self.partial = bytes;
    }

    /// Reports the streams with a fragment that were scanned.
    fn report_fragments(&mut self) -> io::Result<()> {
        let found = self.guard.fragments();
        if !found.is_empty() {
            let mut fragments = self.fragments.borrow_mut();
            fragments.append(found);
            if fragments.len() > MAX_FRAGMENTS {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Reads into `buf` and scans there; most reads end with a frame.
    fn poll_read_directly(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let received = &mut buf.filled_mut()[before..];
        let scanned = self.guard.scan(received);
        let rest = BytesMut::from(&received[scanned.permitted..]);
        buf.set_filled(before + scanned.permitted);
        match scanned.insert {
            Some(byte) => {
                self.scanned.put_u8(byte);
                self.scan(rest);
            }
            None => self.partial = rest,
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and scans what follows a partial header. At the end of the stream the header is
    /// returned as it is.
    fn poll_read_after_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut next = [0; SHORT_READ];
        let mut next = ReadBuf::new(&mut next);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut next))?;
        let mut bytes = std::mem::take(&mut self.partial);
        if next.filled().is_empty() {
            self.scanned = bytes;
            return Poll::Ready(Ok(()));
        }
        bytes.extend_from_slice(next.filled());
        self.scan(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.stream.block_arrived(this.guard.unfinished_block()) {
            // The connection is closed by the directive.
            return Poll::Pending;
        }
        if this.guard.take_frames(FRAMES_PER_TURN) {
            // Continues after the sockets of others were polled.
            return pin!(yield_now()).poll(cx).map(Ok);
        }
        loop {
            if !this.scanned.is_empty() {
                let length = this.scanned.len().min(buf.remaining());
                buf.put_slice(&this.scanned[..length]);
                this.scanned.advance(length);
                return Poll::Ready(Ok(()));
            }
            if this.partial.is_empty() {
                ready!(this.poll_read_directly(cx, buf))?;
                this.report_fragments()?;
                let ended = this.partial.is_empty() && this.scanned.is_empty();
                if ended || buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            } else {
                ready!(this.poll_read_after_partial(cx))?;
                this.report_fragments()?;
            }
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::inbound::connection::{Connections, Evictions};
    use crate::inbound::stream::{Socket, Transport, WatchedSocket};
    use crate::limit::owner::{Resource, ResourceKind};

    /// A WINDOW_UPDATE of one byte for the connection.
    const FRAME: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";

    #[tokio::test]
    async fn frames_of_one_turn_are_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        caller
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        caller.write_all(&FRAME.repeat(10_000)).await.unwrap();
        let all = Connections::new(
            Resource::new(ResourceKind::HeadBytes),
            Resource::new(ResourceKind::StreamBytes),
            Evictions::register(&prometheus::Registry::new()).unwrap(),
        );
        let registered = all.register();
        let connection = registered.connection();
        let socket = WatchedSocket::new(Socket::Tcp(socket), Rc::clone(connection));
        let stream = Stream::new(Transport::Plain(socket), Rc::clone(connection));
        let mut guarded = GuardedStream::new(stream, Fragments::default());
        let mut frames = 0;
        while frames < 9_000 {
            let mut turn = 0;
            let mut buffer = [0; 1024];
            while let Poll::Ready(read) = {
                let mut buffer = ReadBuf::new(&mut buffer);
                let mut cx = Context::from_waker(Waker::noop());
                let polled = Pin::new(&mut guarded).poll_read(&mut cx, &mut buffer);
                polled.map(|read| read.map(|()| buffer.filled().len()))
            } {
                turn += read.unwrap() / FRAME.len();
            }
            // The last read of a turn may begin below the bound.
            assert!(turn <= FRAMES_PER_TURN as usize + 1024 / FRAME.len());
            frames += turn;
            // The socket becomes readable again, and the budget of the task is renewed.
            yield_now().await;
        }
    }
}
