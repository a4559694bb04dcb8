//! A byte stream of which only a bounded part is read: for exchanges with a small response. A peer
//! that sends interim responses, fields or frames without end would otherwise keep the thread busy,
//! and fill the memory, until the timeout.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The peer has sent more than the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("response exceeds the bound")]
pub struct BoundExceeded;

/// A byte stream that fails once the bound is reached.
pub(crate) struct Bounded<T> {
    io: T,
    left: usize,
    /// The bound after each write; 0 if that is none of a new exchange.
    renewed: usize,
}

impl<T> Bounded<T> {
    /// Reads `bound` bytes at most.
    pub(super) fn new(io: T, bound: usize) -> Self {
        Self {
            io,
            left: bound,
            renewed: 0,
        }
    }

    /// Reads `bound` bytes at most after each write.
    pub(crate) fn per_write(io: T, bound: usize) -> Self {
        Self {
            renewed: bound,
            ..Self::new(io, bound)
        }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other(BoundExceeded)));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.left = self.left.max(self.renewed);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn bound_is_that_of_the_stream_or_of_each_write() {
        for is_renewed in [false, true] {
            let (io, mut peer) = duplex(64);
            let mut bounded = match is_renewed {
                true => Bounded::per_write(io, 3),
                false => Bounded::new(io, 3),
            };
            peer.write_all(b"abcdef").await.unwrap();
            let mut read = [0; 3];
            bounded.read_exact(&mut read).await.unwrap();
            assert!(bounded.read(&mut read).await.is_err());
            bounded.write_all(b"more").await.unwrap();
            assert_eq!(bounded.read(&mut read).await.is_ok(), is_renewed);
        }
    }
}
