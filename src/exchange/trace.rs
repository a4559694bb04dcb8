//! The trace of an exchange, and its attempts for the spans.

use http::StatusCode;

use super::Exchange;
use crate::error::Reason;
use crate::upstream::origin::Origin;
use crate::upstream::request_head::RequestHead;
use citrix_wire::trace_context::TraceId;

impl Exchange {
    /// Returns the trace that spans of this exchange belong to; without spans, the caller's.
    pub(super) fn trace_id(&self) -> Option<TraceId> {
        let recorded = self
            .recording
            .as_ref()
            .map(|(_, recording)| recording.trace_id());
        recorded.or(self.trace.map(|caller| caller.trace_id))
    }

    /// Begins an attempt. Replaces `traceparent` in its fields if the attempt has a span of its own.
    pub fn begin_attempt(&mut self, to: &Origin, head: &mut RequestHead) {
        if let Some((_, recording)) = &mut self.recording {
            let RequestHead { target, fields, .. } = head;
            recording.begin_attempt((&to.url.scheme, &to.url.authority), target, fields);
        }
    }

    /// Counts the attempt: its request is about to be written.
    pub fn count_attempt(&mut self) {
        self.attempts += 1;
    }

    /// Ends the attempt with the status of its response, or with the reason there is none.
    pub fn end_attempt(&mut self, outcome: Result<StatusCode, Reason>) {
        if let Some((_, recording)) = &mut self.recording {
            recording.end_attempt(outcome.map_err(Reason::as_str));
        }
    }
}
