//! SHA-256 of values that must not be stored, such as secrets and files that may hold one.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256, digest};
use citrix_wire::hex;

/// A SHA-256 digest. `Debug` does not show it, because a weak secret can be guessed from its
/// digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// A digest of which no value is known.
    pub const ZERO: Self = Self([0; 32]);

    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_aws(digest(&SHA256, bytes))
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text.as_bytes()).map(Self)
    }

    /// Formats the digest as 64 lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    /// Returns the bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    fn from_aws(digest: aws_lc_rs::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Computes the digest of a value in parts.
pub struct Sha256Builder(Context);

impl Default for Sha256Builder {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256Builder {
    /// Adds bytes without a separator.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a part preceded by its length, so that no two lists of parts have the same digest.
    pub fn part(&mut self, part: &[u8]) {
        self.bytes(&part.len().to_be_bytes());
        self.bytes(part);
    }

    pub fn finish(self) -> Sha256 {
        Sha256::from_aws(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_parts_with_equal_concatenations_differ() {
        let of = |parts: &[&str]| {
            let mut builder = Sha256Builder::default();
            parts.iter().for_each(|part| builder.part(part.as_bytes()));
            builder.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }

    #[test]
    fn digest_equals_the_output_of_sha256sum() {
        let hex = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let secret = Sha256::of(b"secret");
        assert_eq!(secret.to_hex(), hex);
        assert!(secret.matches(&Sha256::from_hex(&hex.to_uppercase()).unwrap()));
        assert!(!secret.matches(&Sha256::of(b"Secret")));
        for wrong in [
            "",
            "2b",
            &hex[1..],
            &format!("{hex}0"),
            &hex.replace('2', "g"),
        ] {
            assert_eq!(Sha256::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn debug_output_contains_no_digest() {
        assert_eq!(format!("{:?}", Sha256::of(b"secret")), "[REDACTED]");
    }
}
