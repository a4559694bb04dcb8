//! The audit log: decisions about who may do what.
//!
//! One line for each rejection, each admitted request that may change something, each login, and
//! each request that rules in `observe` mode would reject. Rejections in a flood are only counted.

use http::Method;

use super::Exchange;
use crate::error::Failure;
use crate::observe::audit::{AuditLine, AuditOwner};

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
    /// A blind tunnel to a host of `intercept.tunnel`.
    Tunnelled,
    /// At the gateway's own token endpoints.
    LoggedIn,
    Rejected(&'a Failure),
}

impl Exchange {
    /// Logs the rejection of the request; only the first call has an effect.
    pub fn audit_rejection(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.rejection_audited, true) {
            self.in_flood = !self.audit(&AuditEvent::Rejected(failure)) && self.caller.is_none();
        }
    }

    /// Logs a login at the gateway itself. [`Exchange::audited`] must follow.
    pub fn audit_login(&mut self) {
        self.audit(&AuditEvent::LoggedIn);
    }

    /// Logs that the request is admitted, if it may change something and its caller is configured.
    /// [`Exchange::audited`] must follow before it is sent.
    pub fn audit_admission(&mut self, customer: &str) {
        let may_change = matches!(
            self.method,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE
        );
        if may_change && self.caller.is_some() {
            self.audit(&AuditEvent::Admitted { customer });
        }
    }

    /// Logs that a blind tunnel is opened. [`Exchange::audited`] must follow before it is.
    pub fn audit_tunnel(&mut self) {
        self.audit(&AuditEvent::Tunnelled);
    }

    /// Waits until the audit log has the lines of the request.
    ///
    /// # Errors
    /// `overloaded` if the reader of the log is too slow for the caller's lines.
    pub async fn audited(&mut self) -> Result<(), Failure> {
        let Some(line) = self.unqueued_line.take() else {
            return Ok(());
        };
        // Boxed: rare.
        Ok(Box::pin(self.count_wait(line.queue())).await?)
    }

    /// Logs and counts a violation of rules or limits in `observe` mode.
    pub fn would_deny(&mut self, customer: &str, failure: &Failure) {
        self.audit(&AuditEvent::WouldDeny { customer, failure });
        self.snapshot.metrics.would_deny(self.caller_name()).inc();
    }

    /// Returns `false` if the event has no line of its own, or none yet.
    fn audit(&mut self, event: &AuditEvent<'_>) -> bool {
        let (verdict, customer, failure) = match *event {
            AuditEvent::Admitted { customer } => ("admitted", Some(customer), None),
            AuditEvent::WouldDeny { customer, failure } => {
                ("would_deny", Some(customer), Some(failure))
            }
            AuditEvent::Tunnelled => ("admitted", None, None),
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
        let line = AuditLine {
            verdict,
            caller: request.caller,
            peer: request.peer.map(|peer| peer.to_string()),
            certificate: certificate.map(|certificate| certificate.subject.as_str()),
            method: Some(request.method.as_str()),
            path: Some(request.path),
            customer,
            reason: failure.map(|failure| failure.reason().as_str()),
            cause: cause.as_deref(),
            request_id: request.request_id.to_str().ok(),
            transaction_id: request.transaction_id.to_str().ok(),
            ..AuditLine::default()
        };
        let owner = match self.caller {
            Some(_) => AuditOwner::Caller(request.caller.into()),
            None => AuditOwner::at(self.address()),
        };
        let log = &self.snapshot.logs.audit;
        if let Some(failure) = failure {
            return log.record_rejection(owner, failure.reason(), &line);
        }
        let unqueued = log.record(owner, &line).err().map(Box::new);
        self.unqueued_line = unqueued;
        self.unqueued_line.is_none()
    }
}
