//! A line of the access or audit log, in the format of the log's other lines, whose field names are
//! a contract. tracing's formatter takes nearly half the instructions of a request for a line.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use humantime::format_rfc3339_micros;

use crate::config::LogFormat;
use crate::system::clock::Clock;

/// Bytes of most lines.
const CAPACITY: usize = 1024;

/// The name of a field, with what surrounds it in each format.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub(super) json: &'static str,
    pub(super) text: &'static str,
}

/// Returns the [`Name`] of a literal.
macro_rules! name {
    ($name:literal) => {
        $crate::observe::log_line::Name {
            json: concat!(",\"", $name, "\":"),
            text: concat!(" ", $name, "="),
        }
    };
}
pub(super) use name;

/// A line of level `INFO` that is being written.
pub(super) struct LogLine {
    format: LogFormat,
    target: &'static str,
    bytes: Vec<u8>,
}

impl LogLine {
    /// Begins a line with its time.
    pub(super) fn begin(format: LogFormat, target: &'static str) -> Self {
        let mut bytes = Vec::with_capacity(CAPACITY);
        // Other lines have the system's time, too.
        let now = format_rfc3339_micros(Clock::SYSTEM.now());
        // A `Vec` accepts everything, here and below.
        let _ = match format {
            LogFormat::Json => write!(bytes, "{{\"timestamp\":\"{now}\",\"level\":\"INFO\""),
            LogFormat::Text => write!(bytes, "{now}  INFO {target}:"),
        };
        Self {
            format,
            target,
            bytes,
        }
    }

    /// Begins the fields of an event, which has a time and a target of its own.
    pub(super) fn event() -> Self {
        Self {
            format: LogFormat::Text,
            target: "",
            bytes: Vec::new(),
        }
    }

    /// Adds a text, if there is one.
    pub(super) fn text<'a>(&mut self, name: Name, text: impl Into<Option<&'a str>>) {
        let Some(text) = text.into() else {
            return;
        };
        self.name(name);
        match self.format {
            LogFormat::Json if needs_escape(text) => {
                let _ = serde_json::to_writer(&mut self.bytes, text);
            }
            LogFormat::Json => self.quoted(text),
            LogFormat::Text => {
                let _ = write!(self.bytes, "{text:?}");
            }
        }
    }

    /// Adds a text that needs no escape.
    pub(super) fn display(&mut self, name: Name, text: impl Display) {
        self.name(name);
        let _ = write!(self.bytes, "\"{text}\"");
    }

    pub(super) fn number(&mut self, name: Name, number: u64) {
        self.name(name);
        self.digits(number);
    }

    pub(super) fn flag(&mut self, name: Name) {
        self.name(name);
        self.bytes.extend_from_slice(b"true");
    }

    /// Adds a duration in milliseconds, rounded to whole microseconds.
    pub(super) fn milliseconds(&mut self, name: Name, duration: Duration) {
        self.name(name);
        let micros = duration.as_nanos().saturating_add(500) / 1000;
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        self.digits(micros / 1000);
        // With a leading 1, which the point replaces, so that zeros after the point stay.
        let mut buffer = itoa::Buffer::new();
        let fraction = buffer.format(1000 + micros % 1000);
        let without_zeros = fraction.trim_end_matches('0').len().max(2);
        self.bytes.push(b'.');
        self.bytes
            .extend_from_slice(&fraction.as_bytes()[1..without_zeros]);
    }

    /// Returns the line with its line end.
    pub(super) fn end(mut self) -> Vec<u8> {
        let _ = match self.format {
            LogFormat::Json => writeln!(self.bytes, ",\"target\":\"{}\"}}", self.target),
            LogFormat::Text => writeln!(self.bytes),
        };
        self.bytes
    }

    /// Returns the fields.
    pub(super) fn into_fields(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl LogLine {
    fn name(&mut self, name: Name) {
        let name = match self.format {
            LogFormat::Json => name.json,
            LogFormat::Text => name.text,
        };
        self.bytes.extend_from_slice(name.as_bytes());
    }

    fn quoted(&mut self, text: &str) {
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b'"');
    }

    fn digits(&mut self, number: u64) {
        let mut buffer = itoa::Buffer::new();
        self.bytes
            .extend_from_slice(buffer.format(number).as_bytes());
    }
}

/// Returns `true` if JSON escapes a character of the text (RFC 8259 section 7).
fn needs_escape(text: &str) -> bool {
    // Without an early end, so that it processes many bytes at a time.
    let escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    text.bytes()
        .fold(false, |found, byte| found | escaped(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn line(format: LogFormat) -> String {
        let mut line = LogLine::begin(format, "access");
        line.text(name!("path"), "/a\"\n");
        line.text(name!("via"), None);
        line.display(name!("peer"), "192.0.2.1:5");
        line.number(name!("status"), 200);
        line.milliseconds(name!("total_ms"), Duration::from_nanos(1_234_567));
        line.flag(name!("collapsed"));
        String::from_utf8(line.end()).unwrap()
    }

    #[test]
    fn json_line_has_the_fields_with_values_between_time_and_target() {
        let line = line(LogFormat::Json);
        let (time, rest) = line.split_once("\",").unwrap();
        assert!(time.starts_with("{\"timestamp\":\"2") && time.ends_with('Z'));
        let expected = r#""level":"INFO","path":"/a\"\n","peer":"192.0.2.1:5","status":200,"total_ms":1.235,"collapsed":true,"target":"access"}"#;
        assert_eq!(rest, format!("{expected}\n"));
    }

    #[test]
    fn text_line_is_one_line() {
        let line = line(LogFormat::Text);
        let expected = r#"  INFO access: path="/a\"\n" peer="192.0.2.1:5" status=200 total_ms=1.235 collapsed=true"#;
        assert!(line.ends_with(&format!("{expected}\n")), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn milliseconds_have_one_to_three_decimals() {
        for (nanoseconds, expected) in [
            (0, "0.0"),
            (499, "0.0"),
            (500, "0.001"),
            (1_000_000, "1.0"),
            (12_100_000, "12.1"),
            (12_050_000, "12.05"),
            (999_999_500, "1000.0"),
            (3_600_000_000_000, "3600000.0"),
        ] {
            let mut line = LogLine::event();
            line.milliseconds(name!("t"), Duration::from_nanos(nanoseconds));
            assert_eq!(line.into_fields(), format!(" t={expected}"));
        }
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(text: String) {
            let mut line = LogLine::begin(LogFormat::Json, "access");
            line.text(name!("path"), &*text);
            let line: Value = serde_json::from_slice(&line.end()).unwrap();
            prop_assert_eq!(&line["path"], &Value::from(text));
        }
    }
}
