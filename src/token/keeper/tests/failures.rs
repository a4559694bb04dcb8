//! Every class of failure × what the keeper did. How an answer on the wire becomes a class is tested with the issuer
//! (`issuer/tests.rs`) and the parser (`answer/tests.rs`).

use super::*;
use crate::token::TokenState;

/// One class, and what follows from it. The first two pauses are the same with a token as without.
struct Row {
    outcome: Outcome,
    /// What the answer asks for, in seconds.
    hint: Option<u64>,
    /// The bounds of the first pause and of the second, in seconds.
    first: (f64, f64),
    second: (f64, f64),
    /// How many of two secrets an attempt tries at first.
    secrets_tried: usize,
}

const BACKOFF: [(f64, f64); 2] = [(0.8, 1.2), (1.6, 2.4)];

const fn row(outcome: Outcome) -> Row {
    Row {
        outcome,
        hint: None,
        first: BACKOFF[0],
        second: BACKOFF[1],
        secrets_tried: 1,
    }
}

/// All classes but success, and the secret that cannot be read: there is no login then (see `rotation`).
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
            hint: Some(40),
            first: (40.0, 44.0),
            second: (40.0, 44.0),
            ..row(Outcome::RateLimited)
        },
        Row {
            hint: Some(20),
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

fn fail(outcome: Outcome, hint: Option<u64>) -> Result<IssuedToken, LoginError> {
    let retry_after = hint.map(Duration::from_secs);
    refused(outcome).map_err(|failure| LoginError {
        retry_after,
        ..failure
    })
}

impl Row {
    /// How many logins in a row fail here: three attempts, of which the first tries both secrets where that helps.
    const fn failing(&self) -> usize {
        2 + self.secrets_tried
    }

    fn check(&self, kept: &Kept, log: &Log, before: usize) {
        let outcome = self.outcome;
        let gaps = &kept.gaps()[before..];
        // The second secret follows the first without a pause; both are refused.
        let pauses = &gaps[self.secrets_tried - 1..];
        for (pause, (least, most)) in pauses.iter().zip([self.first, self.second]) {
            // The timer's grain is a millisecond.
            assert!(
                (least..=most + 0.002).contains(pause),
                "{outcome} {pause} in {gaps:?}"
            );
        }
        let series = format!("token_refreshes_total{{customer=\"acme\",outcome=\"{outcome}\"}}");
        assert_eq!(
            kept.metric(&series),
            self.failing().to_string(),
            "{outcome}"
        );
        assert!(log.text().contains(outcome.advice()), "{outcome}");
        let status = kept.slot.status();
        assert_eq!(
            status.last_failure.as_ref().map(|failure| failure.outcome),
            Some(outcome)
        );
        assert_eq!(
            (status.consecutive_failures, kept.state()),
            (0, TokenState::Fresh),
            "{outcome}: recovered"
        );
    }
}

#[test]
fn the_table_has_every_class() {
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
async fn without_a_token_every_failure_is_told_paused_after_and_tried_again() {
    for row in table() {
        let log = Log::start();
        let (outcome, hint, failing) = (row.outcome, row.hint, row.failing());
        let kept = Kept::with(
            secret("a"),
            Some(secret("b")),
            Duration::ZERO,
            move |call| {
                if call.number as usize <= failing {
                    fail(outcome, hint)
                } else {
                    granted(3600)
                }
            },
        );
        seconds(0.5).await;
        assert_eq!(
            (kept.usable(), kept.state()),
            (0, TokenState::Unusable),
            "{outcome}"
        );
        let unavailable = kept.slot.unavailable();
        assert_eq!(unavailable.outcome, Some(outcome));
        let wait = unavailable.retry_after.as_secs_f64();
        assert!(
            ((row.first.0 - 0.5).max(1.0)..=row.first.1).contains(&wait),
            "{outcome} {wait}: the real pause"
        );
        seconds(200.0).await;
        assert_eq!(
            (kept.usable(), kept.logins()),
            (1, failing + 1),
            "{outcome}"
        );
        row.check(&kept, &log, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_token_every_failure_leaves_it_in_use_and_is_tried_again() {
    for row in table() {
        let log = Log::start();
        let (outcome, hint, failing) = (row.outcome, row.hint, row.failing());
        let kept = Kept::with(
            secret("a"),
            Some(secret("b")),
            Duration::ZERO,
            move |call| {
                let fails = (2..2 + failing).contains(&(call.number as usize));
                if fails {
                    fail(outcome, hint)
                } else {
                    granted(3600)
                }
            },
        );
        while kept.logins() < 2 {
            seconds(1.0).await;
        }
        assert_eq!(
            (kept.usable(), kept.state()),
            (1, TokenState::Stale),
            "{outcome}: kept, and not fresh"
        );
        while kept.logins() < failing + 2 {
            assert_eq!(kept.usable(), 1, "{outcome}: kept");
            seconds(0.25).await;
        }
        assert_eq!(kept.usable(), 2, "{outcome}");
        row.check(&kept, &log, 1);
    }
}
