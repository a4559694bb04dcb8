//! How the exporter asks a collector: with the control side's own client, but never through the egress proxy, which
//! leads to Citrix.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::ClientConfig;

use crate::config::Egress;
use crate::upstream::control_plane;
use crate::upstream::dial::DialConfig;

/// For one request. `OTEL_EXPORTER_OTLP_TIMEOUT` bounds all its repetitions together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP client of the exporter.
#[derive(Debug)]
pub(super) struct Client {
    http: control_plane::ControlClient,
    cause: Cause,
}

/// Why the last request failed, if it did: the exporter itself says no more than that it was the network.
#[derive(Clone, Default)]
pub(super) struct Cause(Arc<Mutex<Option<String>>>);

impl Client {
    /// Trusts what `tls` trusts.
    pub(super) fn new(tls: &Arc<ClientConfig>) -> Self {
        let dial_config = DialConfig::new(Arc::clone(tls), Egress::direct());
        Self {
            http: control_plane::ControlClient::new(dial_config, TIMEOUT),
            cause: Cause::default(),
        }
    }

    /// Tells why its requests fail.
    pub(super) fn cause(&self) -> Cause {
        self.cause.clone()
    }
}

impl Cause {
    /// Once for each request that failed.
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

impl HttpClient for Client {
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
            let answer = sent?;
            // What a collector says besides its status is for people.
            let body = answer
                .body
                .map(|body| Bytes::copy_from_slice(&body))
                .unwrap_or_default();
            let mut response = Response::new(body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}
