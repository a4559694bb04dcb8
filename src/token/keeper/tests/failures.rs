//! The keeper's reaction to each outcome. The mapping of responses to outcomes is tested with the
//! issuer (`issuer/tests.rs`) and the parser (`response/tests.rs`).

use super::*;
use crate::token::TokenState;

/// One outcome and its consequences. The first two backoffs do not depend on a usable token.
struct Row {
    outcome: Outcome,
    /// Requested wait, in seconds.
    retry_after: Option<u64>,
    /// Bounds of the first and second backoff, in seconds.
    first: (f64, f64),
    second: (f64, f64),
    /// Number of secrets that the first attempt tries, of two.
    secrets_tried: usize,
}

const BACKOFF: [(f64, f64); 2] = [(0.8, 1.2), (1.6, 2.4)];

const fn row(outcome: Outcome) -> Row {
    Row {
        outcome,
        retry_after: None,
        first: BACKOFF[0],
        second: BACKOFF[1],
        secrets_tried: 1,
    }
}

/// Returns all outcomes of a request except success. Unreadable secrets send no request (see
/// `rotation`).
fn table() -> Vec<Row> {
    let mut rows = vec![
        Row {
            secrets_tried: 2,
            ..row(Outcome::InvalidClient)
        },
        Row {
            secrets_tried: 2,
            ..row(Outcome::Unauthorized)
        },
        Row {
            first: (8.0, 12.0),
            second: (16.0, 24.0),
            ..row(Outcome::RateLimited)
        },
        Row {
            retry_after: Some(40),
            first: (40.0, 44.0),
            second: (40.0, 44.0),
            ..row(Outcome::RateLimited)
        },
        Row {
            retry_after: Some(20),
            first: (20.0, 22.0),
            second: (20.0, 22.0),
            ..row(Outcome::Http5xx)
        },
    ];
    rows.extend(
        [
            Outcome::Refused,
            Outcome::Dns,
            Outcome::Tls,
            Outcome::CertificateExpired,
            Outcome::CertificateNotYetValid,
            Outcome::CertificateOtherHost,
            Outcome::CertificateUntrusted,
            Outcome::CertificateInvalid,
            Outcome::Timeout,
            Outcome::Connect,
            Outcome::EgressProxy,
            Outcome::Http4xx,
            Outcome::Http5xx,
            Outcome::Redirect,
            Outcome::UnexpectedStatus,
            Outcome::NotJson,
            Outcome::Empty,
            Outcome::Truncated,
            Outcome::Malformed,
            Outcome::ErrorIn200,
            Outcome::TooLarge,
            Outcome::BadToken,
            Outcome::Expired,
        ]
        .map(row),
    );
    rows
}

fn fail(outcome: Outcome, retry_after: Option<u64>) -> Result<IssuedToken, LoginError> {
    let retry_after = retry_after.map(Duration::from_secs);
    login_error(outcome).map_err(|failure| LoginError {
        retry_after,
        ..failure
    })
}

impl Row {
    /// Returns the number of failing logins: three attempts, the first of which may try both
    /// secrets.
    const fn failing(&self) -> usize {
        2 + self.secrets_tried
    }

    fn check(&self, keeper: &TestKeeper, log: &CapturedLog, before: usize) {
        let outcome = self.outcome;
        let gaps = &keeper.gaps()[before..];
        // The second secret is tried without a backoff; both are rejected.
        let backoffs = &gaps[self.secrets_tried - 1..];
        for (backoff, (min, max)) in backoffs.iter().zip([self.first, self.second]) {
            // Timers have a resolution of 1 ms.
            assert!(
                (min..=max + 0.002).contains(backoff),
                "{outcome} {backoff} in {gaps:?}"
            );
        }
        let series = format!("token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(
            keeper.metric(&series),
            self.failing().to_string(),
            "{outcome}"
        );
        assert!(log.text().contains(outcome.advice()), "{outcome}");
        let status = keeper.slot.status();
        assert_eq!(
            status.last_failure.as_ref().map(|failure| failure.outcome),
            Some(outcome)
        );
        assert_eq!(
            (status.consecutive_failures, keeper.state()),
            (0, TokenState::Fresh),
            "{outcome}: recovered"
        );
    }
}

#[test]
fn table_has_every_outcome() {
    let table = table();
    for outcome in Outcome::ALL {
        let exempt = matches!(outcome, Outcome::Ok | Outcome::SecretUnreadable);
        assert_eq!(
            table.iter().any(|row| row.outcome == outcome),
            !exempt,
            "{outcome}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failure_without_a_token_is_reported_and_retried_after_a_backoff() {
    for row in table() {
        let log = CapturedLog::start();
        let (outcome, retry_after, failing) = (row.outcome, row.retry_after, row.failing());
        let keeper = TestKeeper::with(
            secret("a"),
            Some(secret("b")),
            Duration::ZERO,
            move |call| {
                if call.number as usize <= failing {
                    fail(outcome, retry_after)
                } else {
                    granted(3600)
                }
            },
        );
        seconds(0.5).await;
        assert_eq!(
            (keeper.usable(), keeper.state()),
            (0, TokenState::Unusable),
            "{outcome}"
        );
        let unavailable = keeper.slot.unavailable();
        assert_eq!(unavailable.outcome, Some(outcome));
        let wait = unavailable.retry_after.as_secs_f64();
        assert!(
            ((row.first.0 - 0.5).max(1.0)..=row.first.1).contains(&wait),
            "{outcome} {wait}: the actual backoff"
        );
        seconds(200.0).await;
        assert_eq!(
            (keeper.usable(), keeper.logins()),
            (1, failing + 1),
            "{outcome}"
        );
        row.check(&keeper, &log, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn failure_with_a_token_keeps_it_in_use_and_is_retried() {
    for row in table() {
        let log = CapturedLog::start();
        let (outcome, retry_after, failing) = (row.outcome, row.retry_after, row.failing());
        let keeper = TestKeeper::with(
            secret("a"),
            Some(secret("b")),
            Duration::ZERO,
            move |call| {
                let fails = (2..2 + failing).contains(&(call.number as usize));
                if fails {
                    fail(outcome, retry_after)
                } else {
                    granted(3600)
                }
            },
        );
        while keeper.logins() < 2 {
            seconds(1.0).await;
        }
        assert_eq!(
            (keeper.usable(), keeper.state()),
            (1, TokenState::Stale),
            "{outcome}: kept, but stale"
        );
        while keeper.logins() < failing + 2 {
            assert_eq!(keeper.usable(), 1, "{outcome}: keeper");
            seconds(0.25).await;
        }
        assert_eq!(keeper.usable(), 2, "{outcome}");
        row.check(&keeper, &log, 1);
    }
}
