//! The ways in which servers may read a path.
//!
//! A path is forwarded as it was written, and servers differ in what they make of `%2F`, `//`,
//! `/./`, `..`, `\`, `;` and the like. A decision that protects something, such as a limit or the
//! replacement of a token, therefore holds for every reading: each is decoded and normalized. Nearly
//! every path has only one, the path itself.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::percent;

/// Bytes that a search for readings may examine. An escape or two cost five times the length of a
/// path; combined ones multiply.
const MAX_EXAMINED: usize = 32 * 1024;
/// Maximum number of readings of one path.
const MAX_READINGS: usize = 64;

/// The normalized readings of a path. Empty, without an allocation, for a path that all servers read
/// as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathReadings(Vec<String>);

/// A path whose readings are too many or too long to be searched. The request must be rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "servers may read the path in too many ways; write it shorter, or without needless escapes, empty segments and \
     dot segments"
)]
pub struct TooManyReadings;

impl PathReadings {
    /// Returns the readings of `path`: decoded once, twice or completely, up to the first `?`, `#`
    /// or NUL or beyond, with `..` resolved or kept; without empty segments, parameters, and the
    /// spaces and dots that Windows drops.
    ///
    /// # Errors
    /// If the search is too expensive.
    pub fn of(path: &str) -> Result<Self, TooManyReadings> {
        if is_plain(path) {
            return Ok(Self::default());
        }
        let mut search = Search::default();
        search.find(path)?;
        Ok(Self(search.found))
    }

    /// Returns the readings of a path below `prefix`, from those of `rest`, the path behind it.
    ///
    /// # Errors
    /// If the search is too expensive.
    pub fn below(prefix: &str, rest: &str) -> Result<Self, TooManyReadings> {
        let mut readings = Self::of(rest)?;
        for reading in &mut readings.0 {
            reading.insert_str(0, prefix);
        }
        Ok(readings)
    }

    /// Returns `true` if all servers read the path as it was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the normalized readings.
    pub fn normalized(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(String::as_str)
    }

    /// Returns the normalized readings, or `written` if all servers read it alike.
    pub fn all<'r>(&'r self, written: &'r str) -> impl Iterator<Item = &'r str> + Clone {
        let only = self.is_empty().then_some(written);
        only.into_iter().chain(self.normalized())
    }

    /// Returns the path as written and its normalized readings.
    pub fn with<'r>(&'r self, written: &'r str) -> impl Iterator<Item = &'r str> + Clone {
        std::iter::once(written).chain(self.normalized())
    }
}

/// A search for the readings of one path.
#[derive(Default)]
struct Search {
    found: Vec<String>,
    /// Bytes of the texts that were examined.
    examined: usize,
}

