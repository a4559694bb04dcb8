//! A part of a response body that several requests read, each at its own pace (interface §4.7).
//!
//! One task writes. What all readers have read is dropped, so that the window holds at most
//! [`WINDOW`] bytes whatever the size of the body. Bytes are copied once, into blocks: frames would
//! keep the read buffers they are parts of, and have any number.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tokio::time::Instant;

/// Bytes that a window holds at most, and one frame.
pub const WINDOW: usize = 1024 * 1024;
const BLOCK: usize = 16 * 1024;
/// Bytes of all windows, of which each reserves [`WINDOW`] until its body is complete.
const MAX_WINDOWS: usize = 32 * WINDOW;

/// The bytes that all windows may hold.
#[derive(Debug, Default)]
pub struct WindowBytes(AtomicUsize);

/// A new window and its readers.
#[derive(Debug)]
pub struct SharedWindow {
    pub(super) window: Arc<Window>,
    pub(super) own: WindowReader,
    pub(super) others: Vec<WindowReader>,
}

/// Bytes reserved for one window, released on drop.
#[derive(Debug)]
struct Reserved {
    all: Arc<WindowBytes>,
    bytes: usize,
}

/// A window and its readers.
#[derive(Debug)]
pub struct Window(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Full blocks.
    blocks: VecDeque<Block>,
    /// Offset of the first block in the body.
    start: u64,
    /// The block that is being filled.
    last: BytesMut,
    end: Option<End>,
    /// By number.
    readers: BTreeMap<usize, ReaderState>,
    /// The task that writes.
    writer: Option<Waker>,
    reserved: Reserved,
}

#[derive(Debug)]
struct Block {
    bytes: Bytes,
    /// Number of readers that have not read all of it.
    unread_by: usize,
}

#[derive(Clone, Debug)]
enum End {
    Complete(Option<HeaderMap>),
    Failed(Arc<str>),
}

#[derive(Debug)]
struct ReaderState {
    /// Offset of the next byte to read.
    offset: u64,
    /// Time of the last read.
    progressed: Instant,
    /// Time for which it kept the window full while others waited for the permit.
    blocked: Duration,
    waker: Option<Waker>,
}

/// A reader of a window; it leaves on drop.
#[derive(Debug)]
pub struct WindowReader {
    window: Arc<Window>,
    number: usize,
    has_trailers: bool,
}

/// The reason that a reader does not get the rest of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The exchange with the upstream failed.
    #[error("shared response: {0}")]
    Failed(Arc<str>),
    /// It did not read while others waited.
    #[error("caller too slow while others waited for the shared response")]
    Evicted,
}

/// The state of a window for its writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Free,
    Full,
    /// There is no reader.
    Abandoned,
}

/// A wait for room.
#[derive(Debug)]
pub struct RoomWait {
    began: Instant,
    /// The time until which it is counted.
    counted: Instant,
    /// The readers that have not read the oldest block.
    slowest: Vec<usize>,
}

impl WindowBytes {
    fn reserve(self: &Arc<Self>) -> Option<Reserved> {
        let within = |bytes: usize| Some(bytes + WINDOW).filter(|bytes| *bytes <= MAX_WINDOWS);
        let order = Ordering::Relaxed;
        self.0.fetch_update(order, order, within).ok()?;
        Some(Reserved {
            all: Arc::clone(self),
            bytes: WINDOW,
        })
    }
}

