//! The beginning of a request body, kept until it is known that it need not be sent again.

use std::fmt;

use bytes::Bytes;

/// Pieces that are kept at most: each is a handle, and they must not outweigh the bytes.
const MAX_PIECES: usize = 256;

/// What was kept of a body: pieces that came, not copies of them. `limits.replay_buffer_bytes` bounds it.
#[derive(Default)]
pub struct ReplayBuffer {
    pieces: Vec<Bytes>,
    room: usize,
    complete_body: bool,
}

impl ReplayBuffer {
    /// Room for a body, unless it is known to be larger.
    pub(super) fn new(limit: usize, at_least: u64) -> Self {
        let room = if at_least > limit as u64 { 0 } else { limit };
        Self {
            pieces: Vec::new(),
            room,
            complete_body: false,
        }
    }

    /// Keeps a piece; a body that becomes too large is let go.
    pub(super) fn push(&mut self, piece: &Bytes) {
        match self.room.checked_sub(piece.len()) {
            Some(room) if self.pieces.len() < MAX_PIECES => {
                self.room = room;
                self.pieces.push(piece.clone());
            }
            _ => self.discard(),
        }
    }

    /// The body ended as it should.
    pub(super) fn complete(&mut self) {
        // Without room nothing was kept, or not all.
        self.complete_body = self.room > 0 || !self.pieces.is_empty();
    }

    /// Lets go of everything; nothing more is kept.
    pub fn discard(&mut self) {
        *self = Self::default();
    }

    /// The body, if all of it is here.
    pub fn complete_body(&self) -> Option<Vec<Bytes>> {
        self.complete_body.then(|| self.pieces.clone())
    }
}

impl fmt::Debug for ReplayBuffer {
    /// Without the bytes: they are the caller's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBuffer")
            .field("pieces", &self.pieces.len())
            .field("complete_body", &self.complete_body)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    #[test]
    fn a_body_that_fits_is_kept_whole() {
        let mut kept = ReplayBuffer::new(10, 0);
        kept.push(&piece(4));
        kept.push(&piece(6));
        assert_eq!(kept.complete_body(), None, "it has not ended");
        kept.complete();
        assert_eq!(kept.complete_body(), Some(vec![piece(4), piece(6)]));
    }

    #[test]
    fn a_body_that_does_not_fit_is_let_go_of_at_once() {
        let mut kept = ReplayBuffer::new(10, 0);
        kept.push(&piece(4));
        kept.push(&piece(7));
        assert!(kept.pieces.is_empty());
        kept.push(&piece(1));
        kept.complete();
        assert_eq!(kept.complete_body(), None);
    }

    #[test]
    fn of_a_body_that_is_said_to_be_too_large_nothing_is_kept() {
        let mut kept = ReplayBuffer::new(10, 11);
        kept.push(&piece(1));
        kept.complete();
        assert_eq!(kept.complete_body(), None);
    }

    #[test]
    fn pieces_without_number_are_not_kept() {
        let mut kept = ReplayBuffer::new(100_000, 0);
        for _ in 0..=MAX_PIECES {
            kept.push(&piece(1));
        }
        kept.complete();
        assert_eq!(kept.complete_body(), None);
    }

    #[test]
    fn a_body_that_turned_out_empty_is_whole() {
        let mut kept = ReplayBuffer::new(10, 0);
        kept.complete();
        assert_eq!(kept.complete_body(), Some(Vec::new()));
    }
}
