//! What is recorded of an exchange while it goes on.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::Spans;
use crate::observe::summary::ExchangeSummary;
use citrix_wire::trace_context::{SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent};

/// An exchange whose spans will be exported: the ids they have, and the attempts so far.
pub struct Recording {
    spans: Spans,
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// The span of the caller, if it named one.
    pub(super) parent: Option<SpanId>,
    /// As many as the budgets for trying again allow.
    pub(super) attempts: Vec<Attempt>,
}

/// One attempt to have a request answered, dialling included.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) span: SpanId,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) target: PathAndQuery,
    pub(super) began: Instant,
    /// What came of it, and when; nothing when it was given up.
    pub(super) end: Option<(Instant, Result<StatusCode, &'static str>)>,
}

impl Recording {
    /// Of an exchange that belongs to a trace.
    pub(super) fn new(spans: Spans, trace: TraceId, caller: Option<TraceParent>) -> Self {
        Self {
            spans,
            trace,
            span: fresh(),
            parent: caller.map(|caller| caller.span_id),
            attempts: Vec::new(),
        }
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// Begins an attempt. Its span is put into `headers` as Citrix's parent if the caller has put its own there, and
    /// only then. What was not valid is replaced, and what came with it dropped.
    pub fn begin_attempt(
        &mut self,
        (scheme, authority): (&Scheme, &Authority),
        target: &PathAndQuery,
        headers: &mut HeaderMap,
    ) {
        let span = fresh();
        if headers.contains_key(TRACEPARENT) {
            let ours = TraceParent {
                trace_id: self.trace,
                span_id: span,
                sampled: true,
            };
            // Digits and dashes are a legal value; without one nothing is said.
            match HeaderValue::try_from(ours.to_string()) {
                Ok(ours) => drop(headers.insert(TRACEPARENT, ours)),
                Err(_) => drop(headers.remove(TRACEPARENT)),
            }
            if self.parent.is_none() {
                headers.remove(TRACESTATE);
            }
        }
        self.attempts.push(Attempt {
            span,
            scheme: scheme.clone(),
            authority: authority.clone(),
            target: target.clone(),
            began: Instant::now(),
            end: None,
        });
    }

    /// Ends the attempt that goes on, with a status or the kind of failure.
    pub fn end_attempt(&mut self, outcome: Result<StatusCode, &'static str>) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.end.get_or_insert((Instant::now(), outcome));
        }
    }

    /// Makes spans of it. The last thing that is done with an exchange.
    pub fn close(&self, summary: &ExchangeSummary<'_>) {
        self.spans.export(self, summary);
    }
}

fn fresh() -> SpanId {
    loop {
        if let Some(id) = SpanId::new(fastrand::u64(..)) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn recording(headers: &HeaderMap) -> Recording {
        let caller = TraceParent::from_headers(headers);
        let trace = caller.map_or(TraceId::new(1).unwrap(), |caller| caller.trace_id);
        Recording::new(Spans::default(), trace, caller)
    }

    fn attempt(recording: &mut Recording, headers: &mut HeaderMap) {
        let to = (&Scheme::HTTPS, &Authority::from_static("api.cloud.com"));
        recording.begin_attempt(to, &PathAndQuery::from_static("/x?y"), headers);
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn citrix_is_told_of_the_attempts_own_span_in_the_callers_trace() {
        let mut headers = headers(&[("traceparent", THEIRS), ("tracestate", "a=1,b=2")]);
        let mut recording = recording(&headers);
        let mut told = Vec::new();
        for _ in 0..2 {
            attempt(&mut recording, &mut headers);
            recording.end_attempt(Err("upstream_broken"));
            told.push(TraceParent::from_headers(&headers).unwrap());
        }
        let theirs = TraceParent::parse(THEIRS.as_bytes()).unwrap();
        for (told, attempt) in told.iter().zip(&recording.attempts) {
            assert_eq!(
                (told.trace_id, told.span_id, told.sampled),
                (theirs.trace_id, attempt.span, true)
            );
        }
        assert_ne!(told[0].span_id, told[1].span_id);
        assert_ne!(told[0].span_id, recording.span);
        assert_eq!(recording.parent, Some(theirs.span_id));
        assert_eq!(headers["tracestate"], "a=1,b=2");
    }

    #[test]
    fn nothing_is_told_where_the_caller_told_nothing() {
        let mut headers = headers(&[("accept", "*/*")]);
        let mut recording = recording(&headers);
        attempt(&mut recording, &mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn what_is_not_valid_is_replaced_and_its_state_dropped() {
        for broken in [
            &[("traceparent", "00-XYZ"), ("tracestate", "a=1")][..],
            &[
                ("traceparent", THEIRS),
                ("traceparent", THEIRS),
                ("tracestate", "a=1"),
            ],
        ] {
            let mut headers = headers(broken);
            let mut recording = recording(&headers);
            attempt(&mut recording, &mut headers);
            let told = TraceParent::from_headers(&headers).unwrap();
            assert_eq!((told.trace_id, recording.parent), (recording.trace, None));
            assert!(!headers.contains_key("tracestate"));
        }
    }

    #[test]
    fn an_attempt_ends_once() {
        let mut headers = HeaderMap::new();
        let mut recording = recording(&headers);
        attempt(&mut recording, &mut headers);
        recording.end_attempt(Ok(StatusCode::OK));
        recording.end_attempt(Err("upstream_broken"));
        assert_eq!(recording.attempts[0].end.unwrap().1, Ok(StatusCode::OK));
    }
}
