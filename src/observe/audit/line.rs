//! The format of an audit line: that of the log's other lines, whose field names are a contract.

use std::fmt;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use crate::config::LogFormat;

/// Verdict on a rejected request.
pub(super) const REFUSED: &str = "refused";

/// A decision to log. It holds no query, no header value except `Host`, and no name that an
/// unauthenticated client presented: that may be a secret in the wrong field.
#[derive(Clone, Debug, Default)]
pub struct AuditLine<'a> {
    /// `admitted`, `refused`, `would_deny` or `logged_in`.
    pub verdict: &'static str,
    /// `admin` for requests to the admin listener.
    pub listener: Option<&'static str>,
    /// Name of the caller, `operator` or `none`.
    pub caller: &'a str,
    /// Address of the caller; `None` on a Unix socket.
    pub peer: Option<String>,
    /// Subject of the client certificate.
    pub certificate: Option<&'a str>,
    /// Of the request; `None` in the summary of several.
    pub method: Option<&'a str>,
    /// Without the query.
    pub path: Option<&'a str>,
    pub customer: Option<&'a str>,
    /// Of a rejection.
    pub reason: Option<&'static str>,
    pub cause: Option<&'a str>,
    /// Number of rejections that this line summarizes.
    pub count: Option<u64>,
    pub request_id: Option<&'a str>,
    pub transaction_id: Option<&'a str>,
}

impl AuditLine<'_> {
    fn texts(&self) -> [(&'static str, Option<&str>); 12] {
        [
            ("verdict", Some(self.verdict)),
            ("listener", self.listener),
            ("caller", Some(self.caller)),
            ("peer", self.peer.as_deref()),
            ("certificate", self.certificate),
            ("method", self.method),
            ("path", self.path),
            ("customer", self.customer),
            ("reason", self.reason),
            ("cause", self.cause),
            ("request_id", self.request_id),
            ("transaction_id", self.transaction_id),
        ]
    }

    /// Returns the line with its line end.
    pub(super) fn format(&self, format: LogFormat) -> Vec<u8> {
        let mut timestamp = String::new();
        // A `String` accepts everything.
        SystemTime
            .format_time(&mut Writer::new(&mut timestamp))
            .ok();
        let mut line = match format {
            LogFormat::Json => serde_json::to_vec(&Json(self, &timestamp)).unwrap_or_default(),
            LogFormat::Text => format!("{timestamp}  INFO audit:{self}").into_bytes(),
        };
        line.push(b'\n');
        line
    }

    /// Emits the line as an event.
    pub(super) fn emit(&self) {
        tracing::info!(target: "audit", "{self}");
    }
}

impl fmt::Display for AuditLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in self.texts() {
            if let Some(text) = text {
                write!(f, " {name}={text:?}")?;
            }
        }
        match self.count {
            Some(count) => write!(f, " count={count}"),
            None => Ok(()),
        }
    }
}

/// A line as JSON, with its time.
struct Json<'a>(&'a AuditLine<'a>, &'a str);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(line, timestamp) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timestamp", timestamp)?;
        map.serialize_entry("level", "INFO")?;
        for (name, text) in line.texts() {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        if let Some(count) = line.count {
            map.serialize_entry("count", &count)?;
        }
        map.serialize_entry("target", "audit")?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> AuditLine<'static> {
        AuditLine {
            verdict: REFUSED,
            caller: "none",
            peer: Some("192.0.2.1:5".to_owned()),
            path: Some("/a\"\n"),
            count: Some(7),
            ..AuditLine::default()
        }
    }

    fn text(format: LogFormat) -> String {
        String::from_utf8(line().format(format)).unwrap()
    }

    #[test]
    fn json_line_has_the_fields_with_values_between_time_and_target() {
        let text = text(LogFormat::Json);
        let (time, rest) = text.split_once("\",").unwrap();
        assert!(time.starts_with("{\"timestamp\":\"2") && time.ends_with('Z'));
        let expected = "\"level\":\"INFO\",\"verdict\":\"refused\",\"caller\":\"none\",\
             \"peer\":\"192.0.2.1:5\",\"path\":\"/a\\\"\\n\",\"count\":7,\"target\":\"audit\"}\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn text_line_is_one_line() {
        let text = text(LogFormat::Text);
        let expected = "  INFO audit: verdict=\"refused\" caller=\"none\" peer=\"192.0.2.1:5\" path=\"/a\\\"\\n\" count=7\n";
        assert!(
            text.ends_with(expected) && text.lines().count() == 1,
            "{text}"
        );
    }
}