impl Search {
    fn find(&mut self, path: &str) -> Result<(), TooManyReadings> {
        let mut texts = self.decode(path)?;
        if path.contains(';') {
            // Tomcat removes parameters before it decodes.
            texts.extend(self.decode(&without_parameters(path))?);
        }
        texts.dedup();
        for decoded in &texts {
            for text in beginnings(decoded) {
                for dots in Dots::of(text) {
                    for separators in separators_in(text) {
                        self.examine(text.len())?;
                        self.add(normalize(text, separators, *dots))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn decode(&mut self, path: &str) -> Result<Vec<String>, TooManyReadings> {
        self.examine(path.len() * DECODINGS)?;
        Ok(decodings(path).into())
    }

    /// Counts bytes before they are examined.
    fn examine(&mut self, bytes: usize) -> Result<(), TooManyReadings> {
        if bytes > MAX_EXAMINED - self.examined {
            return Err(TooManyReadings);
        }
        self.examined += bytes;
        Ok(())
    }

    fn add(&mut self, reading: String) -> Result<(), TooManyReadings> {
        if self.found.contains(&reading) {
            return Ok(());
        }
        if self.found.len() == MAX_READINGS {
            return Err(TooManyReadings);
        }
        self.found.push(reading);
        Ok(())
    }
}

/// No meaning in any reading.
const PLAIN: u8 = 0;
const SLASH: u8 = 1;
/// A meaning only at an edge of a segment.
const EDGE: u8 = 2;
/// A meaning anywhere.
const SPECIAL: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [SPECIAL; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'/' => SLASH,
            b'.' | b'+' => EDGE,
            b'%' | b'\\' | b';' | b'?' | b'#' => SPECIAL,
            _ => PLAIN,
        };
        byte += 1;
    }
    classes
};

/// Returns `true` if a path has one reading. One pass, since every request takes it.
fn is_plain(path: &str) -> bool {
    let mut before = PLAIN;
    for byte in path.bytes() {
        let class = CLASSES[usize::from(byte)];
        if class != PLAIN {
            let is_edge = before != PLAIN && (before | class) & SLASH != 0;
            if class == SPECIAL || is_edge {
                return false;
            }
        }
        before = class;
    }
    before != EDGE
}

/// Decodes escapes until none is left, as a chain of servers may.
fn decode_completely(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        bytes.push(byte);
        // A decoded byte may complete another escape.
        while let [.., b'%', high, low] = bytes[..]
            && let Some(decoded) = crate::hex::byte([high, low])
        {
            bytes.truncate(bytes.len() - 3);
            bytes.push(decoded);
        }
        // Overlong UTF-8 of an ASCII character.
        if let [.., first @ (0xc0 | 0xc1), second @ 0x80..0xc0] = bytes[..] {
            bytes.truncate(bytes.len() - 2);
            bytes.push((first & 1) << 6 | second & 0x3f);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Maps characters that some servers replace by ASCII: compatibility forms, other slashes,
/// zero-width spaces.
fn fold_compatible(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let folded: String = text.chars().filter_map(fold).collect();
    match ComposingNormalizerBorrowed::new_nfkc().normalize(&folded) {
        Cow::Borrowed(_) => folded,
        Cow::Owned(normalized) => normalized,
    }
}

fn fold(character: char) -> Option<char> {
    match character {
        '\u{2044}' | '\u{2215}' => Some('/'),
        '\u{2216}' => Some('\\'),
        '\u{200b}' => None,
        other => Some(other),
    }
}

/// The treatment of `..`.
#[derive(Clone, Copy)]
struct Dots {
    /// They remain in the path; otherwise they are removed with the segment before.
    kept: bool,
    /// The segment before is one that no server drops.
    after_drops: bool,
    /// `..;x` is `..` and `.;x` is `.`; otherwise they are names.
    with_parameters: bool,
}

impl Dots {
    /// Returns the treatments that make a difference for a text.
    fn of(text: &str) -> &'static [Self] {
        const fn resolved(after_drops: bool, with_parameters: bool) -> Dots {
            Dots {
                kept: false,
                after_drops,
                with_parameters,
            }
        }
        const ALL: &[Dots] = &[
            Dots {
                kept: true,
                after_drops: true,
                with_parameters: true,
            },
            resolved(false, true),
            resolved(true, true),
            resolved(false, false),
            resolved(true, false),
        ];
        match (text.contains(".."), text.contains(".;")) {
            (false, _) => &ALL[..1],
            (true, false) => &ALL[..3],
            (true, true) => ALL,
        }
    }
}

const DECODINGS: usize = 4;

/// Returns a path decoded once, twice, completely, and with compatibility forms folded.
fn decodings(path: &str) -> [String; DECODINGS] {
    let once = percent::decode_lossy(path);
    let twice = percent::decode_lossy(&once);
    let completely = decode_completely(path);
    let folded = fold_compatible(&completely);
    [once, twice, completely, folded]
}

/// Returns a text and its beginnings up to a NUL, a `?` or `#`, or any of them.
fn beginnings(text: &str) -> Vec<&str> {
    const ENDS: [&[char]; 3] = [&['\0'], &['?', '#'], &['?', '#', '\0']];
    let mut found = vec![text];
    for ends in ENDS {
        let beginning = text.split(ends).next().unwrap_or_default();
        if !found.contains(&beginning) {
            found.push(beginning);
        }
    }
    found
}

fn without_parameters(path: &str) -> String {
    let bare = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(bare).collect::<Vec<_>>().join("/")
}

/// Returns the sets of characters at which servers split a text, if they make a difference.
fn separators_in(text: &str) -> &'static [&'static [char]] {
    const ALL: &[&[char]] = &[&['/', '\\'], &['/']];
    if text.contains('\\') { ALL } else { &ALL[..1] }
}

/// Returns the path of a decoded text's segments.
fn normalize(text: &str, separators: &[char], dots: Dots) -> String {
    let mut path = String::with_capacity(text.len());
    for segment in text.split(separators) {
        let bare = segment.split(';').next().unwrap_or_default();
        let trimmed = bare
            .trim_start_matches([' ', '+'])
            .trim_end_matches([' ', '.', '+']);
        let name = match bare {
            ".." if dots.kept || !dots.with_parameters && bare != segment => bare,
            ".." => {
                path.truncate(path.rfind('/').unwrap_or_default());
                continue;
            }
            "." if dots.with_parameters || bare == segment => continue,
            "." => bare,
            _ if !trimmed.is_empty() => trimmed,
            // Dropped by some servers only.
            _ if !dots.after_drops => segment,
            _ => continue,
        };
        if !name.is_empty() {
            path.push('/');
            path.push_str(name);
        }
    }
    if path.is_empty() {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_servers_read_alike_has_one_reading() {
        for path in [
            "/",
            "/a/b/",
            "/cvad/manage/$batch",
            "/cvad/manage/Machines/vm1.example.net",
            "/monitorodata/Machines(1)/$count",
            "/a/C++x/~u/@b,c='d'&e=f!*:",
        ] {
            let readings = PathReadings::of(path).unwrap();
            assert!(readings.is_empty(), "{path}: {readings:?}");
        }
    }

    #[test]
    fn every_reading_of_a_path_is_found() {
        let cases: [(&str, &[&str]); 22] = [
            ("//a", &["/a"]),
            ("/./a//b/.", &["/a/b"]),
            ("/%61/%2561", &["/a/%61", "/a/a"]),
            ("/a%2Fb\\c", &["/a/b/c", "/a/b\\c"]),
            ("/a%252fb", &["/a%2fb", "/a/b"]),
            ("/a/../b", &["/a/../b", "/b"]),
            ("/a/%2e%2e/b", &["/a/../b", "/b"]),
            ("/a/.%2e;x/b", &["/a/../b", "/b"]),
            ("/../a/..;", &["/../a/..", "/", "/a/.."]),
            ("/a/...", &["/a", "/a/..."]),
            ("/a/+/../b", &["/a/../b", "/a/b", "/b"]),
            ("/a;b=c/d;", &["/a/d"]),
            ("/a%3Bb", &["/a"]),
            ("/a./b%20/+c+", &["/a/b/c"]),
            ("/a%3Fb/c", &["/a?b/c", "/a"]),
            ("/a%00b", &["/a\0b", "/a"]),
            ("/a%23", &["/a#", "/a"]),
            ("/..", &["/..", "/"]),
            ("/a%c0%afb", &["/a\u{fffd}\u{fffd}b", "/a/b"]),
            ("/a%EF%BC%8Fb", &["/a\u{ff0f}b", "/a/b"]),
            ("/\u{e9}", &["/\u{e9}"]),
            ("/a%", &["/a%"]),
        ];
        for (path, expected) in cases {
            let readings = PathReadings::of(path).unwrap();
            let found: Vec<_> = readings.normalized().collect();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn readings_below_a_prefix_keep_it() {
        let readings = PathReadings::below("/direct/acme", "/../x").unwrap();
        let found: Vec<_> = readings.normalized().collect();
        assert_eq!(found, ["/direct/acme/../x", "/direct/acme/x"]);
    }

    #[test]
    fn examined_bytes_are_bounded_for_every_path() {
        let parts = [
            "/%20a",
            "/..;/.;x",
            "/a%25252e%2525252fb;c/..;/x\\y%3fz%23w%00%c0%afq/%EF%BC%8F/../+",
            "/a/./..",
            "/;",
            "%25",
        ];
        for part in parts {
            for length in [100, 1000, 10_000, 100_000, 4_000_000] {
                let path = format!("/{}", part.repeat(length / part.len()));
                let mut search = Search::default();
                let found = search.find(&path);
                assert!(search.examined <= MAX_EXAMINED, "{part} {length}");
                assert!(search.found.len() <= MAX_READINGS, "{part} {length}");
                assert_eq!(found.is_err(), PathReadings::of(&path).is_err());
                assert!(found.is_err() || length < 10_000, "{part} {length}");
            }
        }
    }

    #[test]
    fn long_path_is_accepted_unless_it_is_unusual() {
        let plain = "/a/b".repeat(20_000);
        assert_eq!(PathReadings::of(&plain), Ok(PathReadings::default()));
        let escaped = format!("/cvad/manage/{}", "%E4%B8%AD".repeat(650));
        assert_eq!(PathReadings::of(&escaped).unwrap().normalized().count(), 1);
        let longer = "/%E4%B8%AD".repeat(900);
        assert_eq!(PathReadings::of(&longer), Err(TooManyReadings));
    }
}
