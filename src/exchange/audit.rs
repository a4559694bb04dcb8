//! What was decided at the door: a line for each refusal, and one for each call that may change something, by whom
//! it was made. Neither queries nor header values are in it, nor the name that an unknown caller gave itself, which
//! may be a secret in the wrong place.

use http::{Method, Uri};

use super::Exchange;
use crate::error::Failure;

/// What was decided.
enum Verdict<'a> {
    Admitted { customer: &'a str },
    LoggedIn,
    Refused { reason: &'static str, cause: String },
}

impl Exchange {
    /// Notes that the request was refused.
    pub fn audit_refusal(&self, target: &Uri, failure: &Failure) {
        let verdict = Verdict::Refused { reason: failure.reason().as_str(), cause: failure.cause_chain() };
        self.audit(target, &verdict);
    }

    /// Notes that somebody logged in at the gateway itself.
    pub fn audit_login(&self, target: &Uri) {
        self.audit(target, &Verdict::LoggedIn);
    }

    /// Notes that the request was admitted, if it may change something and it is known who made it.
    pub fn audit_admission(&self, target: &Uri, customer: &str) {
        let changes = matches!(self.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
        if changes && self.caller.is_some() {
            self.audit(target, &Verdict::Admitted { customer });
        }
    }

    fn audit(&self, target: &Uri, verdict: &Verdict<'_>) {
        let (said, customer, reason, cause) = match verdict {
            Verdict::Admitted { customer } => ("admitted", Some(*customer), None, None),
            Verdict::LoggedIn => ("logged_in", None, None, None),
            Verdict::Refused { reason, cause } => ("refused", None, Some(*reason), Some(cause.as_str())),
        };
        tracing::info!(
            target: "audit",
            verdict = said,
            caller = self.caller_name(),
            peer = self.peer.map(tracing::field::display),
            certificate = self.connection.certificate().map(|certificate| certificate.subject.as_str()),
            method = self.method.as_str(),
            path = target.path(),
            customer,
            reason,
            cause = cause.filter(|cause| !cause.is_empty()),
            request_id = self.request_id.to_str().unwrap_or_default(),
            transaction_id = self.transaction_id.to_str().unwrap_or_default(),
        );
    }
}
