//! Audit log of the admin listener: rejected requests, and admitted ones that may change something.
//! The line of an admitted request precedes its effect.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request};

use crate::error::{Failure, Reason};
use crate::observe::audit::{AuditLine, AuditLog, AuditOwner};
use crate::state::Shared;

/// The logged parts of a request: no query and no header value.
pub(super) struct AuditedRequest {
    log: AuditLog,
    peer: SocketAddr,
    method: Method,
    path: String,
    /// Generated; also the `Citrix-TransactionId` of the response to a rejected request.
    pub(super) transaction_id: HeaderValue,
}

impl AuditedRequest {
    pub(super) fn new<B>(request: &Request<B>, peer: SocketAddr, shared: &Shared) -> Self {
        let ids = shared.fleet.as_ref().map(|fleet| fleet.ids());
        Self {
            log: shared.logs.audit.clone(),
            peer,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            transaction_id: ids.unwrap_or_default().generate(),
        }
    }

    pub(super) fn log_rejected(&self, failure: &Failure) {
        self.reject(failure.reason(), failure.detail());
    }

    pub(super) fn log_unauthenticated(&self, cause: &str) {
        self.reject(Reason::CallerUnknown, cause);
    }

    fn reject(&self, reason: Reason, cause: &str) {
        let line = AuditLine {
            reason: Some(reason.as_str()),
            cause: Some(cause),
            ..self.line("refused", "none")
        };
        let owner = AuditOwner::at(Some(self.peer.ip()));
        self.log.record_rejection(owner, reason, &line);
    }

    /// Logs the request unless it only reads, and waits until the log has the line.
    ///
    /// # Errors
    /// `overloaded` if the reader of the log is too slow.
    pub(super) async fn log_admitted(&self) -> Result<(), Failure> {
        if matches!(self.method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        let line = self.line("admitted", "operator");
        match self.log.record(AuditOwner::Operator, &line) {
            Ok(()) => Ok(()),
            Err(line) => Ok(line.queue().await?),
        }
    }

    fn line<'a>(&'a self, verdict: &'static str, caller: &'a str) -> AuditLine<'a> {
        AuditLine {
            verdict,
            listener: Some("admin"),
            caller,
            peer: Some(self.peer.to_string()),
            method: Some(self.method.as_str()),
            path: Some(&self.path),
            transaction_id: self.transaction_id.to_str().ok(),
            ..AuditLine::default()
        }
    }
}
