//! A request of the program's own to a customer's API gateway.

use std::future::Future;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderValue, Method, StatusCode};
use reqwest::Url;

use crate::citrix::headers::{CITRIX_CUSTOMER_ID, CITRIX_TRANSACTION_ID};
use crate::http_client::{self, SharedClient};
use crate::wire::transaction_id;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GET`, or `POST` without a body.
    pub method: Method,
    /// Of whom.
    pub url: Url,
    /// The token.
    pub authorization: HeaderValue,
    /// For `Citrix-CustomerId`.
    pub customer_id: HeaderValue,
}

/// What Citrix answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Citrix's name for the exchange, else the one we sent.
    pub transaction_id: HeaderValue,
    /// The body; empty when it could not be read.
    pub body: Vec<u8>,
}

/// Why there is no answer, for the log: what the operating system or TLS says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoReply(pub String);

/// Who answers: Citrix, or the script of a test.
pub trait Api: Send + Sync {
    /// Makes one request; no retries in here.
    fn call(&self, call: Call) -> impl Future<Output = Result<Reply, NoReply>> + Send;
}

/// [`Api`] over HTTP.
#[derive(Clone, Debug)]
pub struct HttpApi(pub SharedClient);

impl Api for HttpApi {
    async fn call(&self, call: Call) -> Result<Reply, NoReply> {
        let ours = transaction_id::fresh();
        let mut request = self
            .0
            .get()
            .request(call.method.clone(), call.url)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(AUTHORIZATION, call.authorization)
            .header(CITRIX_CUSTOMER_ID, call.customer_id)
            .header(CITRIX_TRANSACTION_ID, &ours);
        if call.method == Method::POST {
            // Citrix answers 411 without it.
            request = request.header(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let response = request.send().await.map_err(|error| no_reply(&error))?;
        let headers = response.headers();
        Ok(Reply {
            status: response.status(),
            transaction_id: http_client::transaction_id(headers).unwrap_or(ours),
            // A body that cannot be read still has its status.
            body: http_client::read(response).await.map(|body| body.to_vec()).unwrap_or_default(),
        })
    }
}

fn no_reply(error: &reqwest::Error) -> NoReply {
    NoReply(match http_client::innermost(error) {
        _ if error.is_timeout() => "it took too long".to_owned(),
        Some(cause) => cause,
        None => "the request could not be sent".to_owned(),
    })
}
