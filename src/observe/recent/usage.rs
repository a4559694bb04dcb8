//! Who came lately, what was refused by which route, and who still uses retired addresses.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Reason;

/// Users of retired addresses that a worker remembers; a new one then takes the place of the one that was seen the
/// longest ago.
const MAX_RETIRED: usize = 64;
/// Routes whose reasons a worker counts. There are some sixty, and those of the configuration.
const MAX_ROUTES: usize = 512;

/// What one worker has seen of one caller.
#[derive(Debug, Default)]
pub struct CallerActivity {
    /// When the last of its requests was over, in milliseconds from the start, and one; 0 for never.
    last: AtomicU64,
    refused: AtomicU64,
}

impl CallerActivity {
    /// Notes a request that was over so long after the start, and whether it was refused for the caller's own fault.
    pub(super) fn note(&self, since_start: Duration, refused: bool) {
        let milliseconds = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(milliseconds + 1, Ordering::Relaxed);
        if refused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn last(&self) -> Option<Duration> {
        self.last
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .map(Duration::from_millis)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Somebody who still uses a retired address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiredUse {
    /// The family of the address.
    pub family: &'static str,
    /// The route it is translated to.
    pub route: String,
    /// The caller's name.
    pub caller: String,
    /// Where the caller came from; of a caller with a name, the last time.
    pub address: Option<IpAddr>,
    /// How often.
    pub count: u64,
    /// The last time.
    pub last: Instant,
}

impl RetiredUse {
    /// Whether both are the same user's. Who has no name is known by the address.
    fn is_same(&self, other: &Self, named: bool) -> bool {
        self.family == other.family
            && self.route == other.route
            && self.caller == other.caller
            && (named || self.address == other.address)
    }
}

/// Adds `new` to what is known.
pub(super) fn note_retired(known: &mut Vec<RetiredUse>, new: RetiredUse, named: bool) {
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

/// How often requests of one route were answered by the gateway itself, by the place of the reason in
/// [`Reason::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReasons {
    /// The route's name in metrics.
    pub route: String,
    counts: [u64; Reason::ALL.len()],
}

impl RouteReasons {
    /// The reasons there were.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> {
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

/// Counts an answer of the gateway's own.
pub(super) fn note_reason(known: &mut Vec<RouteReasons>, route: &str, reason: Reason) {
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
    let place = Reason::ALL.iter().position(|&each| each == reason);
    if let Some(count) = place.and_then(|place| known[index].counts.get_mut(place)) {
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
    async fn who_has_a_name_is_one_user_and_who_has_none_is_one_for_each_address() {
        let now = Instant::now();
        let mut known = Vec::new();
        for (caller, address, named) in [
            ("splunk", [10, 0, 0, 1], true),
            ("splunk", [10, 0, 0, 2], true),
            ("anonymous", [10, 0, 0, 1], false),
            ("anonymous", [10, 0, 0, 2], false),
            ("anonymous", [10, 0, 0, 2], false),
        ] {
            note_retired(&mut known, used(caller, address, now), named);
        }
        let told: Vec<_> = known
            .iter()
            .map(|one| (one.caller.as_str(), one.count))
            .collect();
        assert_eq!(told, [("splunk", 2), ("anonymous", 1), ("anonymous", 2)]);
        assert_eq!(known[0].address, Some([10, 0, 0, 2].into()));
    }

    #[tokio::test(start_paused = true)]
    async fn users_of_retired_addresses_are_bounded_and_the_one_longest_gone_makes_room() {
        let mut known = Vec::new();
        for number in 0..=u8::try_from(MAX_RETIRED).unwrap() {
            note_retired(
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
        note_reason(&mut known, "/", Reason::Overloaded);
        note_reason(&mut known, "/", Reason::Overloaded);
        note_reason(&mut known, "none", Reason::NoRoute);
        let counts = |index: usize| known[index].counts().collect::<Vec<_>>();
        assert_eq!(
            (counts(0), counts(1)),
            (vec![(Reason::Overloaded, 2)], vec![(Reason::NoRoute, 1)])
        );
    }
}
