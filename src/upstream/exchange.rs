//! One exchange on a leased connection.

use http::{Method, Request, Response};

use super::body::ResponseBody;
use super::pool::{Lease, PooledConnection};
use super::{AttemptError, ResponseDeadline};
use crate::inbound::body::CallerBody;
use citrix_wire::response_framing::may_have_content;

impl Lease {
    /// Sends a request. The body of the response returns the connection to the pool.
    ///
    /// # Errors
    /// When there is no response head.
    pub async fn exchange(
        mut self,
        request: Request<CallerBody>,
        deadline: &ResponseDeadline,
    ) -> Result<Response<ResponseBody>, AttemptError> {
        let is_head = request.method() == Method::HEAD;
        let outcome = match &mut self.connection {
            PooledConnection::Http1(connection) => connection.exchange(request, deadline).await,
            PooledConnection::Http2(connection) => {
                deadline.bound(connection.exchange(request)).await
            }
        };
        if let (Err(AttemptError::TimedOut), PooledConnection::Http2(own)) =
            (&outcome, &self.connection)
        {
            // The connection may be broken, and the next request must not time out as well.
            self.pool.pool.remove_http2(self.pool.origin, own);
        }
        let response = outcome?;
        let Self {
            connection, pool, ..
        } = self;
        let http1 = match connection {
            PooledConnection::Http1(connection) => Some(connection),
            PooledConnection::Http2(_) => None,
        };
        let has_content = !is_head && may_have_content(response.status());
        let upload = deadline.upload();
        Ok(response.map(|incoming| ResponseBody::new(incoming, has_content, http1, upload, pool)))
    }
}
