//! The exporter's HTTP client: the client of the control plane, but without the egress proxy, which
//! serves connections to Citrix.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

use crate::config::Egress;
use crate::upstream::control_plane;
use crate::upstream::dial::DialConfig;
use crate::upstream::tls::ClientConfigs;

/// Timeout for one request. `OTEL_EXPORTER_OTLP_TIMEOUT` limits a request and its retries together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct CollectorClient {
    http: control_plane::ControlClient,
    cause: Cause,
}

/// The cause of the last request's failure, shared with the exporter, whose errors do not contain
/// it.
#[derive(Clone, Default)]
pub(super) struct Cause(Arc<Mutex<Option<String>>>);

impl CollectorClient {
    pub(super) fn new(tls: &ClientConfigs) -> Self {
        let dial_config = DialConfig::new(tls.clone(), Egress::direct());
        Self {
            http: control_plane::ControlClient::new(dial_config, REQUEST_TIMEOUT),
            cause: Cause::default(),
        }
    }

    pub(super) fn cause(&self) -> Cause {
        self.cause.clone()
    }
}

impl Cause {
    /// Returns the cause, once for each failed request.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, cause: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cause")
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'a, 'r>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'r, Result<Response<Bytes>, HttpError>>
    where
        'a: 'r,
        Self: 'r,
    {
        Box::pin(async move {
            let sent = self.http.send(request).await;
            self.cause
                .set(sent.as_ref().err().map(control_plane::root_cause));
            let received = sent?;
            // The status decides; an unreadable body is ignored.
            let body = received
                .body
                .map(|body| Bytes::copy_from_slice(&body))
                .unwrap_or_default();
            let mut response = Response::new(body);
            *response.status_mut() = received.status;
            *response.headers_mut() = received.headers;
            Ok(response)
        })
    }
}
