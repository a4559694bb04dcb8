//! What is remembered of an exchange that is over.

use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;

use super::Exchange;
use crate::observe::metrics::NONE;
use crate::observe::recent::{Closed, End};

impl Exchange {
    /// Leaves what an operator may look up later.
    pub(super) fn remember(&self, end: End, status: StatusCode, total: Duration) {
        let route = self.route.and_then(|index| self.snapshot.routes.get(index));
        let closed = Closed {
            began: self.began,
            total,
            waited: self.waited,
            upstream: self.upstream_time,
            ours: self.gateway_time(),
            attempts: self.attempts,
            request_id: &self.request_id,
            transaction_id: &self.transaction_id,
            citrix_ids: &self.citrix_ids,
            method: self.method.as_str(),
            path: self.target.as_ref().map_or("", PathAndQuery::path),
            route: route.map_or(NONE, |route| route.config.name()),
            caller: self.caller_name(),
            is_named: self.caller.is_some(),
            customer: self.customer.as_ref(),
            address: self.peer.map(|peer| peer.ip()),
            retired: self.retired,
            status,
            reason: self.reason,
            detail: &self.detail,
            cause: &self.cause,
            end,
        };
        self.snapshot
            .metrics
            .recent
            .record(&closed, self.snapshot.caller_use(self.caller));
    }
}
