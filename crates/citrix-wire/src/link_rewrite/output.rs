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
    /// Copied, because a piece of one byte may be a slice of a large buffer.
    following: Vec<u8>,
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
        if held.link.len() + held.following.len() + piece.len() > MAX_LINK {
            self.release();
            self.ready.push_back(piece);
        } else {
            held.following.extend_from_slice(&piece);
        }
    }

    /// Holds back `link` and the pieces after it, up to [`MAX_LINK`] bytes in total.
    pub(super) fn hold(&mut self, link: Bytes) {
        self.release();
        self.held = Some(Held {
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
            let following = Bytes::from(held.following);
            let released = pieces.into_iter().chain([following]);
            self.ready
                .extend(released.filter(|piece| !piece.is_empty()));
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
