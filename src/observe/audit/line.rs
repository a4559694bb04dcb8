//! The fields of an audit line.

use crate::config::LogFormat;
use crate::observe::log_line::{LogLine, name};

/// Target of the log's audit lines.
const TARGET: &str = "audit";
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
    /// Returns the line with its line end.
    pub(super) fn format(&self, format: LogFormat) -> Vec<u8> {
        let mut line = LogLine::begin(format, TARGET);
        self.add_to(&mut line);
        line.end()
    }

    /// Emits the line as an event.
    pub(super) fn emit(&self) {
        let mut line = LogLine::event();
        self.add_to(&mut line);
        tracing::info!(target: TARGET, "{}", line.into_fields());
    }

    fn add_to(&self, line: &mut LogLine) {
        line.text(name!("verdict"), self.verdict);
        line.text(name!("listener"), self.listener);
        line.text(name!("caller"), self.caller);
        line.text(name!("peer"), self.peer.as_deref());
        line.text(name!("certificate"), self.certificate);
        line.text(name!("method"), self.method);
        line.text(name!("path"), self.path);
        line.text(name!("customer"), self.customer);
        line.text(name!("reason"), self.reason);
        line.text(name!("cause"), self.cause);
        line.text(name!("request_id"), self.request_id);
        line.text(name!("transaction_id"), self.transaction_id);
        if let Some(count) = self.count {
            line.number(name!("count"), count);
        }
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
