//! One exchange on a leased connection.

use http::{Method, Request, Response, StatusCode};

use super::body::ResponseBody;
use super::http2::{Http2Body, Http2Stream};
use super::origin::Origin;
use super::pool::{Lease, PoolHandle, PooledConnection};
use super::request_head::RequestHead;
use super::source::ResponseSource;
use super::{AttemptError, ResponseDeadline};
use crate::inbound::body::CallerBody;
use citrix_wire::known_fields::KnownFields;
use citrix_wire::response_framing::may_have_content;

/// A response of an upstream.
pub struct UpstreamResponse {
    /// Boxed, because it passes through several steps.
    pub message: Box<Response<ResponseBody>>,
    /// The fields that its head has.
    pub fields: KnownFields,
}

impl UpstreamResponse {
    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.message.status()
    }

    /// Reads the rest, so that the connection can be reused; see [`ResponseBody::discard`].
    pub async fn discard(self) {
        self.message.into_body().discard().await;
    }
}

impl Lease {
    /// Sends a request. The body of the response returns the connection to the pool.
    ///
    /// # Errors
    /// When there is no response head.
    #[expect(
        clippy::manual_async_fn,
        reason = "it would store the lease twice, as an argument and as variables"
    )]
    pub fn exchange(
        self,
        head: &mut RequestHead,
        body: CallerBody,
        to: &Origin,
        deadline: &ResponseDeadline,
    ) -> impl Future<Output = Result<UpstreamResponse, AttemptError>> {
        async move {
            let is_head = head.method == Method::HEAD;
            let (response, fields, source) = match self.connection {
                PooledConnection::Http1(mut connection) => {
                    let response = connection.exchange(head, body, deadline).await?;
                    let fields = connection.fields();
                    (response, fields, ResponseSource::Http1(connection))
                }
                PooledConnection::Http2(stream) => {
                    let request = head.to_http2(to).map(|()| body);
                    // Boxed, so that it does not enlarge the future of an HTTP/1.1 exchange.
                    let exchange = Box::pin(http2_exchange(stream, request, &self.pool, deadline));
                    let (head, body) = exchange.await?.into_parts();
                    let fields = KnownFields::of(&head.headers);
                    let source = ResponseSource::Http2(Box::new(body));
                    (Response::from_parts(head, ()), fields, source)
                }
            };
            let has_content = !is_head && may_have_content(response.status());
            let body = ResponseBody::new(source, has_content, self.pool);
            Ok(UpstreamResponse {
                message: Box::new(response.map(|()| body)),
                fields,
            })
        }
    }
}

async fn http2_exchange(
    stream: Http2Stream,
    request: Request<CallerBody>,
    pool: &PoolHandle,
    deadline: &ResponseDeadline,
) -> Result<Response<Http2Body>, AttemptError> {
    let traffic = stream.connection();
    let exchange = stream.exchange(request, pool.pool.idle_timeout());
    deadline.bound(exchange).await.inspect_err(|error| {
        // The connection may be broken or not accept requests, and the next one must not fail as
        // well.
        if matches!(
            error,
            AttemptError::TimedOut | AttemptError::Unprocessed { .. }
        ) {
            pool.pool.retire_http2(pool.origin, &traffic);
        }
    })
}
