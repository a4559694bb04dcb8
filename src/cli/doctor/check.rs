//! One finding.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

/// Subject of a check. The names are a contract (docs/doctor.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// Addresses of a host, or of the egress proxy.
    Dns,
    /// TCP connection to one of the addresses.
    Tcp,
    /// Direct egress, or a tunnel of the egress proxy.
    Egress,
    /// TLS handshake and the signer of the certificate.
    Tls,
    /// Login with one secret.
    Token,
    /// Difference between this machine's clock and Citrix's.
    Skew,
    /// Customer named by the token.
    Customer,
    /// Region of the customer.
    Region,
    /// Site of the customer.
    Site,
    /// Primary of the fleet's store, as a sentinel names it.
    Primary,
    /// Login at the fleet's store.
    Auth,
    /// Primary or replica.
    Role,
    /// Permissions of the user.
    Commands,
    /// Behaviour when the store's memory is full.
    Eviction,
    /// Whether `fleet.key` opens the records of replicas.
    Records,
    /// The replicas in the store.
    Replicas,
}

impl CheckKind {
    #[cfg(test)]
    const ALL: [Self; 16] = [
        Self::Dns,
        Self::Tcp,
        Self::Egress,
        Self::Tls,
        Self::Token,
        Self::Skew,
        Self::Customer,
        Self::Region,
        Self::Site,
        Self::Primary,
        Self::Auth,
        Self::Role,
        Self::Commands,
        Self::Eviction,
        Self::Records,
        Self::Replicas,
    ];

    pub(crate) const fn name(self) -> &'static str {
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
            Self::Primary => "primary",
            Self::Auth => "auth",
            Self::Role => "role",
            Self::Commands => "commands",
            Self::Eviction => "eviction",
            Self::Records => "records",
            Self::Replicas => "replicas",
        }
    }
}

/// Outcome of a check. The names are a contract (docs/doctor.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Works as it should.
    Ok,
    /// Works, but needs attention.
    Warning,
    Failed,
    Skipped,
}

impl CheckState {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One finding. Contains no secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Subject.
    pub check: CheckKind,
    /// Object: `host:port`, a customer, or a customer's secret by the name of its key.
    pub of: String,
    /// Outcome.
    pub state: CheckState,
    /// Finding, for people.
    pub detail: String,
    /// Advice for the operator.
    pub advice: Option<String>,
    /// Duration in milliseconds.
    pub ms: Option<u64>,
    /// Finding, for programs.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub facts: Map<String, Value>,
}

impl Check {
    fn new(check: CheckKind, of: &impl fmt::Display, state: CheckState, detail: String) -> Self {
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

    pub(super) fn ok(check: CheckKind, of: &impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(check, of, CheckState::Ok, detail.into())
    }

    pub(super) fn warning(
        check: CheckKind,
        of: &impl fmt::Display,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(check, of, CheckState::Warning, detail.into()).with_advice(advice)
    }

    pub(super) fn failed(
        check: CheckKind,
        of: &impl fmt::Display,
        detail: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(check, of, CheckState::Failed, detail.into()).with_advice(advice)
    }

    pub(super) fn skipped(
        check: CheckKind,
        of: &impl fmt::Display,
        why: impl Into<String>,
    ) -> Self {
        Self::new(check, of, CheckState::Skipped, why.into())
    }

    fn with_advice(self, advice: impl Into<String>) -> Self {
        Self {
            advice: Some(advice.into()),
            ..self
        }
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
    /// Writes one line.
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
    fn finding_prints_as_a_line_and_serializes_as_an_object() {
        let check = Check::failed(CheckKind::Tcp, &"h:1", "no response", "look at firewalls")
            .took(Duration::from_micros(12_900))
            .fact("address", "192.0.2.1:1");
        assert_eq!(
            check.to_string(),
            "tcp        failed   h:1: no response (12 ms); look at firewalls"
        );
        let object = json!({
            "check": "tcp", "of": "h:1", "state": "failed", "detail": "no response",
            "advice": "look at firewalls", "ms": 12, "facts": { "address": "192.0.2.1:1" },
        });
        assert_eq!(serde_json::to_value(check).unwrap(), object);
        let check = Check::skipped(CheckKind::Site, &"acme", "no token");
        assert_eq!(check.to_string(), "site       skipped  acme: no token");
        let object = json!({
            "check": "site", "of": "acme", "state": "skipped", "detail": "no token", "advice": null, "ms": null,
        });
        assert_eq!(serde_json::to_value(check).unwrap(), object);
    }

    #[test]
    fn names_in_lines_and_objects_are_equal() {
        for kind in CheckKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        for state in [
            CheckState::Ok,
            CheckState::Warning,
            CheckState::Failed,
            CheckState::Skipped,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
    #[test]
    fn documentation_lists_every_kind() {
        let page = include_str!("../../../docs/doctor.md");
        for kind in CheckKind::ALL {
            assert!(
                page.contains(&format!("\n| `{}` | ", kind.name())),
                "{kind:?}"
            );
        }
    }
}
