//! The audit log: decisions about who may do what.
//!
//! One line for each rejection, each admitted request that may change something, each login, and
//! each request that rules in `observe` mode would reject. It holds no query, no header value
//! except `Host`, and no name that an unauthenticated caller presented: that may be a secret in the
//! wrong field.

use http::Method;

use super::Exchange;
use crate::error::Failure;

/// A decision to log.
enum AuditEvent<'a> {
    Admitted {
        customer: &'a str,
    },
    /// The caller's rules or limits reject the request, in `observe` mode.
    WouldDeny {
        customer: &'a str,
        failure: &'a Failure,
    },
    /// At the gateway's own token endpoints.
    LoggedIn,
    Rejected(&'a Failure),
}

impl Exchange {
    /// Logs the rejection of the request; only the first call has an effect.
    pub fn audit_rejection(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.rejection_audited, true) {
            self.audit(&AuditEvent::Rejected(failure));
        }
    }

    /// Logs a login at the gateway itself.
    pub fn audit_login(&self) {
        self.audit(&AuditEvent::LoggedIn);
    }

    /// Logs that the request is admitted, if it may change something and its caller is configured.
    pub fn audit_admission(&self, customer: &str) {
        let may_change = matches!(
            self.method,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE
        );
        if may_change && self.caller.is_some() {
            self.audit(&AuditEvent::Admitted { customer });
        }
    }

    /// Logs and counts a violation of rules or limits in `observe` mode.
    pub fn would_deny(&self, customer: &str, failure: &Failure) {
        self.audit(&AuditEvent::WouldDeny { customer, failure });
        self.snapshot.metrics.would_deny(self.caller_name()).inc();
    }

    fn audit(&self, event: &AuditEvent<'_>) {
        let (verdict, customer, failure) = match *event {
            AuditEvent::Admitted { customer } => ("admitted", Some(customer), None),
            AuditEvent::WouldDeny { customer, failure } => {
                ("would_deny", Some(customer), Some(failure))
            }
            AuditEvent::LoggedIn => ("logged_in", None, None),
            AuditEvent::Rejected(failure) => ("refused", None, Some(failure)),
        };
        // The detail, if there is no cause that the response hides.
        let cause = failure.map(|failure| match failure.cause_chain() {
            cause if cause.is_empty() => failure.detail().clone().into_owned(),
            cause => cause,
        });
        let request = self.request_facts();
        let certificate = self.connection.certificate();
        tracing::info!(
            target: "audit",
            verdict,
            caller = request.caller,
            peer = request.peer.map(tracing::field::display),
            certificate = certificate.map(|certificate| certificate.subject.as_str()),
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
