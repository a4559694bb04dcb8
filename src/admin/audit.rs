//! Lines of the audit log for the operators' side: who is refused, and who may change something.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request};

use crate::error::{Failure, Reason};
use citrix_wire::transaction_id;

/// A request that may be told of; queries and header values are not in it.
pub(super) struct Asked {
    peer: SocketAddr,
    method: Method,
    path: String,
    /// What the line has in common with an answer in the shape of the proxy's.
    pub(super) id: HeaderValue,
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>, peer: SocketAddr) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Self {
            peer,
            method,
            path,
            id: transaction_id::generate(),
        }
    }

    /// What is no request of an operator's, as far as can be seen.
    pub(super) fn refused(&self, failure: &Failure) {
        self.tell(
            "refused",
            "none",
            Some((failure.reason(), failure.detail())),
        );
    }

    /// The same for want of the secret.
    pub(super) fn unknown(&self) {
        self.tell(
            "refused",
            "none",
            Some((Reason::CallerUnknown, "the admin secret was not shown")),
        );
    }

    /// Notes who was let in to what may change something.
    pub(super) fn admitted(&self) {
        if !matches!(self.method, Method::GET | Method::HEAD) {
            self.tell("admitted", "operator", None);
        }
    }

    fn tell(&self, verdict: &str, caller: &str, why: Option<(Reason, &str)>) {
        tracing::info!(
            target: "audit",
            verdict,
            listener = "admin",
            caller,
            peer = %self.peer,
            method = self.method.as_str(),
            path = self.path,
            reason = why.map(|(reason, _)| reason.as_str()),
            cause = why.map(|(_, cause)| cause),
            transaction_id = self.id.to_str().unwrap_or_default(),
        );
    }
}
