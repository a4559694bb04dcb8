//! The trace an exchange is part of, and what its spans are made of where they are exported.

use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};

use super::Exchange;
use crate::error::Reason;
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
}
