//! A short text with a place of its own, so that remembering one allocates nothing.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// Up to `N` bytes of a text, which are at most 255; what is longer is cut.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    length: u8,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// Writes another text over this one.
    pub fn set(&mut self, text: &[u8]) {
        let length = u8::try_from(text.len().min(N)).unwrap_or(u8::MAX);
        let end = usize::from(length).min(N);
        self.bytes[..end].copy_from_slice(&text[..end]);
        self.length = length;
    }

    /// What was set, up to the cut.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length).min(N)]
    }

    /// The same as text.
    pub fn as_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self {
            length: 0,
            bytes: [0; N],
        }
    }
}

/// Nothing is `null`.
impl<const N: usize> Serialize for Text<N> {
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
    fn a_text_is_kept_up_to_its_bound_and_written_over() {
        let mut text = Text::<4>::default();
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
        let mut long = Text::<255>::default();
        long.set(&[b'x'; 300]);
        assert_eq!(long.as_bytes().len(), 255);
    }
}
