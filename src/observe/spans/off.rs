//! The same without the feature: nothing is ever recorded.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, StatusCode};
use rustls::ClientConfig;

use crate::clock::Clock;
use crate::observe::metrics::Metrics;
use crate::observe::summary::ExchangeSummary;
use citrix_wire::trace_context::{TraceId, TraceParent};

/// Spans go nowhere.
#[derive(Clone, Default)]
pub struct Spans(());

/// Nobody can make one.
#[derive(Debug)]
pub enum Recording {}

impl Spans {
    /// Says so, if the environment asks for spans.
    ///
    /// # Errors
    /// Never.
    pub fn start(_: &Metrics, _: &Arc<ClientConfig>, _: Clock) -> Result<Self, prometheus::Error> {
        if super::asked_for(super::variable) {
            tracing::warn!(
                "no spans are exported: the environment names an endpoint of OpenTelemetry, but this build has no \
                 exporter; build it with the cargo feature otlp"
            );
        }
        Ok(Self::default())
    }

    /// Records nothing.
    pub fn record(&self, _caller: Option<TraceParent>) -> Option<Box<Recording>> {
        None
    }

    /// Has nothing to send.
    pub async fn flush(&self, _: Duration) {}
}

impl Recording {
    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        match *self {}
    }

    /// Begins an attempt.
    pub fn begin_attempt(&mut self, _: (&Scheme, &Authority), _: &PathAndQuery, _: &mut HeaderMap) {
        match *self {}
    }

    /// Ends it.
    pub fn end_attempt(&mut self, _: Result<StatusCode, &'static str>) {
        match *self {}
    }

    /// Makes spans of it.
    pub fn close(&self, _: &ExchangeSummary<'_>) {
        match *self {}
    }
}
