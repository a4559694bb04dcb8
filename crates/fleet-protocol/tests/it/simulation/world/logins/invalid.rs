//! Logins with an invalid secret: one replica's verdict holds for all.

use super::*;

/// The longest wait after a failed login, and the shortest after the verdict of another replica.
const MAX_BACKOFF: u64 = 15 * SECOND;
const MIN_WAIT: u64 = 200 * MILLISECOND;

/// Citrix's verdict on a secret.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    failures: u32,
    until: StoreTime,
}

impl Verdict {
    fn seal(self) -> Vec<u8> {
        let failures = self.failures.to_le_bytes();
        [&failures[..], &self.until.0.to_le_bytes()].concat()
    }

    fn open(record: &[u8]) -> Self {
        let (failures, until) = record.split_at(4);
        Self {
            failures: u32::from_le_bytes(failures.try_into().unwrap()),
            until: StoreTime(u64::from_le_bytes(until.try_into().unwrap())),
        }
    }
}

/// Returns the wait after a number of failed logins, as the token keeper plans it without a token.
fn backoff(failures: u32) -> u64 {
    (SECOND << (failures - 1).min(8)).min(MAX_BACKOFF)
}

impl World {
    pub(super) fn is_invalid(&self, identity: usize) -> bool {
        identity < self.scenario.invalid_secrets
    }

    /// Tries an invalid secret. With the store's grant, no verdict on it holds, unless data was lost.
    pub(super) fn log_in_in_vain(&mut self, place: Place, shared: bool) {
        let (now, loss) = (self.now, self.store.loss);
        let verdict = self.logins.accounts[place.identity].verdict;
        let is_kept = |at: u64| loss.is_none_or(|loss| loss < at);
        // The store counts in milliseconds.
        let until = |(at, wait): (u64, u64)| at + wait - MILLISECOND;
        let holds = verdict.is_some_and(|verdict| is_kept(verdict.0) && now < until(verdict));
        assert!(!(shared && holds), "{place:?} at {now}: {verdict:?}");
        self.report.rejected_logins += 1;
        self.begin_login(place, shared);
    }

    pub(super) fn login_rejected(&mut self, place: Place, shared: bool) {
        let now = self.now;
        let keeper = self.keeper(place);
        keeper.logs_in = false;
        keeper.failures += 1;
        let failures = keeper.failures;
        let wait = backoff(failures);
        self.schedule_keeper(place, now + wait);
        if shared {
            let verdict = Verdict {
                failures,
                until: StoreTime((self.store.time(now) + wait) / 1000),
            };
            let result = LoginResult::Rejected {
                secret: identity_name(0),
                record: verdict.seal(),
                lifetime: Duration::from_micros(wait),
            };
            self.finish(place, result);
        }
    }

    /// A verdict is in the store.
    pub(in super::super) fn verdict_published(&mut self, identity: Name, lifetime: Duration) {
        let account = &mut self.logins.accounts[index_of(identity, 4_000_000)];
        account.verdict = Some((self.now, micros(lifetime)));
    }

    /// Waits for as long as the verdict of another replica holds.
    pub(super) fn wait_as_decided(&mut self, place: Place, record: &[u8], now: StoreTime) {
        let verdict = Verdict::open(record);
        let keeper = self.keeper(place);
        keeper.failures = keeper.failures.max(verdict.failures);
        let left = verdict.until.0.saturating_sub(now.0) * MILLISECOND;
        let at = self.now + left.clamp(MIN_WAIT, MAX_BACKOFF);
        self.schedule_keeper(place, at);
    }
}
