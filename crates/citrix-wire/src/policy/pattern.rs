//! Patterns of paths: `*` within a segment, `**` across segments (interface §3.1).
//!
//! No crate of globs fits: their `*` also stands for an empty segment, `/a/**` does not cover `/a`, and they give a
//! meaning to `?`, brackets, braces and backslashes. Over paths that were judged ([`super::path`]), where no
//! segment is empty, what is needed is a screen of code.

use super::path::{Ambiguous, check_segment, segments};

/// The patterns of a caller's `paths`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    patterns: Vec<Pattern>,
    /// The same in lower case, to tell why a path is outside.
    in_lower_case: Vec<Pattern>,
}

/// Why a text is no pattern of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// No slash at the beginning.
    #[error("it does not begin with a slash")]
    NotAbsolute,
    /// A character that stands in no path that can be judged, or that means something in other kinds of patterns.
    #[error("it has {0:?}; * and ** are the only wildcards, and all else is written unescaped")]
    Character(char),
    /// `**` beside other characters.
    #[error("** stands for whole segments, as in /a/**/b")]
    Across,
    /// A segment that no path that can be judged has.
    #[error("no path can match it: {0}")]
    Segment(#[source] Ambiguous),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments, none too.
    Across,
    /// One segment: these texts in this order, with anything between them.
    One(Vec<Box<str>>),
}

impl PathRules {
    /// Reads patterns. `/a/*` covers `/a/b`; `/a/**` covers `/a` and all below it; a slash at the end counts neither
    /// in a pattern nor in a path.
    ///
    /// # Errors
    /// With the index of the first text that is no pattern.
    pub fn new<'t>(
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<Self, (usize, InvalidPattern)> {
        let mut rules = Self::default();
        for (index, text) in texts.into_iter().enumerate() {
            rules
                .patterns
                .push(Pattern::new(text).map_err(|error| (index, error))?);
            // Of letters that lower case takes apart no pattern can be made; they only go without the hint.
            rules
                .in_lower_case
                .extend(Pattern::new(&text.to_lowercase()));
        }
        Ok(rules)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern covers one reading of a judged path.
    pub fn cover(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.covers(path))
    }

    /// Whether one would if letter case did not count.
    pub(super) fn cover_in_another_case(&self, path: &str) -> bool {
        let path = path.to_lowercase();
        self.in_lower_case
            .iter()
            .any(|pattern| pattern.covers(&path))
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, InvalidPattern> {
        let rest = text.strip_prefix('/').ok_or(InvalidPattern::NotAbsolute)?;
        let unfit = |c: &char| c.is_control() || r"\;%?#[]{}".contains(*c);
        if let Some(character) = rest.chars().find(unfit) {
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

    /// Looks back to the last `**` alone, so this takes no more steps than the product of the lengths.
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
            // The last `**` stands for one segment more. An earlier one need not: what it gave up this one can have.
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

/// Whether `segment` is `texts` with anything between them.
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
