//! Path patterns: `*` within a segment, `**` for any number of segments (interface §3.1).
//!
//! Glob crates do not fit: their `*` matches an empty segment, their `/a/**` does not cover `/a`,
//! and `?`, brackets, braces and backslashes are special. Patterns match unambiguous paths
//! ([`super::path`]), which have no empty segment.

use super::path::{Ambiguous, check_segment, segments};

/// The patterns of a caller's `paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    patterns: Vec<Pattern>,
    /// The patterns in lower case, to report a mismatch that is one of case only.
    lower_case: Vec<Pattern>,
}

/// Why a text is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// No leading slash.
    #[error("it does not begin with a slash")]
    NotAbsolute,
    /// A character that no unambiguous path contains, or that is special in other pattern
    /// languages.
    #[error(
        "it contains {0:?}; only * and ** are wildcards, and all other characters are unescaped"
    )]
    Character(char),
    /// `**` beside other characters.
    #[error("** must be a whole segment, as in /a/**/b")]
    Across,
    /// A segment that no unambiguous path contains.
    #[error("no path can match it: {0}")]
    Segment(#[source] Ambiguous),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments, including none.
    Across,
    /// One segment: the texts between its `*`.
    One(Vec<Box<str>>),
}

impl PathRules {
    /// Parses patterns. `/a/*` covers `/a/b`; `/a/**` covers `/a` and everything below it. Trailing
    /// slashes of patterns and paths are ignored.
    ///
    /// # Errors
    /// The first invalid pattern, with its index.
    pub fn new<'t>(
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, (usize, InvalidPattern)> {
        let mut rules = Self::default();
        for (index, text) in texts.into_iter().enumerate() {
            rules
                .patterns
                .push(Pattern::new(text).map_err(|error| (index, error))?);
            // The lower case of some letters is invalid; mismatches of their patterns are not
            // reported as such.
            rules.lower_case.extend(Pattern::new(&text.to_lowercase()));
        }
        Ok(rules)
    }

    /// Returns `true` without patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns `true` if a pattern covers this reading of a path.
    pub fn cover(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(path))
    }

    /// Like [`cover`](Self::cover), ignoring case.
    pub(super) fn cover_ignoring_case(&self, path: &str) -> bool {
        let path = path.to_lowercase();
        self.lower_case.iter().any(|pattern| pattern.covers(&path))
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, InvalidPattern> {
        let rest = text.strip_prefix('/').ok_or(InvalidPattern::NotAbsolute)?;
        let forbidden = |c: &char| c.is_control() || r"\;%?#[]{}".contains(*c);
        if let Some(character) = rest.chars().find(forbidden) {
            return Err(InvalidPattern::Character(character));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() && text.len() < 2 {
            return Ok(Self(Vec::new()));
        }
        rest.split('/')
            .map(Segment::new)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Backtracks only to the last `**`, so that the number of steps is at most the product of the
    /// lengths.
    fn covers(&self, path: &str) -> bool {
        let (mut pattern, mut path) = (self.0.as_slice(), segments(path));
        let mut after_across = None;
        loop {
            match pattern.split_first() {
                Some((Segment::Across, rest)) => {
                    pattern = rest;
                    after_across = Some((rest, path.clone()));
                    continue;
                }
                Some((Segment::One(texts), rest)) => {
                    let mut ahead = path.clone();
                    if ahead.next().is_some_and(|segment| matches(texts, segment)) {
                        (pattern, path) = (rest, ahead);
                        continue;
                    }
                }
                None if path.clone().next().is_none() => return true,
                None => {}
            }
            // Extends the last `**` by one segment. Extending an earlier one would not help: this
            // one can match the same.
            let Some((rest, from)) = &mut after_across else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            (pattern, path) = (rest, from.clone());
        }
    }
}

impl Segment {
    fn new(text: &str) -> Result<Self, InvalidPattern> {
        if text == "**" {
            return Ok(Self::Across);
        }
        if text.contains("**") {
            return Err(InvalidPattern::Across);
        }
        check_segment(text).map_err(InvalidPattern::Segment)?;
        Ok(Self::One(text.split('*').map(Box::from).collect()))
    }
}

/// Returns `true` if `segment` consists of `texts` with anything between them.
fn matches(texts: &[Box<str>], segment: &str) -> bool {
    let [first, between @ .., last] = texts else {
        return texts.iter().all(|only| **only == *segment);
    };
    let Some(rest) = segment.strip_prefix(&**first) else {
        return false;
    };
    let Some(mut rest) = rest.strip_suffix(&**last) else {
        return false;
    };
    for text in between {
        let Some((_, after)) = rest.split_once(&**text) else {
            return false;
        };
        rest = after;
    }
    true
}
