//! Single values: what was written, and what it means.
//!
//! What a variable says is text, and is taken for whatever the key must be. What a file says has a type already,
//! and has to have the right one.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use toml::Value;

use super::report::Report;
use super::syntax;

/// What was written behind a key. No `Debug`: it may be a secret.
pub(super) struct Leaf {
    /// The key's path.
    pub(super) path: String,
    /// The value, if the key is there.
    pub(super) value: Option<Value>,
    /// Whether a variable (and not the file) says so.
    pub(super) from_variable: bool,
}

/// A value, or what is wrong with it.
pub(super) type Checked<T> = Result<T, String>;

impl Leaf {
    /// A string.
    pub(super) fn text(&self) -> Checked<&str> {
        self.text_as("a string in quotes")
    }

    fn text_as(&self, kind: &str) -> Checked<&str> {
        self.value
            .as_ref()
            .and_then(Value::as_str)
            .ok_or_else(|| format!("{} is not {kind}", self.shown()))
    }

    /// A list of strings.
    pub(super) fn texts(&self) -> Checked<Vec<String>> {
        let texts = match &self.value {
            Some(Value::Array(list)) => texts(list),
            Some(Value::String(text)) if self.from_variable => Some(separated(text)),
            _ => None,
        };
        texts.ok_or_else(|| format!("{} is not a list of strings", self.shown()))
    }

    /// One string, or a list of them.
    pub(super) fn text_or_texts(&self) -> Checked<Vec<String>> {
        match &self.value {
            Some(Value::String(text)) if !self.from_variable => Ok(vec![text.clone()]),
            Some(Value::Array(_) | Value::String(_)) => self.texts(),
            _ => Err(format!(
                "{} is neither a string nor a list of strings",
                self.shown()
            )),
        }
    }

    fn integer(&self) -> Checked<i64> {
        let number = match &self.value {
            Some(Value::Integer(number)) => Some(*number),
            Some(Value::String(text)) if self.from_variable => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("{} is not a whole number", self.shown()))
    }

    fn fraction(&self) -> Checked<f64> {
        let number = match &self.value {
            Some(Value::Float(number)) => Some(*number),
            Some(Value::Integer(0)) => Some(0.0),
            Some(Value::Integer(1)) => Some(1.0),
            Some(Value::String(text)) if self.from_variable => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("{} is not a fraction", self.shown()))
    }

    fn yes_or_no(&self) -> Checked<bool> {
        let yes = match &self.value {
            Some(Value::Boolean(yes)) => Some(*yes),
            Some(Value::String(text)) if self.from_variable => text.trim().parse().ok(),
            _ => None,
        };
        yes.ok_or_else(|| format!("{} is neither true nor false", self.shown()))
    }

    fn duration(&self) -> Checked<Duration> {
        const KIND: &str = "a duration, which is a number with a unit: ms, s, m or h";
        let text = self.text_as(KIND)?;
        humantime::parse_duration(text.trim())
            .map_err(|_| format!("{} is not {KIND}", self.shown()))
    }

    fn size(&self) -> Checked<u64> {
        const KIND: &str = "a size, which is a number with a unit: B, KiB, MiB or GiB";
        if let Some(Value::Integer(bytes)) = self.value {
            return u64::try_from(bytes).map_err(|_| format!("{bytes} is not {KIND}"));
        }
        let text = self.text_as(KIND)?;
        let size: Result<ByteSize, _> = text.trim().parse();
        size.map(|size| size.as_u64())
            .map_err(|_| format!("{} is not {KIND}", self.shown()))
    }

    /// The path of a file that is there.
    fn file(&self) -> Checked<PathBuf> {
        let path = PathBuf::from(self.text()?);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                Err(format!("{} is a directory, not a file", self.shown()))
            }
            Ok(_) => Ok(path),
            Err(error) => Err(format!("{} cannot be read: {error}", self.shown())),
        }
    }

    /// The value, for a message. Not for secrets.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            None => "nothing".to_owned(),
            Some(Value::String(text)) => shown(text),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Float(number)) => number.to_string(),
            Some(Value::Boolean(yes)) => yes.to_string(),
            Some(Value::Datetime(_)) => "a date".to_owned(),
            Some(Value::Array(_)) => "this list".to_owned(),
            Some(Value::Table(_)) => "a table".to_owned(),
        }
    }
}

