//! The bound of response heads and trailers, the same over HTTP/1.1 and HTTP/2 (interface §4.2).

use http::HeaderMap;

/// Maximum number of fields.
pub const MAX_FIELDS: usize = 100;
/// Maximum size of all fields as HTTP/1.1 writes them, a line each.
pub const MAX_BYTES: usize = 128 * 1024;

/// A response head or trailers beyond the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header section exceeds {MAX_FIELDS} fields or 128KiB")]
pub struct HeadTooLarge;

/// The size of a header section so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadSize {
    fields: usize,
    bytes: usize,
}

impl HeadSize {
    /// Adds a field by the lengths of its name and value.
    ///
    /// # Errors
    /// When the section exceeds the bound.
    pub(crate) fn add(&mut self, name: usize, value: usize) -> Result<(), HeadTooLarge> {
        self.fields += 1;
        // ": " and the line end.
        self.bytes += name + value + 4;
        if self.fields > MAX_FIELDS || self.bytes > MAX_BYTES {
            return Err(HeadTooLarge);
        }
        Ok(())
    }
}

/// Checks a header section.
///
/// # Errors
/// When it exceeds the bound.
pub fn check(fields: &HeaderMap) -> Result<(), HeadTooLarge> {
    let mut size = HeadSize::default();
    fields
        .iter()
        .try_for_each(|(name, value)| size.add(name.as_str().len(), value.len()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn section(fields: usize, bytes: usize) -> HeaderMap {
        let mut section = HeaderMap::new();
        for _ in 0..fields {
            // Eleven bytes with the separators.
            section.append(
                HeaderName::from_static("x-field"),
                HeaderValue::from_bytes(&vec![b'x'; bytes / fields - 11]).unwrap(),
            );
        }
        section
    }

    #[test]
    fn header_sections_are_bounded_in_fields_and_bytes() {
        assert_eq!(check(&HeaderMap::new()), Ok(()));
        assert_eq!(check(&section(100, 100 * 20)), Ok(()));
        assert_eq!(check(&section(101, 101 * 20)), Err(HeadTooLarge));
        assert_eq!(check(&section(1, MAX_BYTES)), Ok(()));
        assert_eq!(check(&section(1, MAX_BYTES + 1)), Err(HeadTooLarge));
        assert_eq!(check(&section(64, 2 * MAX_BYTES)), Err(HeadTooLarge));
    }
}
