//! The trace an exchange is part of, and what its spans are made of where they are exported.

use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::{End, Exchange};
use crate::error::Reason;
use crate::observe::spans::Facts;
use crate::upstream::origin::Origin;
use citrix_wire::trace_context::TraceId;

impl Exchange {
    /// The caller's, if it named one; else ours, if spans of it are exported.
    pub fn trace_id(&self) -> Option<TraceId> {
        let ours = self
            .recording
            .as_ref()
            .map(|recording| recording.trace_id());
        ours.or(self.trace.map(|caller| caller.trace_id))
    }

    /// Begins an attempt to have the request answered, which may change what `headers` say of its trace.
    pub fn begin_attempt(&mut self, to: &Origin, target: &PathAndQuery, headers: &mut HeaderMap) {
        if let Some(recording) = &mut self.recording {
            recording.begin_attempt((&to.scheme, &to.authority), target, headers);
        }
    }

    /// Ends it with the status of an answer, or with what became of it instead.
    pub fn end_attempt(&mut self, outcome: Result<StatusCode, Reason>) {
        if let Some(recording) = &mut self.recording {
            recording.end_attempt(outcome.map_err(Reason::as_str));
        }
    }

    /// Has spans made of the exchange, which ended now.
    pub(super) fn export(&self, end: End) {
        let Some(recording) = &self.recording else {
            return;
        };
        let cut = (end != End::Complete).then(|| end.as_str());
        let route = self.route.and_then(|index| self.snapshot.routes.get(index));
        recording.close(&Facts {
            method: &self.method,
            path: self.target.as_ref().map_or("", PathAndQuery::path),
            version: self.version,
            secure: self.is_secure(),
            route: route.map(|route| route.config.name()),
            caller: self.caller_name(),
            peer: self.peer.map(|peer| peer.ip()),
            status: self.status,
            reason: self.reason.map(Reason::as_str),
            cut,
            request_id: &self.request_id,
            transaction_id: &self.transaction_id,
            citrix_id: self.citrix_ids.iter().flatten().next(),
            waited: self.waited,
            request_bytes: self.upload.as_ref().map_or(0, |upload| upload.bytes.get()),
            answer_bytes: self.answer_bytes,
            began: self.began,
            ended: Instant::now(),
        });
    }
}
