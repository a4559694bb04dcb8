//! What was decided at the door: a line for each refusal, and one for each call that may change something, by whom
//! it was made, and one for each that rules would refuse if they were not only observed. Neither queries nor header values
//! but the host are in it, nor the name that an unknown caller gave itself, which may be a secret in the wrong place.

use http::Method;

use super::Exchange;
use crate::error::Failure;

/// What was decided.
enum Verdict<'a> {
    Admitted {
        customer: &'a str,
    },
    /// The caller's rules do not allow it, but are only observed.
    WouldDeny {
        customer: &'a str,
        refusal: &'a Failure,
    },
    /// At the gateway's own token endpoints.
    LoggedIn,
    Refused(&'a Failure),
}

impl Exchange {
    /// Notes that the request was refused. Once is enough.
    pub fn audit_refusal(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.refusal_told, true) {
            self.audit(&Verdict::Refused(failure));
        }
    }

    /// Notes that somebody logged in at the gateway itself.
    pub fn audit_login(&self) {
        self.audit(&Verdict::LoggedIn);
    }

    /// Notes that the request was admitted, if it may change something and it is known who made it.
    pub fn audit_admission(&self, customer: &str) {
        let changes = matches!(
            self.method,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE
        );
        if changes && self.caller.is_some() {
            self.audit(&Verdict::Admitted { customer });
        }
    }

    /// Notes and counts what a caller's rules or limits do not allow, but are only observed.
    pub fn would_deny(&self, customer: &str, refusal: &Failure) {
        self.audit(&Verdict::WouldDeny { customer, refusal });
        self.snapshot.metrics.would_deny(self.caller_name()).inc();
    }

    fn audit(&self, verdict: &Verdict<'_>) {
        let (said, customer, failure) = match *verdict {
            Verdict::Admitted { customer } => ("admitted", Some(customer), None),
            Verdict::WouldDeny { customer, refusal } => {
                ("would_deny", Some(customer), Some(refusal))
            }
            Verdict::LoggedIn => ("logged_in", None, None),
            Verdict::Refused(failure) => ("refused", None, Some(failure)),
        };
        // What the caller was told is the whole of it, where nothing more is known.
        let cause = failure.map(|failure| match failure.cause_chain() {
            cause if cause.is_empty() => failure.detail().clone().into_owned(),
            cause => cause,
        });
        let request = self.request_facts();
        tracing::info!(
            target: "audit",
            verdict = said,
            caller = request.caller,
            peer = request.peer.map(tracing::field::display),
            certificate = self.connection.certificate().map(|certificate| certificate.subject.as_str()),
            method = request.method.as_str(),
            path = request.path,
            customer,
            reason = failure.map(|failure| failure.reason().as_str()),
            cause,
            request_id = request.request_id.to_str().unwrap_or_default(),
            transaction_id = request.transaction_id.to_str().unwrap_or_default(),
        );
    }
}