impl Reserved {
    fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        self.bytes -= excess;
        self.all.0.fetch_sub(excess, Ordering::Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Window {
    /// Opens an empty window for one reader and `others`; `None` if all windows reserve too much
    /// already.
    pub fn open(all: &Arc<WindowBytes>, others: usize) -> Option<SharedWindow> {
        let reserved = all.reserve()?;
        let now = Instant::now();
        let readers = (0..=others).map(|number| {
            let reader = ReaderState {
                offset: 0,
                progressed: now,
                blocked: Duration::ZERO,
                waker: None,
            };
            (number, reader)
        });
        let window = Arc::new(Self(Mutex::new(State {
            blocks: VecDeque::new(),
            start: 0,
            last: BytesMut::new(),
            end: None,
            readers: readers.collect(),
            writer: None,
            reserved,
        })));
        let reader = |number| WindowReader {
            window: Arc::clone(&window),
            number,
            has_trailers: true,
        };
        Some(SharedWindow {
            own: reader(0),
            others: (1..=others).map(reader).collect(),
            window,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the window has room. The writer is woken when that changes.
    pub fn room(&self, cx: &mut Context<'_>) -> Room {
        let mut state = self.lock();
        state.writer = Some(cx.waker().clone());
        state.room()
    }

    /// Adds bytes of the body.
    pub fn push(&self, mut data: &[u8]) {
        let mut state = self.lock();
        while !data.is_empty() {
            if state.last.capacity() == 0 {
                state.last = BytesMut::with_capacity(BLOCK);
            }
            let (now, rest) = data.split_at(data.len().min(BLOCK - state.last.len()));
            state.last.extend_from_slice(now);
            data = rest;
            if state.last.len() == BLOCK {
                state.add_block();
            }
        }
        state.wake_readers();
    }

    /// Ends the body.
    pub fn complete(&self, trailers: Option<HeaderMap>) {
        let mut state = self.lock();
        let held = state.held();
        state.reserved.shrink_to(held);
        state.end(End::Complete(trailers));
    }

    /// Truncates the body, unless it is complete.
    pub fn fail(&self, cause: &str) {
        self.lock().end(End::Failed(cause.into()));
    }

    /// Begins a wait for room.
    pub fn begin_wait(&self) -> RoomWait {
        let state = self.lock();
        let front_end = state.start + BLOCK as u64;
        let readers = state.readers.iter();
        let slowest = readers.filter(|(_, reader)| reader.offset < front_end);
        let now = Instant::now();
        RoomWait {
            began: now,
            counted: now,
            slowest: slowest.map(|(number, _)| *number).collect(),
        }
    }

    /// Counts a wait until now, and evicts readers that make others wait: those that read nothing
    /// for `limit`, and, if requests wait for the permit (`contended`), those that kept the window
    /// full for `limit` in total.
    pub fn count_wait(&self, wait: &mut RoomWait, limit: Duration, contended: bool) {
        let now = Instant::now();
        let since = std::mem::replace(&mut wait.counted, now);
        let mut state = self.lock();
        let (end, front_end) = (state.end_offset(), state.start + BLOCK as u64);
        let others_wait = contended || state.readers.values().any(|reader| reader.offset == end);
        let is_full = state.room() == Room::Full;
        wait.slowest.retain(|number| {
            let Some(reader) = state.readers.get_mut(number) else {
                return false;
            };
            let is_slowest = reader.offset < front_end;
            // The others have left the front since, at their last read at the latest.
            let until = if is_slowest { now } else { reader.progressed };
            if contended {
                reader.blocked += until.saturating_duration_since(since);
            }
            let idle = now.saturating_duration_since(reader.progressed.max(wait.began));
            let stalls = is_slowest && is_full && others_wait && idle >= limit;
            if stalls || reader.blocked >= limit {
                state.remove(*number);
            }
            is_slowest
        });
    }
}

impl State {
    /// Returns the number of bytes.
    fn held(&self) -> usize {
        self.blocks.len() * BLOCK + self.last.len()
    }

    fn end_offset(&self) -> u64 {
        self.start + self.held() as u64
    }

    fn room(&self) -> Room {
        if self.readers.is_empty() {
            Room::Abandoned
        } else if self.held() >= WINDOW {
            Room::Full
        } else {
            Room::Free
        }
    }

    fn add_block(&mut self) {
        let end = self.end_offset();
        let readers = self.readers.values();
        self.blocks.push_back(Block {
            unread_by: readers.filter(|reader| reader.offset < end).count(),
            bytes: std::mem::take(&mut self.last).freeze(),
        });
        self.drop_read();
    }

    /// Drops the blocks that all have read.
    fn drop_read(&mut self) {
        let before = self.start;
        while self
            .blocks
            .pop_front_if(|block| block.unread_by == 0)
            .is_some()
        {
            self.start += BLOCK as u64;
        }
        if self.start > before {
            self.wake_writer();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn wake_readers(&mut self) {
        for reader in self.readers.values_mut() {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake_readers();
    }

    /// Removes a reader.
    fn remove(&mut self, number: usize) {
        let Some(reader) = self.readers.remove(&number) else {
            return;
        };
        let mut block_end = self.start;
        for block in &mut self.blocks {
            block_end += BLOCK as u64;
            if reader.offset < block_end {
                block.unread_by -= 1;
            }
        }
        self.drop_read();
        if self.readers.is_empty() {
            self.wake_writer();
        }
        if let Some(waker) = reader.waker {
            waker.wake();
        }
    }

    /// Returns bytes from `offset` on: the rest of a block, or what there is of the last one.
    fn bytes_at(&self, offset: u64) -> Option<Bytes> {
        // At most `WINDOW` and a frame.
        let position = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let (index, within) = (position / BLOCK, position % BLOCK);
        match self.blocks.get(index) {
            Some(block) => Some(block.bytes.slice(within..)),
            None => {
                let bytes = self.last.get(within..)?;
                (!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes))
            }
        }
    }

    /// Records that a reader has read `length` bytes of one block.
    fn advance(&mut self, number: usize, length: usize) {
        let Some(reader) = self.readers.get_mut(&number) else {
            return;
        };
        let position = reader.offset - self.start;
        reader.offset += length as u64;
        reader.progressed = Instant::now();
        let index = usize::try_from(position).unwrap_or(usize::MAX) / BLOCK;
        if let Some(block) = self.blocks.get_mut(index) {
            block.unread_by -= 1;
            self.drop_read();
        }
    }
}

impl WindowReader {
    /// Returns `true` if the reader has read a complete body.
    pub fn is_end_stream(&self) -> bool {
        let state = self.window.lock();
        let has_all = |reader: &ReaderState| reader.offset == state.end_offset();
        let may_end = match &state.end {
            Some(End::Complete(trailers)) => trailers.is_none() || !self.has_trailers,
            Some(End::Failed(_)) | None => false,
        };
        may_end && state.readers.get(&self.number).is_some_and(has_all)
    }

    /// Returns the next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WindowError>>> {
        let mut state = self.window.lock();
        let Some(reader) = state.readers.get(&self.number) else {
            return Poll::Ready(Some(Err(WindowError::Evicted)));
        };
        if let Some(bytes) = state.bytes_at(reader.offset) {
            state.advance(self.number, bytes.len());
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match &state.end {
            Some(End::Failed(cause)) => {
                Poll::Ready(Some(Err(WindowError::Failed(Arc::clone(cause)))))
            }
            Some(End::Complete(trailers)) => {
                let trailers = trailers.clone().filter(|_| self.has_trailers);
                self.has_trailers = false;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            None => {
                if let Some(reader) = state.readers.get_mut(&self.number) {
                    reader.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for WindowReader {
    fn drop(&mut self) {
        self.window.lock().remove(self.number);
    }
}
