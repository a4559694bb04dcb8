//! The beginning of a request body, buffered until a replay is no longer possible.

use std::fmt;

use bytes::Bytes;

/// Maximum number of chunks, whose handles must not outweigh their bytes.
const MAX_CHUNKS: usize = 256;

/// The chunks of a body, not copied. `limits.replay_buffer_bytes` limits their size.
#[derive(Default)]
pub struct ReplayBuffer {
    chunks: Vec<Bytes>,
    capacity: usize,
    is_complete: bool,
}

impl ReplayBuffer {
    /// Returns a buffer of `limit` bytes, or of none if the body is known to be larger.
    pub(super) fn new(limit: usize, at_least: u64) -> Self {
        let capacity = if at_least > limit as u64 { 0 } else { limit };
        Self {
            chunks: Vec::new(),
            capacity,
            is_complete: false,
        }
    }

    /// Adds a chunk, or discards all of a body that exceeds the limit.
    pub(super) fn push(&mut self, chunk: &Bytes) {
        // An empty DATA frame often ends a body. Of a body that was discarded, it would be all.
        if chunk.is_empty() {
            return;
        }
        match self.capacity.checked_sub(chunk.len()) {
            Some(capacity) if self.chunks.len() < MAX_CHUNKS => {
                self.capacity = capacity;
                self.chunks.push(chunk.clone());
            }
            _ => self.discard(),
        }
    }

    /// Replaces the chunks, if any, by one of the same bytes.
    pub(super) fn replace(&mut self, all: &Bytes) {
        if !self.chunks.is_empty() {
            self.chunks = vec![all.clone()];
        }
    }

    /// Records the regular end of the body.
    pub(super) fn complete(&mut self) {
        // Without capacity, nothing or not all was buffered.
        self.is_complete = self.capacity > 0 || !self.chunks.is_empty();
    }

    /// Discards everything and buffers nothing more.
    pub fn discard(&mut self) {
        *self = Self::default();
    }

    /// Returns `true` if the rest of the body can be buffered as well.
    pub fn may_grow(&self) -> bool {
        !self.is_complete && self.capacity > 0
    }

    /// Returns the body if all of it is buffered.
    pub fn complete_body(&self) -> Option<Vec<Bytes>> {
        self.is_complete.then(|| self.chunks.clone())
    }
}

impl fmt::Debug for ReplayBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBuffer")
            .field("chunks", &self.chunks.len())
            .field("complete", &self.is_complete)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    #[test]
    fn body_within_the_limit_is_buffered() {
        let mut buffer = ReplayBuffer::new(10, 0);
        buffer.push(&chunk(4));
        buffer.push(&chunk(6));
        assert_eq!(buffer.complete_body(), None, "it has not ended");
        buffer.complete();
        assert_eq!(buffer.complete_body(), Some(vec![chunk(4), chunk(6)]));
    }

    #[test]
    fn body_beyond_the_limit_is_discarded_at_once() {
        let mut buffer = ReplayBuffer::new(10, 0);
        buffer.push(&chunk(4));
        buffer.push(&chunk(7));
        assert!(buffer.chunks.is_empty());
        buffer.push(&chunk(1));
        buffer.complete();
        assert_eq!(buffer.complete_body(), None);
    }

    #[test]
    fn body_with_a_larger_declared_length_is_not_buffered() {
        let mut buffer = ReplayBuffer::new(10, 11);
        buffer.push(&chunk(1));
        buffer.complete();
        assert_eq!(buffer.complete_body(), None);
    }

    #[test]
    fn empty_chunk_does_not_complete_a_discarded_body() {
        for at_least in [0, 11] {
            let mut buffer = ReplayBuffer::new(10, at_least);
            buffer.push(&chunk(11));
            buffer.push(&chunk(0));
            buffer.complete();
            assert_eq!(buffer.complete_body(), None, "{at_least}");
        }
    }

    #[test]
    fn body_of_too_many_chunks_is_discarded() {
        let mut buffer = ReplayBuffer::new(100_000, 0);
        for _ in 0..=MAX_CHUNKS {
            buffer.push(&chunk(1));
        }
        buffer.complete();
        assert_eq!(buffer.complete_body(), None);
    }

    #[test]
    fn empty_body_is_complete() {
        let mut buffer = ReplayBuffer::new(10, 0);
        buffer.complete();
        assert_eq!(buffer.complete_body(), Some(Vec::new()));
    }
}
