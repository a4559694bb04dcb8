//! One finding.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

/// What was looked at. The names are a contract (docs/doctor.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A host's addresses, or those of the proxy on the way to it.
    Dns,
    /// A connection to one of them.
    Tcp,
    /// The way out: directly, or by a tunnel of the proxy.
    Egress,
    /// The handshake, and who vouches for the server.
    Tls,
    /// A login with one secret.
    Token,
    /// Our clock against Citrix's.
    Skew,
    /// Whose the token is.
    Customer,
    /// Whether this gateway is the one of the customer's region.
    Region,
    /// The customer's site.
    Site,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::Tcp,
        Self::Egress,
        Self::Tls,
        Self::Token,
        Self::Skew,
        Self::Customer,
        Self::Region,
        Self::Site,
    ];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Egress => "egress",
            Self::Tls => "tls",
            Self::Token => "token",
            Self::Skew => "skew",
            Self::Customer => "customer",
            Self::Region => "region",
            Self::Site => "site",
        }
    }
}

/// How it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and is not as it should be.
    Warning,
    /// It does not work.
    Failed,
    /// Not looked at.
    Skipped,
}

impl State {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One finding. There is no secret in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: Kind,
    /// Of what: `host:port`, a customer, or a customer's secret by the name of its key.
    pub of: String,
    /// How it was found.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it, where there is something.
    pub advice: Option<String>,
    /// How long it took, in milliseconds, where that tells something.
    pub ms: Option<u64>,
    /// The same for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

impl Check {
    fn new(check: Kind, of: &impl fmt::Display, state: State, detail: String) -> Self {
        Self {
            check,
            of: of.to_string(),
            state,
            detail,
            advice: None,
            ms: None,
            facts: Map::new(),
        }
    }

    pub(super) fn ok(check: Kind, of: &impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(check, of, State::Ok, detail.into())
    }

    pub(super) fn warning(
        check: Kind,
        of: &impl fmt::Display,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            advice: Some(advice.into()),
            ..Self::new(check, of, State::Warning, detail.into())
        }
    }

    pub(super) fn failed(
        check: Kind,
        of: &impl fmt::Display,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            advice: Some(advice.into()),
            ..Self::new(check, of, State::Failed, detail.into())
        }
    }

    pub(super) fn skipped(check: Kind, of: &impl fmt::Display, why: impl Into<String>) -> Self {
        Self::new(check, of, State::Skipped, why.into())
    }

    pub(super) fn took(self, time: Duration) -> Self {
        Self {
            ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            ..self
        }
    }

    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}

impl fmt::Display for Check {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} {:<8} {}: {}",
            self.check.name(),
            self.state.name(),
            self.of,
            self.detail
        )?;
        if let Some(ms) = self.ms {
            write!(f, " ({ms} ms)")?;
        }
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finding_is_a_line_and_an_object() {
        let check = Check::failed(Kind::Tcp, &"h:1", "nobody answers", "look at firewalls")
            .took(Duration::from_micros(12_900))
            .fact("address", "192.0.2.1:1");
        assert_eq!(
            check.to_string(),
            "tcp        failed   h:1: nobody answers (12 ms); look at firewalls"
        );
        let object = json!({
            "check": "tcp", "of": "h:1", "state": "failed", "detail": "nobody answers",
            "advice": "look at firewalls", "ms": 12, "facts": { "address": "192.0.2.1:1" },
        });
        assert_eq!(serde_json::to_value(check).unwrap(), object);
        let check = Check::skipped(Kind::Site, &"acme", "no token");
        assert_eq!(check.to_string(), "site       skipped  acme: no token");
        let object = json!({
            "check": "site", "of": "acme", "state": "skipped", "detail": "no token", "advice": null, "ms": null,
        });
        assert_eq!(serde_json::to_value(check).unwrap(), object);
    }

    #[test]
    fn names_in_lines_and_objects_are_the_same() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for state in [State::Ok, State::Warning, State::Failed, State::Skipped] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
    #[test]
    fn the_documentation_has_every_kind() {
        let page = include_str!("../../../docs/doctor.md");
        for kind in Kind::ALL {
            assert!(
                page.contains(&format!("\n| `{}` | ", kind.name())),
                "{kind:?}"
            );
        }
    }
}
