//! Output in order, of which the end may wait for a decision.

use std::collections::VecDeque;

use bytes::Bytes;

use super::MAX_LINK;

/// A queue of pieces whose end can be held back, from a string on that may be a link.
#[derive(Default)]
pub(super) struct Output {
    ready: VecDeque<Bytes>,
    held: Option<Held>,
}

struct Held {
    link: Bytes,
    following: Vec<Bytes>,
    length: usize,
}

impl Output {
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        let Some(held) = &mut self.held else {
            self.ready.push_back(piece);
            return;
        };
        held.length += piece.len();
        held.following.push(piece);
        if held.length > MAX_LINK {
            self.release();
        }
    }

    /// Holds back `link` and the pieces after it, up to [`MAX_LINK`] bytes in total.
    pub(super) fn hold(&mut self, link: Bytes) {
        self.release();
        self.held = Some(Held {
            length: link.len(),
            link,
            following: Vec::new(),
        });
    }

    /// Returns the link that is held back.
    pub(super) fn held(&self) -> Option<&Bytes> {
        self.held.as_ref().map(|held| &held.link)
    }

    /// Releases held-back pieces with `pieces` in place of the link.
    pub(super) fn replace(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        if let Some(held) = self.held.take() {
            self.ready
                .extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
            self.ready.extend(held.following);
        }
    }

    /// Releases held-back pieces unchanged.
    pub(super) fn release(&mut self) {
        let link = self.held().cloned();
        self.replace(link);
    }

    pub(super) fn pull(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }
}
