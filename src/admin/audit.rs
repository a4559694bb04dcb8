//! Audit log of the admin listener: rejected requests, and admitted ones that may change something.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request};

use crate::error::{Failure, Reason};
use citrix_wire::transaction_id;

/// The logged parts of a request: no query and no header value.
pub(super) struct AuditedRequest {
    peer: SocketAddr,
    method: Method,
    path: String,
    /// Generated; also the `Citrix-TransactionId` of the response to a rejected request.
    pub(super) transaction_id: HeaderValue,
}

impl AuditedRequest {
    pub(super) fn new<B>(request: &Request<B>, peer: SocketAddr) -> Self {
        Self {
            peer,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            transaction_id: transaction_id::generate(),
        }
    }

    pub(super) fn log_rejected(&self, failure: &Failure) {
        let cause = (failure.reason(), failure.detail().as_ref());
        self.log("refused", "none", Some(cause));
    }

    pub(super) fn log_unauthenticated(&self, cause: &str) {
        let cause = (Reason::CallerUnknown, cause);
        self.log("refused", "none", Some(cause));
    }

    /// Logs the request unless it only reads.
    pub(super) fn log_admitted(&self) {
        if !matches!(self.method, Method::GET | Method::HEAD) {
            self.log("admitted", "operator", None);
        }
    }

    fn log(&self, verdict: &str, caller: &str, rejection: Option<(Reason, &str)>) {
        tracing::info!(
            target: "audit",
            verdict,
            listener = "admin",
            caller,
            peer = %self.peer,
            method = self.method.as_str(),
            path = self.path,
            reason = rejection.map(|(reason, _)| reason.as_str()),
            cause = rejection.map(|(_, cause)| cause),
            transaction_id = self.transaction_id.to_str().unwrap_or_default(),
        );
    }
}
