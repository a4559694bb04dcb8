//! Requests to the store that wait for their responses.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fleet_protocol::StoreTime;
use fleet_protocol::machine::RequestId;
use fleet_protocol::reply::Body;
use tokio::sync::oneshot;

/// Maximum number of requests that wait at the same time; more have no store.
const MAX_PENDING: usize = 4096;

/// The response to a request.
#[derive(Clone, Debug)]
pub struct Response {
    pub body: Body,
    /// The store's time, by which the age of a record is known.
    pub now: StoreTime,
}

type Sender = oneshot::Sender<Option<Response>>;

/// The requests that wait for their responses.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    last: u64,
    senders: BTreeMap<RequestId, Sender>,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request; `None` if too many wait.
    pub(super) fn add(&self) -> Option<(RequestId, oneshot::Receiver<Option<Response>>)> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.lock();
        if pending.senders.len() >= MAX_PENDING {
            return None;
        }
        pending.last += 1;
        let id = RequestId(pending.last);
        pending.senders.insert(id, sender);
        Some((id, receiver))
    }

    /// Removes a request, with its response if there is one.
    pub(super) fn finish(&self, id: RequestId, response: Option<Response>) {
        let sender = self.lock().senders.remove(&id);
        if let Some(sender) = sender {
            // The requester may be gone.
            let _ = sender.send(response);
        }
    }
}
