//! Rejects paths that upstreams may read in several ways.
//!
//! Rules of gateways were bypassed by paths that the server behind them read differently: dot
//! segments, empty segments, parameters, backslashes, double escapes, invalid UTF-8. [`evaluate`]
//! accepts only paths in which every kind of server finds the same segments. One difference
//! remains, and rules must match both readings: whether a server decodes an escape such as `%24`
//! ([`ParsedPath::decoded`], [`ParsedPath::written`]).

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::hex;

/// Maximum length of a path in bytes, which bounds the cost of its evaluation: Kestrel's limit for
/// a request line.
const MAX_LENGTH: usize = 8192;

/// A path in which all upstreams find the same segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedPath<'p> {
    decoded: Cow<'p, str>,
    written: Cow<'p, str>,
}

/// Why a path or an item of a batch is ambiguous or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Ambiguous {
    /// No leading slash, such as `*`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// More than 8192 bytes.
    #[error("the path has more than {MAX_LENGTH} bytes")]
    TooLong,
    /// See [`crate::path_readings::TooManyReadings`].
    #[error("servers may read the path in too many ways")]
    TooManyReadings,
    /// A space, `?`, `#` or a byte outside ASCII, which RFC 3986 does not permit in a path.
    #[error("the path has a character that must be percent-encoded")]
    Unescaped,
    /// A control character, escaped or not.
    #[error("the path has a control character")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("the path has an invalid percent escape")]
    InvalidEscape,
    /// Escapes that decode to invalid UTF-8, such as overlong forms.
    #[error("the path has escapes that are not UTF-8")]
    NotUtf8,
    /// `\`
    #[error("the path has a backslash, which some servers read as a slash")]
    Backslash,
    /// `;`
    #[error("the path has a semicolon, after which some servers read parameters")]
    Parameters,
    /// An escaped `/`, `\`, `.`, `;`, `?` or `#`.
    #[error(
        "the path has an escaped slash, backslash, dot, semicolon, question mark or number sign"
    )]
    EscapedDelimiter,
    /// `%25`
    #[error("the path has an escaped percent sign, which some servers decode twice")]
    DoubleEncoding,
    /// `//`
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.`, `..`, or a segment of only dots, spaces and plus signs, which some servers reduce to
    /// one of them or drop.
    #[error("the path has a segment of only dots, spaces or plus signs")]
    DotSegment,
    /// A leading or trailing space or a trailing dot, which Windows drops; plus signs may follow
    /// it.
    #[error("a segment of the path begins or ends with a space, or ends with a dot")]
    SegmentEdge,
    /// A character outside ASCII that is neither a letter nor a digit, or that NFKC changes.
    #[error("the path has a character outside ASCII that some servers read as another")]
    ConfusableCharacter,
    /// The rules cover the path only if case is ignored.
    #[error("the path differs from the caller's paths in case")]
    LetterCase,
    /// The rules cover only one of the path's two readings.
    #[error("the path has needless escapes, and the caller's paths match only one of its readings")]
    Escapes,
    /// A relative URL that may be an absolute one.
    #[error("an item of the batch has an absolute URL")]
    AbsoluteItem,
    /// A batch within a batch.
    #[error("an item of the batch is a batch")]
    NestedBatch,
    /// A relative URL that names a customer other than the batch's.
    #[error("an item of the batch has a URL that names another customer")]
    OtherCustomer,
    /// A header field of an item that may change its method, path or customer.
    #[error("an item of the batch has a header field that may change its method, path or customer")]
    MisleadingField,
    /// A batch whose items the gateway cannot read: another service's, or in another charset.
    #[error("the items of this batch cannot be read")]
    UnreadableBatch,
}

impl Ambiguous {
    /// Returns `true` if the path violates RFC 3986: rejected with 400, otherwise with 403.
    pub fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::NotAbsolute
                | Self::Unescaped
                | Self::Control
                | Self::InvalidEscape
                | Self::NotUtf8
        )
    }
}

impl ParsedPath<'_> {
    /// Returns the path as read by a server that decodes escapes.
    pub fn decoded(&self) -> &str {
        &self.decoded
    }

    /// Returns the path as read by a server that keeps needless escapes, those of characters
    /// permitted in a path (RFC 3986, `pchar`). Other escapes have no alternative form and are
    /// decoded here as well.
    pub fn written(&self) -> &str {
        &self.written
    }
}

/// Parses a path without its query.
///
/// # Errors
/// If upstreams may read it in several ways.
pub fn evaluate(path: &str) -> Result<ParsedPath<'_>, Ambiguous> {
    if path.len() > MAX_LENGTH {
        return Err(Ambiguous::TooLong);
    }
    if !path.starts_with('/') {
        return Err(Ambiguous::NotAbsolute);
    }
    if let Some(ambiguous) = path.bytes().find_map(forbidden_unescaped) {
        return Err(ambiguous);
    }
    let parsed = decode(path)?;
    let rest = &parsed.decoded[1..];
    // Servers differ in whether a trailing slash matters; rules ignore it.
    let segments = rest.strip_suffix('/').unwrap_or(rest);
    if !rest.is_empty() {
        segments.split('/').try_for_each(check_segment)?;
    }
    Ok(parsed)
}

/// Returns the segments of a reading or a pattern; a trailing slash adds none.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Rejects a decoded segment that some server may read as another.
pub(super) fn check_segment(segment: &str) -> Result<(), Ambiguous> {
    if segment.is_empty() {
        return Err(Ambiguous::EmptySegment);
    }
    // Windows drops trailing spaces and dots; form decoding turns a plus sign into a space.
    let droppable = ['.', ' ', '+'];
    if segment.trim_matches(droppable).is_empty() {
        return Err(Ambiguous::DotSegment);
    }
    // Servers map some characters to ASCII in different ways, such as a full-width slash to a
    // slash. Letters and digits that NFKC keeps cannot become a delimiter.
    let plain = |c: char| c.is_ascii() || c.is_alphanumeric();
    let normalized = || ComposingNormalizerBorrowed::new_nfkc().is_normalized(segment);
    if !segment.chars().all(plain) || !(segment.is_ascii() || normalized()) {
        return Err(Ambiguous::ConfusableCharacter);
    }
    // A segment may end with plus signs: `C++`.
    let end = &segment[segment.trim_end_matches(droppable).len()..];
    if segment.starts_with(' ') || end.contains([' ', '.']) {
        return Err(Ambiguous::SegmentEdge);
    }
    Ok(())
}

/// Returns the error for a byte that a path must not contain unescaped.
fn forbidden_unescaped(byte: u8) -> Option<Ambiguous> {
    match byte {
        0..0x20 | 0x7f => Some(Ambiguous::Control),
        b' ' | b'?' | b'#' | 0x80.. => Some(Ambiguous::Unescaped),
        b'\\' => Some(Ambiguous::Backslash),
        b';' => Some(Ambiguous::Parameters),
        _ => None,
    }
}

/// Decodes escapes into both readings.
fn decode(path: &str) -> Result<ParsedPath<'_>, Ambiguous> {
    let mut pieces = path.split('%');
    let first = pieces.next().unwrap_or_default();
    if first.len() == path.len() {
        return Ok(ParsedPath {
            decoded: Cow::Borrowed(path),
            written: Cow::Borrowed(path),
        });
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut written = Vec::with_capacity(path.len());
    decoded.extend_from_slice(first.as_bytes());
    written.extend_from_slice(first.as_bytes());
    for piece in pieces {
        let (byte, digits, rest) = escape(piece).ok_or(Ambiguous::InvalidEscape)?;
        match byte {
            0..0x20 | 0x7f => return Err(Ambiguous::Control),
            b'/' | b'\\' | b'.' | b';' | b'?' | b'#' => return Err(Ambiguous::EscapedDelimiter),
            b'%' => return Err(Ambiguous::DoubleEncoding),
            _ => {}
        }
        decoded.push(byte);
        decoded.extend_from_slice(rest);
        if needs_no_escape(byte) {
            written.push(b'%');
            written.extend_from_slice(digits);
        } else {
            written.push(byte);
        }
        written.extend_from_slice(rest);
    }
    let text = |bytes| {
        String::from_utf8(bytes)
            .map(Cow::Owned)
            .map_err(|_| Ambiguous::NotUtf8)
    };
    Ok(ParsedPath {
        decoded: text(decoded)?,
        written: text(written)?,
    })
}

/// Splits the text after a `%` into the escaped byte, its digits and the rest.
fn escape(piece: &str) -> Option<(u8, &[u8], &[u8])> {
    let (digits, rest) = piece.as_bytes().split_at_checked(2)?;
    let byte = hex::byte([digits[0], digits[1]])?;
    Some((byte, digits, rest))
}

/// Returns `true` for `pchar` of RFC 3986 section 3.3, without escapes.
fn needs_no_escape(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}
