//! Rejections in a flood: each owner has a number of lines of its own, then a count.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::AuditOwner;
use super::line::AuditLine;
use crate::error::Reason;
use crate::limit::owner::OwnerKey;
use crate::observe::metrics::NONE;

/// Time from the first rejection to the line with the counts.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Lines of one client without a caller per interval. Rejections that were only counted reduce
/// those of the next interval, so that a continuous flood has no further ones.
const MAX_LINES: u64 = 50;
/// Lines of all such clients per interval.
const MAX_LINES_OF_ALL: u64 = 500;
/// Clients with lines, and counts, per interval. Rejections of further owners share one count for
/// each verdict and reason.
const MAX_KEYS: usize = 1024;

/// A kind of rejections that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counted {
    pub(super) owner: AuditOwner,
    pub(super) verdict: &'static str,
    pub(super) listener: Option<&'static str>,
    pub(super) reason: Reason,
}

/// The rejections of the current interval.
#[derive(Debug, Default)]
pub(super) struct Rejections(Mutex<Interval>);

#[derive(Debug, Default)]
struct Interval {
    /// Time of its end; `None` without rejections.
    due: Option<Instant>,
    /// Lines of each client without a caller.
    lines: HashMap<AuditOwner, u64>,
    lines_of_all: u64,
    counts: Counts,
    /// All that were ever counted.
    total: u64,
}

#[derive(Debug, Default)]
struct Counts {
    of_owners: HashMap<Counted, u64>,
    /// Of the owners beyond [`MAX_KEYS`].
    of_others: HashMap<(&'static str, Reason), u64>,
}

impl Rejections {
    fn lock(&self) -> MutexGuard<'_, Interval> {
        // A panic leaves nothing half updated.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if the owner's rejection may have a line of its own. Those of callers always
    /// may: callers are known, and their lines wait in the queue within the caller's share.
    pub(super) fn permits_line(&self, owner: &AuditOwner, now: Instant) -> bool {
        if !matches!(owner, AuditOwner::Client(_)) {
            return true;
        }
        let mut interval = self.lock();
        interval.begin(now);
        if interval.lines_of_all >= MAX_LINES_OF_ALL
            || (interval.lines.len() >= MAX_KEYS && !interval.lines.contains_key(owner))
        {
            return false;
        }
        let lines = interval.lines.entry(owner.clone()).or_default();
        if *lines >= MAX_LINES {
            return false;
        }
        *lines += 1;
        interval.lines_of_all += 1;
        true
    }

    /// Counts a rejection without a line of its own. Returns `true` if it begins an interval.
    pub(super) fn count(&self, rejection: Counted, now: Instant) -> bool {
        let mut interval = self.lock();
        interval.total += 1;
        interval.counts.add(rejection);
        interval.begin(now)
    }

    /// Returns the end of the interval, if there are rejections in it.
    pub(super) fn due(&self) -> Option<Instant> {
        self.lock().due
    }

    /// Returns the number of rejections that were ever counted.
    pub(super) fn total(&self) -> u64 {
        self.lock().total
    }

    /// Ends the interval. Returns a line for each count.
    pub(super) fn summarize(
        &self,
        now: Instant,
        format: impl Fn(&AuditLine<'_>) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let counts = self.lock().end(now);
        let of_owners = counts.of_owners.iter();
        let of_owners = of_owners.map(|(counted, &count)| counted.line(count));
        let of_others = counts.of_others.iter();
        let of_others = of_others.map(|(&(verdict, reason), &count)| AuditLine {
            verdict,
            caller: NONE,
            reason: Some(reason.as_str()),
            count: Some(count),
            ..AuditLine::default()
        });
        of_owners
            .chain(of_others)
            .map(|line| format(&line))
            .collect()
    }
}

impl Interval {
    /// Begins the interval, unless it has begun. Returns `true` if it had not.
    fn begin(&mut self, now: Instant) -> bool {
        let begins = self.due.is_none();
        self.due.get_or_insert(now + INTERVAL);
        begins
    }

