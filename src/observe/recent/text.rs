//! A text in a fixed buffer, so that recording it allocates nothing.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// The first `N` bytes of a text. `N` is at most 255.
#[derive(Clone, Copy)]
pub struct BoundedText<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> BoundedText<N> {
    pub(crate) fn set(&mut self, text: &[u8]) {
        let length = u8::try_from(text.len().min(N)).unwrap_or(u8::MAX);
        let end = usize::from(length).min(N);
        self.bytes[..end].copy_from_slice(&text[..end]);
        self.length = length;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length).min(N)]
    }

    /// Returns `true` if [`BoundedText::set`] would store the same for `text`.
    pub(crate) fn is(&self, text: &[u8]) -> bool {
        self.as_bytes() == &text[..text.len().min(N)]
    }

    /// Returns `true` if the text, before it was truncated, may begin with `start`.
    pub(crate) fn starts_with(&self, start: &[u8]) -> bool {
        self.as_bytes().starts_with(&start[..start.len().min(N)])
    }

    /// Returns the text; invalid UTF-8 is replaced.
    pub(crate) fn as_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<const N: usize> Default for BoundedText<N> {
    fn default() -> Self {
        Self {
            length: 0,
            bytes: [0; N],
        }
    }
}

impl<const N: usize> PartialEq for BoundedText<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// The empty text serializes as `null`.
impl<const N: usize> Serialize for BoundedText<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            serializer.serialize_none()
        } else {
            serializer.serialize_str(&self.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_text_is_truncated() {
        let mut text = BoundedText::<4>::default();
        assert!(text.is_empty());
        for (set, kept) in [
            ("abcdef", "abcd"),
            ("xy", "xy"),
            ("", ""),
            ("abc\u{e9}", "abc\u{fffd}"),
        ] {
            text.set(set.as_bytes());
            assert_eq!(text.as_str(), kept);
        }
        let mut long = BoundedText::<255>::default();
        long.set(&[b'x'; 300]);
        assert_eq!(long.as_bytes().len(), 255);
    }
}
