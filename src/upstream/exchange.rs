//! One exchange on a leased connection.

use http::{Method, Response};

use super::body::ResponseBody;
use super::origin::Origin;
use super::pool::{Lease, PooledConnection};
use super::request_head::RequestHead;
use super::source::ResponseSource;
use super::{AttemptError, ResponseDeadline};
use crate::inbound::body::CallerBody;
use citrix_wire::response_framing::may_have_content;

impl Lease {
    /// Sends a request. The body of the response returns the connection to the pool.
    ///
    /// # Errors
    /// When there is no response head.
    pub async fn exchange(
        self,
        head: &mut RequestHead,
        body: CallerBody,
        to: &Origin,
        deadline: &ResponseDeadline,
    ) -> Result<Response<ResponseBody>, AttemptError> {
        let is_head = head.method == Method::HEAD;
        let Self {
            connection, pool, ..
        } = self;
        let (head, source) = match connection {
            PooledConnection::Http1(mut connection) => {
                let response = connection.exchange(head, body, deadline).await?;
                (response.into_parts().0, ResponseSource::Http1(connection))
            }
            PooledConnection::Http2(stream) => {
                let traffic = stream.connection();
                let request = head.to_http2(to).map(|()| body);
                // Boxed, so that it does not enlarge the future of an HTTP/1.1 exchange.
                let exchange = Box::pin(stream.exchange(request, pool.pool.idle_timeout()));
                let response = deadline.bound(exchange).await.inspect_err(|error| {
                    // The connection may be broken or not accept requests, and the next one must
                    // not fail as well.
                    if matches!(
                        error,
                        AttemptError::TimedOut | AttemptError::Unprocessed { .. }
                    ) {
                        pool.pool.retire_http2(pool.origin, &traffic);
                    }
                })?;
                let (head, body) = response.into_parts();
                (head, ResponseSource::Http2(Box::new(body)))
            }
        };
        let has_content = !is_head && may_have_content(head.status);
        let body = ResponseBody::new(source, has_content, pool);
        Ok(Response::from_parts(head, body))
    }
}
