//! What goes out, in order, and what of it waits for a decision.

use std::collections::VecDeque;

use bytes::Bytes;

use super::json::MAX_LINK;

/// A queue whose end can be held back, from a string on that may turn out to be a link.
#[derive(Default)]
pub(super) struct Output {
    ready: VecDeque<Bytes>,
    held: Option<Held>,
}

struct Held {
    link: Bytes,
    behind: Vec<Bytes>,
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
        held.behind.push(piece);
        if held.length > MAX_LINK {
            self.release();
        }
    }

    /// Holds back `link` and what comes after it, up to [`MAX_LINK`] bytes in all.
    pub(super) fn hold(&mut self, link: Bytes) {
        self.release();
        self.held = Some(Held {
            length: link.len(),
            link,
            behind: Vec::new(),
        });
    }

    /// The link that is held back.
    pub(super) fn held(&self) -> Option<&Bytes> {
        self.held.as_ref().map(|held| &held.link)
    }

    /// Lets go what is held back, with these pieces in the link's place.
    pub(super) fn replace(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        if let Some(held) = self.held.take() {
            self.ready
                .extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
            self.ready.extend(held.behind);
        }
    }

    /// Lets go what is held back, as it is.
    pub(super) fn release(&mut self) {
        let link = self.held().cloned();
        self.replace(link);
    }

    pub(super) fn pull(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }
}
