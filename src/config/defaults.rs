//! Values with a default, which replaces an invalid value, so that the rest is validated too.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::report::Report;
use super::value::{Checked, Leaf};

impl Report<'_> {
    /// Parses the value of `leaf`. Returns `None` if it is not set, or invalid and reported.
    pub(super) fn read<'l, T>(
        &mut self,
        leaf: &'l Leaf,
        example: &str,
        parse: impl FnOnce(&'l Leaf) -> Checked<T>,
    ) -> Option<T> {
        leaf.value.as_ref()?;
        parse(leaf)
            .map_err(|problem| self.invalid(leaf, problem, example))
            .ok()
    }

    pub(super) fn integer<T>(&mut self, leaf: &Leaf, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Copy + Display,
    {
        let parse = |leaf: &Leaf| {
            let number = leaf.integer()?;
            T::try_from(number)
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| outside(number, range.start(), range.end()))
        };
        self.read(leaf, &default.to_string(), parse)
            .unwrap_or(default)
    }

    pub(super) fn fraction(
        &mut self,
        leaf: &Leaf,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> f64 {
        let parse = |leaf: &Leaf| {
            Some(leaf.fraction()?)
                .filter(|number| range.contains(number))
                .ok_or_else(|| outside(leaf.shown(), range.start(), range.end()))
        };
        self.read(leaf, &default.to_string(), parse)
            .unwrap_or(default)
    }

    pub(super) fn boolean(&mut self, leaf: &Leaf, default: bool) -> bool {
        self.read(leaf, &default.to_string(), Leaf::boolean)
            .unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        leaf: &Leaf,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let [start, end, example] = [*range.start(), *range.end(), default].map(written_duration);
        let parse = |leaf: &Leaf| {
            Some(leaf.duration()?)
                .filter(|duration| range.contains(duration))
                .ok_or_else(|| outside(leaf.shown(), start, end))
        };
        self.read(leaf, &format!("\"{example}\""), parse)
            .unwrap_or(default)
    }

    /// Parses a number of bytes.
    pub(super) fn size(&mut self, leaf: &Leaf, default: u64, range: RangeInclusive<u64>) -> u64 {
        let [start, end, example] = [*range.start(), *range.end(), default].map(written_size);
        let parse = |leaf: &Leaf| {
            Some(leaf.size()?)
                .filter(|size| range.contains(size))
                .ok_or_else(|| outside(leaf.shown(), start, end))
        };
        self.read(leaf, &format!("\"{example}\""), parse)
            .unwrap_or(default)
    }

    /// Parses one of `words`. The first is the example.
    pub(super) fn choice<T: Copy>(&mut self, leaf: &Leaf, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let parse = |leaf: &Leaf| {
            let text = leaf.text()?;
            words
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, meaning)| *meaning)
                .ok_or_else(|| format!("{} is not one of {}", leaf.shown(), names.join(", ")))
        };
        let example = format!("\"{}\"", names.first().unwrap_or(&""));
        self.read(leaf, &example, parse)
    }

    /// Parses the path of an existing file.
    pub(super) fn file(&mut self, leaf: &Leaf, example: &str) -> Option<PathBuf> {
        let folder = self.resolve("");
        self.read(leaf, example, |leaf| leaf.file(&folder))
    }
}

fn outside(value: impl Display, start: impl Display, end: impl Display) -> String {
    format!("{value} is not between {start} and {end}")
}

/// Formats a duration with the largest unit that divides it: `100s`, not `1m 40s`.
fn written_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units
        .into_iter()
        .find(|(_, length)| milliseconds != 0 && milliseconds.is_multiple_of(*length));
    match unit {
        Some((unit, length)) => format!("{}{unit}", milliseconds / length),
        None if milliseconds == 0 => "0s".to_owned(),
        None => format!("{milliseconds}ms"),
    }
}

/// Formats a size with the largest unit that divides it: `64KiB`.
fn written_size(bytes: u64) -> String {
    let units = [
        ("EiB", 60),
        ("PiB", 50),
        ("TiB", 40),
        ("GiB", 30),
        ("MiB", 20),
        ("KiB", 10),
    ];
    let unit = units
        .into_iter()
        .find(|(_, bits)| bytes != 0 && bytes.is_multiple_of(1 << bits));
    match unit {
        Some((unit, bits)) => format!("{}{unit}", bytes >> bits),
        None => format!("{bytes}B"),
    }
}
