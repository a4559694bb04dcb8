//! Which paths can be judged at all.
//!
//! Gateways were bypassed by paths that their rules read in one way and the server behind them in another: dot
//! segments, empty segments, parameters, backslashes, escapes of escapes, invalid UTF-8. A path passes here only if
//! servers of every kind find the same segments in it. What is left open then, and each rule has to hold in both
//! readings, is whether a server takes an escape such as `%24` for what it stands for: [`ParsedPath::decoded`] and
//! [`ParsedPath::written`].

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::hex;

/// Kestrel's bound for a whole request line; no path of Citrix's comes near it. It bounds what judging one costs.
const LONGEST: usize = 8192;

/// A path in which all upstreams find the same segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedPath<'p> {
    decoded: Cow<'p, str>,
    written: Cow<'p, str>,
}

/// Why a path, or an item of a batch, cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Ambiguous {
    /// No slash at the beginning.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// More than 8192 bytes.
    #[error("the path is too long to be judged")]
    TooLong,
    /// A blank, `?`, `#`, or a byte outside ASCII, none of which RFC 3986 has in a path.
    #[error("the path has a character that must be escaped there")]
    Unescaped,
    /// A control character, escaped or not.
    #[error("the path has a control character")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("the path has an invalid percent escape")]
    InvalidEscape,
    /// Escapes that are no UTF-8, such as overlong forms.
    #[error("the path's escapes are not UTF-8")]
    NotUtf8,
    /// `\`
    #[error("the path has a backslash, which some servers take for a slash")]
    Backslash,
    /// `;`
    #[error("the path has a semicolon, from which some servers read parameters")]
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
    /// `.` or `..`, or of which some servers make such a one, or none: dots, blanks and plus signs alone.
    #[error("the path has a segment of dots, blanks or plus signs alone")]
    DotSegment,
    /// A segment that begins or ends with a blank, or ends with a dot, which Windows drops; plus signs may follow.
    #[error("a segment of the path begins or ends with a blank, or ends with a dot")]
    SegmentEdge,
    /// Restriction ASCII, and neither a letter nor a digit, or one that has another spelling (NFKC).
    #[error("the path has a character outside ASCII that some servers take for another")]
    ForeignCharacter,
    /// No rule covers the path, but would in another letter case.
    #[error("the path differs in letter case from what the caller may use")]
    LetterCase,
    /// The rules cover the path only with, or only without, its escapes decoded.
    #[error("the path escapes what need not be, and the rules cover only one of its readings")]
    Escapes,
    /// A relative URL of a batch that may be an absolute one.
    #[error("an item of the batch has an absolute URL")]
    AbsoluteItem,
    /// A batch in a batch.
    #[error("an item of the batch is a batch")]
    NestedBatch,
    /// A relative URL of a batch that names another customer than the batch is for.
    #[error("an item of the batch has a URL that names another customer")]
    OtherCustomer,
    /// An item of a batch with a header field that may change its method, its path or its customer.
    #[error("an item of the batch has a header field that may change its method, path or customer")]
    MisleadingField,
    /// A batch of which the gateway cannot tell the items: another service's, or in another charset.
    #[error("the items of this batch cannot be read")]
    UnreadableBatch,
}

impl Ambiguous {
    /// Whether it is no valid path to begin with: 400 then, where rules apply; else 403.
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
    /// The path as a server reads it that decodes escapes.
    pub fn decoded(&self) -> &str {
        &self.decoded
    }

    /// The path as a server reads it that compares it as it is written: escapes of characters that may stand in a
    /// path themselves (RFC 3986, `pchar`) are left; all others have but one spelling, and are decoded here too.
    pub fn written(&self) -> &str {
        &self.written
    }
}

/// Judges a path without its query.
///
/// # Errors
/// When upstreams may read it in several ways.
pub fn evaluate(path: &str) -> Result<ParsedPath<'_>, Ambiguous> {
    if path.len() > LONGEST {
        return Err(Ambiguous::TooLong);
    }
    if !path.starts_with('/') {
        return Err(Ambiguous::NotAbsolute);
    }
    if let Some(why) = path.bytes().find_map(unfit) {
        return Err(why);
    }
    let judged = read(path)?;
    let rest = &judged.decoded[1..];
    // A slash at the end is no segment; servers differ in whether they see it, and rules do not.
    let segments = rest.strip_suffix('/').unwrap_or(rest);
    if !rest.is_empty() {
        segments.split('/').try_for_each(check_segment)?;
    }
    Ok(judged)
}

/// The segments of a judged path, or of a pattern. A slash at the end counts in neither.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Whether a decoded segment may be another one to some server.
pub(super) fn check_segment(segment: &str) -> Result<(), Ambiguous> {
    if segment.is_empty() {
        return Err(Ambiguous::EmptySegment);
    }
    // Windows drops blanks and dots at the end, and who decodes a form takes a plus sign for a blank.
    let droppable = ['.', ' ', '+'];
    if segment.trim_matches(droppable).is_empty() {
        return Err(Ambiguous::DotSegment);
    }
    // Servers map such characters to ASCII, a wide slash to a slash, in more ways than one. Letters that stay what
    // they are cannot become a delimiter.
    let plain = |c: char| c.is_ascii() || c.is_alphanumeric();
    let stays = || ComposingNormalizerBorrowed::new_nfkc().is_normalized(segment);
    if !segment.chars().all(plain) || !(segment.is_ascii() || stays()) {
        return Err(Ambiguous::ForeignCharacter);
    }
    // Plus signs alone may end a segment: `C++`.
    let end = &segment[segment.trim_end_matches(droppable).len()..];
    if segment.starts_with(' ') || end.contains([' ', '.']) {
        return Err(Ambiguous::SegmentEdge);
    }
    Ok(())
}

/// Why a path cannot have a byte as it is.
fn unfit(byte: u8) -> Option<Ambiguous> {
    match byte {
        0..0x20 | 0x7f => Some(Ambiguous::Control),
        b' ' | b'?' | b'#' | 0x80.. => Some(Ambiguous::Unescaped),
        b'\\' => Some(Ambiguous::Backslash),
        b';' => Some(Ambiguous::Parameters),
        _ => None,
    }
}

fn read(path: &str) -> Result<ParsedPath<'_>, Ambiguous> {
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

/// The byte that two digits stand for, the digits, and what follows.
fn escape(piece: &str) -> Option<(u8, &[u8], &[u8])> {
    let (digits, rest) = piece.as_bytes().split_at_checked(2)?;
    let byte = hex::byte([digits[0], digits[1]])?;
    Some((byte, digits, rest))
}

/// `pchar` of RFC 3986 section 3.3, but for the escapes.
fn needs_no_escape(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}
