//! Counts by caller, by route and reason, and by user of a retired address.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Reason;

/// Users of retired addresses that a worker counts. A new one then evicts the least recent.
const MAX_RETIRED: usize = 64;
/// Routes whose reasons a worker counts. About sixty are built in.
const MAX_ROUTES: usize = 512;

/// Activity of one caller in one worker.
#[derive(Debug, Default)]
pub struct CallerActivity {
    /// End of the last request in milliseconds since the start, plus one; 0 before the first.
    last: AtomicU64,
    rejected: AtomicU64,
}

impl CallerActivity {
    /// Records a request by the time of its end. `rejected` means for a fault of the caller.
    pub(super) fn record(&self, since_start: Duration, rejected: bool) {
        let milliseconds = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(milliseconds + 1, Ordering::Relaxed);
        if rejected {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn last(&self) -> Option<Duration> {
        self.last
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .map(Duration::from_millis)
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

/// Requests of one user to retired addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredUse {
    pub(crate) family: &'static str,
    /// The route of the current address.
    pub(crate) route: String,
    pub(crate) caller: String,
    /// Address of the last request.
    pub(crate) address: Option<IpAddr>,
    pub(crate) count: u64,
    pub(crate) last: Instant,
}

impl RetiredUse {
    /// Returns `true` if both are of one user. Unnamed callers are distinguished by their address.
    fn is_same(&self, other: &Self, named: bool) -> bool {
        self.family == other.family
            && self.route == other.route
            && self.caller == other.caller
            && (named || self.address == other.address)
    }
}

/// Adds `new` to the user's requests.
pub(super) fn count_retired(known: &mut Vec<RetiredUse>, new: RetiredUse, named: bool) {
    if let Some(same) = known.iter_mut().find(|known| known.is_same(&new, named)) {
        same.count += new.count;
        if new.last >= same.last {
            (same.last, same.address) = (new.last, new.address);
        }
        return;
    }
    if known.len() < MAX_RETIRED {
        return known.push(new);
    }
    if let Some(oldest) = known.iter_mut().min_by_key(|known| known.last) {
        *oldest = new;
    }
}

/// Numbers of responses that the gateway generated for one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReasons {
    /// Name in metrics.
    pub(crate) route: String,
    /// In the order of [`Reason::ALL`].
    counts: [u64; Reason::ALL.len()],
}

impl RouteReasons {
    /// Returns the reasons that occurred.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
    }
}

/// Counts a response that the gateway generated.
pub(super) fn count_reason(known: &mut Vec<RouteReasons>, route: &str, reason: Reason) {
    let index = match known.iter().position(|known| known.route == route) {
        Some(index) => index,
        None if known.len() < MAX_ROUTES => {
            known.push(RouteReasons {
                route: route.to_owned(),
                counts: [0; Reason::ALL.len()],
            });
            known.len() - 1
        }
        None => return,
    };
    let position = Reason::ALL.iter().position(|&each| each == reason);
    if let Some(count) = position.and_then(|position| known[index].counts.get_mut(position)) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(caller: &str, address: [u8; 4], last: Instant) -> RetiredUse {
        let (family, route) = ("/cvadapis", "/cvad/manage".to_owned());
        RetiredUse {
            family,
            route,
            caller: caller.to_owned(),
            address: Some(address.into()),
            count: 1,
            last,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unnamed_callers_are_distinguished_by_address() {
        let now = Instant::now();
        let mut known = Vec::new();
        for (caller, address, named) in [
            ("splunk", [10, 0, 0, 1], true),
            ("splunk", [10, 0, 0, 2], true),
            ("anonymous", [10, 0, 0, 1], false),
            ("anonymous", [10, 0, 0, 2], false),
            ("anonymous", [10, 0, 0, 2], false),
        ] {
            count_retired(&mut known, used(caller, address, now), named);
        }
        let counts: Vec<_> = known
            .iter()
            .map(|one| (one.caller.as_str(), one.count))
            .collect();
        assert_eq!(counts, [("splunk", 2), ("anonymous", 1), ("anonymous", 2)]);
        assert_eq!(known[0].address, Some([10, 0, 0, 2].into()));
    }

    #[tokio::test(start_paused = true)]
    async fn new_user_of_a_retired_address_evicts_the_least_recent() {
        let mut known = Vec::new();
        for number in 0..=u8::try_from(MAX_RETIRED).unwrap() {
            count_retired(
                &mut known,
                used("anonymous", [10, 0, 0, number], Instant::now()),
                false,
            );
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(known.len(), MAX_RETIRED);
        assert!(
            known
                .iter()
                .all(|one| one.address != Some([10, 0, 0, 0].into()))
        );
    }

    #[test]
    fn reasons_are_counted_by_route() {
        let mut known = Vec::new();
        count_reason(&mut known, "/", Reason::Overloaded);
        count_reason(&mut known, "/", Reason::Overloaded);
        count_reason(&mut known, "none", Reason::NoRoute);
        let counts = |index: usize| known[index].counts().collect::<Vec<_>>();
        assert_eq!(
            (counts(0), counts(1)),
            (vec![(Reason::Overloaded, 2)], vec![(Reason::NoRoute, 1)])
        );
    }
}