/// Text for a message: quoted, and cut off where it gets long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// The items of a list in a variable: a TOML list, or separated by commas.
fn separated(text: &str) -> Vec<String> {
    // An IPv6 address begins with a bracket too.
    let list = syntax::parse_list(text).and_then(|list| texts(&list));
    list.unwrap_or_else(|| {
        text.split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    })
}

fn texts(list: &[Value]) -> Option<Vec<String>> {
    list.iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// Values with a default. A mistake is reported and the default stands in, so that the rest is checked too.
impl Report<'_> {
    /// What `leaf` says according to `parse`, if the key is there and right.
    pub(super) fn read<'l, T>(
        &mut self,
        leaf: &'l Leaf,
        example: &str,
        parse: impl FnOnce(&'l Leaf) -> Checked<T>,
    ) -> Option<T> {
        leaf.value.as_ref()?;
        parse(leaf)
            .map_err(|what| self.wrong(leaf, what, example))
            .ok()
    }

    /// A whole number.
    pub(super) fn whole<T>(&mut self, leaf: &Leaf, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Copy + Display,
    {
        let parse = |leaf: &Leaf| {
            let number = leaf.integer()?;
            let fitting = T::try_from(number)
                .ok()
                .filter(|number| range.contains(number));
            fitting.ok_or_else(|| {
                format!(
                    "{number} is not between {} and {}",
                    range.start(),
                    range.end()
                )
            })
        };
        self.read(leaf, &default.to_string(), parse)
            .unwrap_or(default)
    }

    /// A fraction.
    pub(super) fn fraction(
        &mut self,
        leaf: &Leaf,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> f64 {
        let parse = |leaf: &Leaf| {
            let number = leaf.fraction()?;
            let out = || {
                format!(
                    "{number} is not between {} and {}",
                    range.start(),
                    range.end()
                )
            };
            Some(number)
                .filter(|number| range.contains(number))
                .ok_or_else(out)
        };
        self.read(leaf, &default.to_string(), parse)
            .unwrap_or(default)
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, leaf: &Leaf, default: bool) -> bool {
        self.read(leaf, &default.to_string(), Leaf::yes_or_no)
            .unwrap_or(default)
    }

    /// A span of time.
    pub(super) fn duration(
        &mut self,
        leaf: &Leaf,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |leaf: &Leaf| {
            let duration = leaf.duration()?;
            let (least, most) = (
                written_duration(*range.start()),
                written_duration(*range.end()),
            );
            let out = || format!("{} is not between {least} and {most}", leaf.shown());
            Some(duration)
                .filter(|duration| range.contains(duration))
                .ok_or_else(out)
        };
        self.read(leaf, &format!("\"{}\"", written_duration(default)), parse)
            .unwrap_or(default)
    }

    /// A number of bytes.
    pub(super) fn size(&mut self, leaf: &Leaf, default: u64, range: RangeInclusive<u64>) -> u64 {
        let parse = |leaf: &Leaf| {
            let size = leaf.size()?;
            let (least, most) = (written_size(*range.start()), written_size(*range.end()));
            let out = || format!("{} is not between {least} and {most}", leaf.shown());
            Some(size)
                .filter(|size| range.contains(size))
                .ok_or_else(out)
        };
        self.read(leaf, &format!("\"{}\"", written_size(default)), parse)
            .unwrap_or(default)
    }

    /// One of a few words; the first is the example.
    pub(super) fn choice<T: Copy>(&mut self, leaf: &Leaf, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let parse = |leaf: &Leaf| {
            let text = leaf.text()?;
            let found = words
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, meaning)| *meaning);
            found.ok_or_else(|| format!("{} is none of {}", leaf.shown(), names.join(", ")))
        };
        self.read(
            leaf,
            &format!("\"{}\"", names.first().unwrap_or(&"")),
            parse,
        )
    }

    /// A file that is there.
    pub(super) fn file(&mut self, leaf: &Leaf, example: &str) -> Option<PathBuf> {
        self.read(leaf, example, Leaf::file)
    }
}

/// A duration as people write it: `100s`, not `1m 40s`.
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

/// A size as people write it: `64KiB`.
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