    /// Returns the counts. Another interval begins if there were any: the same clients may go on.
    fn end(&mut self, now: Instant) -> Counts {
        let counts = std::mem::take(&mut self.counts);
        self.lines_of_all = 0;
        self.lines.clear();
        for (Counted { owner, .. }, count) in &counts.of_owners {
            if matches!(owner, AuditOwner::Client(_)) {
                let lines = self.lines.entry(owner.clone()).or_default();
                *lines = (*lines + count).min(MAX_LINES);
            }
        }
        self.due = (!self.lines.is_empty()).then(|| now + INTERVAL);
        counts
    }
}

impl Counts {
    fn add(&mut self, rejection: Counted) {
        if self.of_owners.len() < MAX_KEYS || self.of_owners.contains_key(&rejection) {
            *self.of_owners.entry(rejection).or_default() += 1;
        } else {
            let key = (rejection.verdict, rejection.reason);
            *self.of_others.entry(key).or_default() += 1;
        }
    }
}

impl Counted {
    fn line(&self, count: u64) -> AuditLine<'_> {
        let (caller, peer) = match &self.owner {
            AuditOwner::Caller(name) => (&**name, None),
            AuditOwner::Client(OwnerKey::Address(address)) => (NONE, Some(address.to_string())),
            AuditOwner::Client(_) => (NONE, None),
            AuditOwner::Operator => ("operator", None),
        };
        AuditLine {
            verdict: self.verdict,
            listener: self.listener,
            caller,
            peer,
            reason: Some(self.reason.as_str()),
            count: Some(count),
            ..AuditLine::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(last: u32) -> AuditOwner {
        AuditOwner::at(Some(Ipv4Addr::from_bits(0xc000_0200 + last).into()))
    }

    fn counted(owner: AuditOwner) -> Counted {
        Counted {
            owner,
            verdict: "refused",
            listener: None,
            reason: Reason::CallerUnknown,
        }
    }

    /// Rejects `number` requests. Returns how many may have a line.
    fn reject(rejections: &Rejections, owner: &AuditOwner, number: u64, now: Instant) -> u64 {
        let mut lines = 0;
        for _ in 0..number {
            if rejections.permits_line(owner, now) {
                lines += 1;
            } else {
                rejections.count(counted(owner.clone()), now);
            }
        }
        lines
    }

    /// Ends the interval. Returns the callers or addresses with their counts, sorted.
    fn summary(rejections: &Rejections, now: Instant) -> Vec<(String, u64)> {
        let format = |line: &AuditLine<'_>| {
            let who = line.peer.as_deref().unwrap_or(line.caller);
            format!("{who} {}", line.count.unwrap()).into_bytes()
        };
        let lines = rejections.summarize(now, format).into_iter();
        let mut lines: Vec<_> = lines
            .map(|line| {
                let line = String::from_utf8(line).unwrap();
                let (who, count) = line.split_once(' ').unwrap();
                (who.to_owned(), count.parse().unwrap())
            })
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn flood_of_a_client_is_counted_after_its_first_lines() {
        let (rejections, now) = (Rejections::default(), Instant::now());
        assert_eq!(rejections.due(), None);
        assert_eq!(reject(&rejections, &client(1), 1000, now), MAX_LINES);
        assert_eq!(reject(&rejections, &client(2), 1, now), 1);
        assert_eq!(rejections.due(), Some(now + INTERVAL));
        let expected = ("192.0.2.1".to_owned(), 1000 - MAX_LINES);
        assert_eq!(summary(&rejections, now), [expected]);
        assert_eq!(rejections.total(), 1000 - MAX_LINES);
    }

    #[test]
    fn client_has_lines_again_once_its_flood_has_ended() {
        let (rejections, mut now) = (Rejections::default(), Instant::now());
        reject(&rejections, &client(1), 1000, now);
        for _ in 0..3 {
            summary(&rejections, now);
            now += INTERVAL;
            assert_eq!(reject(&rejections, &client(1), 1000, now), 0);
        }
        summary(&rejections, now);
        assert!(rejections.due().is_some());
        assert_eq!(summary(&rejections, now), []);
        assert_eq!(rejections.due(), None);
        assert_eq!(reject(&rejections, &client(1), 1, now), 1);
    }

    #[test]
    fn number_of_lines_and_counts_is_bounded() {
        let (rejections, now) = (Rejections::default(), Instant::now());
        let lines: u64 = (0..5000)
            .map(|last| reject(&rejections, &client(last), 2, now))
            .sum();
        assert_eq!(lines, MAX_LINES_OF_ALL);
        let lines = summary(&rejections, now);
        assert_eq!(lines.len(), MAX_KEYS + 1);
        let counted: u64 = lines.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 10_000 - MAX_LINES_OF_ALL);
    }
}
