//! `/readyz`: can requests be sent for every customer?

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{Admin, Answer, text};
use crate::state::lifecycle::Phase;
use crate::token::slot::TokenSlot;
use crate::token::status::{TokenState, TokenStatus};

/// 200 when every credential has a usable token and nothing is being drained; 503 says first what is missing. Either
/// way every customer's state is told.
pub(super) fn answer(admin: &Admin) -> Answer {
    let published = admin.shared.published.load();
    let now = admin.shared.clock.now();
    let mut customers: Vec<(TokenState, String)> = published
        .customers
        .iter()
        .map(|customer| line(customer.credential.customer(), &customer.token, now))
        .collect();
    // The worst first; in the order of the configuration otherwise.
    customers.sort_by_key(|(state, _)| match state {
        TokenState::Unusable => 0,
        TokenState::Stale => 1,
        TokenState::Fresh => 2,
    });
    let draining = admin.lifecycle.phase() != Phase::Running;
    let ready = !draining
        && customers
            .iter()
            .all(|(state, _)| *state != TokenState::Unusable);
    let mut lines = Vec::with_capacity(customers.len() + 1);
    if ready {
        lines.push("ready".to_owned());
    } else if draining {
        lines.push("the gateway is draining".to_owned());
    }
    lines.extend(customers.into_iter().map(|(_, line)| line));
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    text(status, lines.join("\n") + "\n")
}

/// One customer's state and its line, as in `customer acme: fresh; the next login is due in 2655 s`.
fn line(customer: &str, slot: &TokenSlot, now: SystemTime) -> (TokenState, String) {
    let status = slot.status();
    let state = status.state(now);
    let why = why(state, &status, now)
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    (
        state,
        format!(
            "customer {customer}: {}{why}; {}",
            state.name(),
            next_login(&status)
        ),
    )
}

fn why(state: TokenState, status: &TokenStatus, now: SystemTime) -> Option<String> {
    let failure = status.current_failure().map(|failure| {
        let (outcome, advice) = (failure.outcome, failure.outcome.advice());
        format!("the last login failed ({outcome}: {advice})")
    });
    match state {
        TokenState::Fresh => None,
        TokenState::Stale => {
            let left = status
                .usable_until
                .and_then(|until| until.duration_since(now).ok());
            let left = whole_seconds(left.unwrap_or_default());
            let why = failure.unwrap_or_else(|| "the login is late".to_owned());
            Some(format!(
                "{why}, and the present token can be sent for {left} s"
            ))
        }
        TokenState::Unusable if status.generation == 0 => {
            Some(failure.unwrap_or_else(|| "there is no token yet".to_owned()))
        }
        TokenState::Unusable => {
            Some(failure.unwrap_or_else(|| "the token's life is over".to_owned()))
        }
    }
}

fn next_login(status: &TokenStatus) -> String {
    match status.next_login_in() {
        _ if status.in_progress => "a login is being made".to_owned(),
        Duration::ZERO => "a login is due now".to_owned(),
        wait => format!("the next login is due in {} s", whole_seconds(wait)),
    }
}

/// Rounded up, so that nobody reads 0 where something is left.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::outcome::Outcome;
    use crate::token::status::FailedLogin;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn status(set: impl FnOnce(&mut TokenStatus)) -> TokenStatus {
        let mut status = TokenStatus::default();
        set(&mut status);
        status
    }

    fn issued(status: &mut TokenStatus, until: u64) {
        (status.generation, status.usable_until) = (1, Some(at(until)));
    }

    fn fail(status: &mut TokenStatus) {
        let failed = FailedLogin {
            outcome: Outcome::Empty,
            transaction_id: None,
            at: at(0),
        };
        (status.consecutive_failures, status.last_failure) = (2, Some(failed));
    }

    #[test]
    fn each_state_has_its_reason() {
        let advice = Outcome::Empty.advice();
        let failed = format!("the last login failed (empty: {advice})");
        let left = "the present token can be sent for 10 s";
        let both = |status: &mut TokenStatus, until| {
            fail(status);
            issued(status, until);
        };
        let late = |status: &mut TokenStatus| {
            issued(status, 20);
            status.next_attempt = Some(at(5));
        };
        for (status, state, reason) in [
            (status(|status| issued(status, 20)), TokenState::Fresh, None),
            (
                status(|status| both(status, 20)),
                TokenState::Stale,
                Some(format!("{failed}, and {left}")),
            ),
            (
                status(late),
                TokenState::Stale,
                Some(format!("the login is late, and {left}")),
            ),
            (
                status(|_| ()),
                TokenState::Unusable,
                Some("there is no token yet".to_owned()),
            ),
            (status(fail), TokenState::Unusable, Some(failed.clone())),
            (
                status(|status| issued(status, 10)),
                TokenState::Unusable,
                Some("the token's life is over".to_owned()),
            ),
            (
                status(|status| both(status, 10)),
                TokenState::Unusable,
                Some(failed),
            ),
        ] {
            assert_eq!(status.state(at(10)), state, "{status:?}");
            assert_eq!(why(state, &status, at(10)), reason, "{status:?}");
        }
    }
}
