//! One response for several requests: what is shared, and what a follower gets (interface §4.7).

use http::StatusCode;
use http::uri::PathAndQuery;

use super::{Received, SendContext};
use crate::exchange::Exchange;
use crate::inbound::connection::caller_time::max_caller_time;
use crate::limit::collapse::Followers;
use crate::upstream::share::{SentFacts, SharedResponse, Sharing, share};
use crate::upstream::window::Window;

impl SendContext<'_> {
    /// Shares a response with the followers of its request, if it is not about that request alone.
    /// Otherwise, or without room for another shared response, each of them sends its own request.
    pub(super) fn share(
        &self,
        mut received: Received,
        followers: Followers<SharedResponse>,
        target: &PathAndQuery,
        exchange: &mut Exchange,
    ) -> Received {
        let followers = followers.waiting();
        if followers.is_empty() || !is_shared(received.response.status()) {
            return received;
        }
        let Some(window) = Window::open(&self.shared.windows, followers.len()) else {
            return received;
        };
        let token = received.token.take();
        if let Some(token) = &token {
            token.remove_echoes(received.response.message.headers_mut());
        }
        let redirected_to = received.redirected_to.clone();
        let sharing = Sharing {
            followers,
            permit: exchange.take_queue_permit(),
            max_wait: max_caller_time(&self.live.limits),
            sent: SentFacts {
                transaction_id: exchange.transaction_id().clone(),
                redirected_to: redirected_to.map(|origin| (origin, target.path().into())),
            },
            filter_trailers: Box::new(move |trailers| {
                if let Some(token) = &token {
                    token.remove_echoes(trailers);
                }
            }),
        };
        Received {
            response: share(received.response, window, sharing),
            ..received
        }
    }
}

/// Returns the response of another request.
pub(super) fn follow(shared: SharedResponse, exchange: &mut Exchange) -> Received {
    let SentFacts {
        transaction_id,
        redirected_to,
    } = shared.sent.clone();
    exchange.set_collapsed(transaction_id);
    Received {
        response: shared.into_response(),
        token: None,
        redirected_to: redirected_to.map(|(origin, _)| origin),
    }
}

/// Returns `true` for the status of a response that does not depend on the moment, or on the token
/// and the limits of the request that was sent.
fn is_shared(status: StatusCode) -> bool {
    !status.is_informational()
        && status.as_u16() < 500
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                // Not even a cache may use these for another request (RFC 6585).
                | StatusCode::PRECONDITION_REQUIRED
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_about_the_moment_or_the_token_are_not_shared() {
        let shared = |status: u16| is_shared(StatusCode::from_u16(status).unwrap());
        assert!([200, 204, 206, 301, 304, 307, 400, 403, 404, 410, 422].map(shared) == [true; 11]);
        let not = [
            101, 401, 408, 425, 428, 429, 431, 500, 502, 503, 504, 511, 530, 999,
        ];
        assert!(not.map(shared) == [false; 14]);
    }
}
