//! Single values: as written, and parsed.
//!
//! A variable holds text, which is parsed as the type of its key. A value in the file must have the
//! right type.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use toml::{Table, Value};

/// A key and its value as written. No `Debug`: the value may be a secret.
pub(super) struct Leaf {
    /// The path of the key.
    pub(super) path: String,
    /// The value; `None` if the key is not set.
    pub(super) value: Option<Value>,
    /// Whether a variable sets the key.
    pub(super) from_variable: bool,
}

/// A parsed value, or the problem with it.
pub(super) type Checked<T> = Result<T, String>;

impl Leaf {
    pub(super) fn text(&self) -> Checked<&str> {
        self.text_of("string")
    }

    fn text_of(&self, kind: &str) -> Checked<&str> {
        self.value
            .as_ref()
            .and_then(Value::as_str)
            .ok_or_else(|| self.invalid(kind))
    }

    /// Parses a list of strings.
    pub(super) fn texts(&self) -> Checked<Vec<String>> {
        let texts = match &self.value {
            Some(Value::Array(list)) => strings(list),
            Some(Value::String(text)) if self.from_variable => Some(list_in_variable(text)),
            _ => None,
        };
        texts.ok_or_else(|| self.invalid("list of strings"))
    }

    /// Parses one string or a list of strings.
    pub(super) fn text_or_texts(&self) -> Checked<Vec<String>> {
        match &self.value {
            Some(Value::String(text)) if !self.from_variable => Ok(vec![text.clone()]),
            Some(Value::Array(_) | Value::String(_)) => self.texts(),
            _ => Err(self.invalid("string or list of strings")),
        }
    }

    pub(super) fn integer(&self) -> Checked<i64> {
        let number = match &self.value {
            Some(Value::Integer(number)) => Some(*number),
            Some(Value::String(text)) if self.from_variable => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.invalid("integer"))
    }

    pub(super) fn fraction(&self) -> Checked<f64> {
        let number = match &self.value {
            Some(Value::Float(number)) => Some(*number),
            Some(Value::Integer(0)) => Some(0.0),
            Some(Value::Integer(1)) => Some(1.0),
            Some(Value::String(text)) if self.from_variable => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.invalid("fraction"))
    }

    pub(super) fn boolean(&self) -> Checked<bool> {
        let boolean = match &self.value {
            Some(Value::Boolean(boolean)) => Some(*boolean),
            Some(Value::String(text)) if self.from_variable => text.trim().parse().ok(),
            _ => None,
        };
        boolean.ok_or_else(|| self.invalid("boolean"))
    }

    pub(super) fn duration(&self) -> Checked<Duration> {
        const KIND: &str = "duration";
        humantime::parse_duration(self.text_of(KIND)?.trim()).map_err(|_| self.invalid(KIND))
    }

    pub(super) fn size(&self) -> Checked<u64> {
        const KIND: &str = "size";
        if let Some(Value::Integer(bytes)) = self.value {
            return u64::try_from(bytes).map_err(|_| self.invalid(KIND));
        }
        let size: Result<ByteSize, _> = self.text_of(KIND)?.trim().parse();
        size.map(|size| size.as_u64())
            .map_err(|_| self.invalid(KIND))
    }

    /// Parses the path of an existing file, relative to `folder`.
    pub(super) fn file(&self, folder: &Path) -> Checked<PathBuf> {
        let path = folder.join(self.text()?);
        let shown = shown(&path.to_string_lossy());
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err(format!("{shown} is a directory")),
            Ok(_) => Ok(path),
            Err(error) => Err(format!("cannot read {shown}: {error}")),
        }
    }

    fn invalid(&self, kind: &str) -> String {
        format!("invalid {kind} {}", self.shown())
    }

    /// Formats the value for a message. Not for secrets.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            None => "nothing".to_owned(),
            Some(Value::String(text)) => shown(text),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Float(number)) => number.to_string(),
            Some(Value::Boolean(boolean)) => boolean.to_string(),
            Some(Value::Datetime(date)) => date.to_string(),
            Some(Value::Array(_)) => "[…]".to_owned(),
            Some(Value::Table(_)) => "{…}".to_owned(),
        }
    }
}

/// Quotes and truncates text for a message.
pub(super) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// Parses an inline table in a variable.
pub(super) fn parse_table(text: &str) -> Option<Table> {
    match parse_value(text)? {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

fn parse_value(text: &str) -> Option<Value> {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()?
        .remove("value")
}

/// Parses a list in a variable: a TOML array, or items separated by commas. A bracket alone does
/// not make an array: IPv6 addresses begin with one.
fn list_in_variable(text: &str) -> Vec<String> {
    let array = match parse_value(text) {
        Some(Value::Array(list)) => strings(&list),
        _ => None,
    };
    array.unwrap_or_else(|| {
        text.split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    })
}

fn strings(list: &[Value]) -> Option<Vec<String>> {
    list.iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect()
}
