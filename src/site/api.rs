//! A request of the program's own to a customer's API gateway.

use std::future::Future;

use crate::upstream::dial::ConnectError;
use crate::upstream::http_client::{self, SendError, SharedClient};
use bytes::Bytes;
use citrix_wire::citrix::headers::{CITRIX_CUSTOMER_ID, CITRIX_TRANSACTION_ID};
use citrix_wire::transaction_id;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};

/// What is asked.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// `GET`, or `POST` without a body.
    pub method: Method,
    /// Of whom.
    pub url: Uri,
    /// The token.
    pub authorization: HeaderValue,
    /// For `Citrix-CustomerId`.
    pub customer_id: HeaderValue,
}

/// What Citrix answers.
#[derive(Clone, Debug)]
pub struct ApiResponse {
    /// The status.
    pub status: StatusCode,
    /// Citrix's name for the exchange, else the one we sent.
    pub transaction_id: HeaderValue,
    /// Where it sends, if it does.
    pub location: Option<HeaderValue>,
    /// The body; empty when it could not be read.
    pub body: Vec<u8>,
}

/// Why there is no answer, for the log: what the operating system or TLS says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ApiError(pub String);

/// Who answers: Citrix, or the script of a test.
pub trait Api: Send + Sync {
    /// Makes one request; no retries in here.
    fn call(&self, call: ApiRequest) -> impl Future<Output = Result<ApiResponse, ApiError>> + Send;
}

/// [`Api`] over HTTP.
#[derive(Clone, Debug)]
pub struct HttpApi(pub SharedClient);

impl Api for HttpApi {
    async fn call(&self, call: ApiRequest) -> Result<ApiResponse, ApiError> {
        let ours = transaction_id::generate();
        let mut request = Request::new(Bytes::new());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, call.authorization);
        headers.insert(CITRIX_CUSTOMER_ID, call.customer_id);
        headers.insert(CITRIX_TRANSACTION_ID, ours.clone());
        if call.method == Method::POST {
            // Citrix answers 411 without it.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        *request.method_mut() = call.method;
        *request.uri_mut() = call.url;
        let answer = self
            .0
            .get()
            .send(request)
            .await
            .map_err(|error| api_error(&error))?;
        Ok(ApiResponse {
            status: answer.status,
            transaction_id: http_client::transaction_id(&answer.headers).unwrap_or(ours),
            location: answer.headers.get(LOCATION).cloned(),
            // A body that cannot be read still has its status.
            body: answer.body.map(|body| body.to_vec()).unwrap_or_default(),
        })
    }
}

fn api_error(error: &SendError) -> ApiError {
    ApiError(match error {
        SendError::TimedOut(_) | SendError::Connect(ConnectError::Timeout(_)) => {
            "it took too long".to_owned()
        }
        _ => http_client::cause(error),
    })
}
