//! The gateway's own requests to a customer's API gateway.

use std::future::Future;

use crate::upstream::control_plane::{self, SendError, SharedControlClient};
use crate::upstream::dial::ConnectError;
use bytes::Bytes;
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CITRIX_TRANSACTION_ID};
use citrix_wire::transaction_id::IdGenerator;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};

/// Parameters of one request.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// `GET`, or `POST` without a body.
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) authorization: HeaderValue,
    pub(crate) customer_id: HeaderValue,
}

#[derive(Clone, Debug)]
pub struct ApiResponse {
    pub(crate) status: StatusCode,
    /// Citrix's transaction id, or else the one that was sent.
    pub(crate) transaction_id: HeaderValue,
    pub(crate) location: Option<HeaderValue>,
    /// The body; empty if it could not be read.
    pub(crate) body: Vec<u8>,
}

/// A request without a response, with the error of the operating system or TLS for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ApiError(pub String);

/// An API gateway: Citrix's, or a script in tests.
pub trait Api: Send + Sync {
    /// Sends one request, without retries.
    fn call(
        &self,
        request: ApiRequest,
    ) -> impl Future<Output = Result<ApiResponse, ApiError>> + Send;
}

/// [`Api`] over HTTP.
#[derive(Clone, Debug)]
pub struct HttpApi {
    client: SharedControlClient,
    ids: IdGenerator,
}

impl HttpApi {
    /// Returns an API gateway that `client` reaches.
    pub const fn new(client: SharedControlClient, ids: IdGenerator) -> Self {
        Self { client, ids }
    }
}

impl Api for HttpApi {
    async fn call(&self, call: ApiRequest) -> Result<ApiResponse, ApiError> {
        let own_transaction_id = self.ids.generate();
        let mut request = Request::new(Bytes::new());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, call.authorization);
        headers.insert(CITRIX_CUSTOMER_ID, call.customer_id);
        headers.insert(CITRIX_TRANSACTION_ID, own_transaction_id.clone());
        if call.method == Method::POST {
            // Citrix rejects the request with 411 without it.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        *request.method_mut() = call.method;
        *request.uri_mut() = call.url;
        let response = self
            .client
            .get()
            .send(request)
            .await
            .map_err(|error| api_error(&error))?;
        Ok(ApiResponse {
            status: response.status,
            transaction_id: control_plane::transaction_id(&response.headers)
                .unwrap_or(own_transaction_id),
            location: response.headers.get(LOCATION).cloned(),
            // The status counts even if the body could not be read.
            body: response.body.map(|body| body.to_vec()).unwrap_or_default(),
        })
    }
}

fn api_error(error: &SendError) -> ApiError {
    ApiError(match error {
        SendError::TimedOut(_) | SendError::Connect(ConnectError::Timeout(_)) => {
            "timed out".to_owned()
        }
        _ => control_plane::root_cause(error),
    })
}
