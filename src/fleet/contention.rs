//! Whether requests wait in other replicas for permits that this one holds: an exchange that keeps
//! them waiting for its caller ends, as it does for requests of its own replica.

use std::convert::Infallible;
use std::time::Duration;

use fleet_protocol::machine::Request;
use fleet_protocol::reply::Body;
use tokio::time::sleep;

use super::handle::Fleet;
use super::requests::Response;

/// Time between two requests to the store, while this replica holds permits.
const INTERVAL: Duration = Duration::from_secs(1);

/// Follows the queues of permits that this replica holds.
pub(super) async fn follow(fleet: &Fleet) -> Infallible {
    loop {
        sleep(INTERVAL).await;
        let held = fleet.held_queues();
        if held.is_empty() {
            continue;
        }
        let names = held.iter().map(|(name, _)| *name).collect();
        let queues = match fleet.request(Request::Members(names)).await {
            Some(Response {
                body: Body::Members(reply),
                ..
            }) => reply.queues,
            // No store: this replica acts for itself.
            _ => Vec::new(),
        };
        let mut waiting = queues.iter().map(|queue| queue.waiting);
        for (_, queue) in held {
            queue.set_awaited(waiting.next().unwrap_or(0) > 0);
        }
    }
}
