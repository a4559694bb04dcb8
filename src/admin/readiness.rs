//! `/readyz`: the state of every customer's token.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{Admin, FullResponse, text};
use crate::state::lifecycle::Phase;
use crate::token::slot::TokenSlot;
use crate::token::status::{TokenState, TokenStatus};

/// Responds with 200 if every customer has a usable token and the gateway is not draining, else
/// with 503. Lists every customer's state, the worst first.
pub(super) fn respond(admin: &Admin) -> FullResponse {
    let published = admin.shared.published.load();
    let now = admin.shared.clock.now();
    let mut customers: Vec<(TokenState, String)> = published
        .customers
        .iter()
        .map(|customer| line(customer.credential.customer(), &customer.token, now))
        .collect();
    // A stable sort, so that customers of one state stay in the order of the configuration.
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

/// Returns one customer's state and its line, for example
/// `customer acme: fresh; next login in 2655 s`.
fn line(customer: &str, slot: &TokenSlot, now: SystemTime) -> (TokenState, String) {
    let status = slot.status();
    let state = status.state(now);
    let cause = cause(state, &status, now)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    (
        state,
        format!(
            "customer {customer}: {}{cause}; {}",
            state.name(),
            next_login(&status)
        ),
    )
}

fn cause(state: TokenState, status: &TokenStatus, now: SystemTime) -> Option<String> {
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
            let cause = failure.unwrap_or_else(|| "the refresh is overdue".to_owned());
            Some(format!(
                "{cause}, and the current token is usable for {left} s"
            ))
        }
        TokenState::Unusable if status.generation == 0 => {
            Some(failure.unwrap_or_else(|| "no token yet".to_owned()))
        }
        TokenState::Unusable => Some(failure.unwrap_or_else(|| "the token has expired".to_owned())),
    }
}

fn next_login(status: &TokenStatus) -> String {
    match status.next_login_in() {
        _ if status.in_progress => "login in progress".to_owned(),
        Duration::ZERO => "login due now".to_owned(),
        wait => format!("next login in {} s", whole_seconds(wait)),
    }
}

/// Rounds up to whole seconds, so that a positive time is never 0.
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
    fn each_state_has_its_cause() {
        let advice = Outcome::Empty.advice();
        let failed = format!("the last login failed (empty: {advice})");
        let left = "the current token is usable for 10 s";
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
                Some(format!("the refresh is overdue, and {left}")),
            ),
            (
                status(|_| ()),
                TokenState::Unusable,
                Some("no token yet".to_owned()),
            ),
            (status(fail), TokenState::Unusable, Some(failed.clone())),
            (
                status(|status| issued(status, 10)),
                TokenState::Unusable,
                Some("the token has expired".to_owned()),
            ),
            (
                status(|status| both(status, 10)),
                TokenState::Unusable,
                Some(failed),
            ),
        ] {
            assert_eq!(status.state(at(10)), state, "{status:?}");
            assert_eq!(cause(state, &status, at(10)), reason, "{status:?}");
        }
    }
}
