//! Ids and attempts of an exchange that is sampled.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use citrix_wire::field_list::FieldList;
use citrix_wire::trace_context::{SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent};

/// Ids and attempts of an exchange whose spans will be exported.
pub struct Recording {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// The span of the caller, if its request has one.
    pub(super) parent: Option<SpanId>,
    /// Bounded by the budgets for retries and replays.
    pub(super) attempts: Vec<Attempt>,
}

/// One attempt to send a request, dialling included.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) span: SpanId,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) target: PathAndQuery,
    pub(super) began: Instant,
    /// Time and outcome: a status or the reason of a failure. `None` if the attempt was cancelled.
    pub(super) end: Option<(Instant, Result<StatusCode, &'static str>)>,
}

impl Recording {
    pub(super) fn new(trace: TraceId, caller: Option<TraceParent>) -> Self {
        Self {
            trace,
            span: random_span_id(),
            parent: caller.map(|caller| caller.span_id),
            attempts: Vec::new(),
        }
    }

    pub(crate) fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// Begins an attempt. Replaces the caller's `traceparent` in `fields`, if there is one, by the
    /// attempt's span. Removes the `tracestate` of an invalid `traceparent`.
    pub fn begin_attempt(
        &mut self,
        (scheme, authority): (&Scheme, &Authority),
        target: &PathAndQuery,
        fields: &mut FieldList,
    ) {
        let span = random_span_id();
        if fields.contains(&TRACEPARENT) {
            let parent = TraceParent {
                trace_id: self.trace,
                span_id: span,
                sampled: true,
            };
            // Hex digits and dashes are always a valid value.
            match HeaderValue::try_from(parent.to_string()) {
                Ok(parent) => fields.set(TRACEPARENT, parent),
                Err(_) => fields.remove(&TRACEPARENT),
            }
            if self.parent.is_none() {
                fields.remove(&TRACESTATE);
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

    /// Ends the current attempt with a status or the reason of a failure.
    pub fn end_attempt(&mut self, outcome: Result<StatusCode, &'static str>) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.end.get_or_insert((Instant::now(), outcome));
        }
    }
}

fn random_span_id() -> SpanId {
    loop {
        if let Some(id) = SpanId::new(fastrand::u64(..)) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn recording(headers: &HeaderMap) -> Recording {
        let caller = TraceParent::from_headers(headers);
        let trace = caller.map_or(TraceId::new(1).unwrap(), |caller| caller.trace_id);
        Recording::new(trace, caller)
    }

    fn attempt(recording: &mut Recording, headers: &mut HeaderMap) {
        let to = (&Scheme::HTTPS, &Authority::from_static("api.cloud.com"));
        let mut fields = FieldList::from(std::mem::take(headers));
        recording.begin_attempt(to, &PathAndQuery::from_static("/x?y"), &mut fields);
        *headers = fields.to_map();
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn each_attempt_sends_its_own_span_in_the_trace_of_the_caller() {
        let mut headers = headers(&[("traceparent", CALLER), ("tracestate", "a=1,b=2")]);
        let mut recording = recording(&headers);
        let mut sent = Vec::new();
        for _ in 0..2 {
            attempt(&mut recording, &mut headers);
            recording.end_attempt(Err("upstream_broken"));
            sent.push(TraceParent::from_headers(&headers).unwrap());
        }
        let caller = TraceParent::parse(CALLER.as_bytes()).unwrap();
        for (sent, attempt) in sent.iter().zip(&recording.attempts) {
            assert_eq!(
                (sent.trace_id, sent.span_id, sent.sampled),
                (caller.trace_id, attempt.span, true)
            );
        }
        assert_ne!(sent[0].span_id, sent[1].span_id);
        assert_ne!(sent[0].span_id, recording.span);
        assert_eq!(recording.parent, Some(caller.span_id));
        assert_eq!(headers["tracestate"], "a=1,b=2");
    }

    #[test]
    fn request_without_traceparent_is_sent_without_one() {
        let mut headers = headers(&[("accept", "*/*")]);
        let mut recording = recording(&headers);
        attempt(&mut recording, &mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn invalid_traceparent_is_replaced_and_its_state_dropped() {
        for invalid in [
            &[("traceparent", "00-XYZ"), ("tracestate", "a=1")][..],
            &[
                ("traceparent", CALLER),
                ("traceparent", CALLER),
                ("tracestate", "a=1"),
            ],
        ] {
            let mut headers = headers(invalid);
            let mut recording = recording(&headers);
            attempt(&mut recording, &mut headers);
            let sent = TraceParent::from_headers(&headers).unwrap();
            assert_eq!((sent.trace_id, recording.parent), (recording.trace, None));
            assert!(!headers.contains_key("tracestate"));
        }
    }

    #[test]
    fn second_end_of_an_attempt_is_ignored() {
        let mut headers = HeaderMap::new();
        let mut recording = recording(&headers);
        attempt(&mut recording, &mut headers);
        recording.end_attempt(Ok(StatusCode::OK));
        recording.end_attempt(Err("upstream_broken"));
        assert_eq!(recording.attempts[0].end.unwrap().1, Ok(StatusCode::OK));
    }
}
