//! `/readyz`: the state of every customer's token, and whether Citrix accepts it.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::times::rfc3339;
use super::{Admin, FullResponse, text};
use crate::state::lifecycle::Phase;
use crate::token::acceptance::{REJECTION_ADVICE, Rejection};
use crate::token::response::OTHER_CUSTOMER_ADVICE;
use crate::token::slot::TokenSlot;
use crate::token::status::{TokenState, TokenStatus};

/// Condition of a customer, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Unusable,
    /// Citrix rejects the requests although the token has not expired.
    Rejected,
    /// The token belongs to another customer.
    OtherCustomer,
    Stale,
    Fresh,
}

/// Responds with 200 if every customer has a usable token and the gateway is not draining, else
/// with 503. Lists every customer's state, the worst first.
///
/// A customer that Citrix rejects is listed, but is no reason for 503. Without requests it could
/// never become ready again, since only their success ends the rejection; other customers would
/// lose the gateway; and callers get Citrix's own response with its transaction id.
pub(super) fn respond(admin: &Admin) -> FullResponse {
    let published = admin.shared.published.load();
    let now = admin.shared.clock.now();
    let mut customers: Vec<(Condition, String)> = published
        .customers
        .iter()
        .map(|customer| line(customer.credential.customer(), &customer.token, now))
        .collect();
    // A stable sort, so that customers of one state stay in the order of the configuration.
    customers.sort_by_key(|(condition, _)| *condition);
    let draining = admin.lifecycle.phase() != Phase::Running;
    let count = |condition| {
        let matching = customers.iter().filter(|(of, _)| *of == condition);
        matching.count()
    };
    let ready = !draining && count(Condition::Unusable) == 0;
    let mut lines = Vec::with_capacity(customers.len() + 1);
    if ready {
        let (rejected, foreign) = (count(Condition::Rejected), count(Condition::OtherCustomer));
        lines.push(headline(rejected, foreign, customers.len()));
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

fn headline(rejected: usize, foreign: usize, customers: usize) -> String {
    match (rejected, foreign) {
        (0, 0) => "ready".to_owned(),
        (0, foreign) => {
            format!(
                "ready, but {foreign} of {customers} customers have the token of another customer"
            )
        }
        (rejected, _) => {
            format!("ready, but Citrix rejects {rejected} of {customers} customers")
        }
    }
}

/// Returns one customer's condition and its line, for example
/// `customer acme: fresh; next login in 2655 s`.
fn line(customer: &str, slot: &TokenSlot, now: SystemTime) -> (Condition, String) {
    let state = CustomerState {
        status: slot.status(),
        rejection: slot.rejection(),
    };
    let condition = state.condition(now);
    let name = state.name(condition, now);
    let cause = state
        .cause(condition, now)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let next = next_login(&state.status);
    (
        condition,
        format!("customer {customer}: {name}{cause}; {next}"),
    )
}

/// The facts that a customer's line states.
struct CustomerState {
    status: TokenStatus,
    rejection: Option<Rejection>,
}

impl CustomerState {
    fn condition(&self, now: SystemTime) -> Condition {
        match self.status.state(now) {
            TokenState::Unusable => Condition::Unusable,
            _ if self.rejection.is_some() => Condition::Rejected,
            _ if self.status.other_customer.is_some() => Condition::OtherCustomer,
            TokenState::Stale => Condition::Stale,
            TokenState::Fresh => Condition::Fresh,
        }
    }

    fn name(&self, condition: Condition, now: SystemTime) -> &'static str {
        match condition {
            Condition::Rejected => "rejected",
            _ => self.status.state(now).name(),
        }
    }

    fn cause(&self, condition: Condition, now: SystemTime) -> Option<String> {
        let (status, failure) = (&self.status, self.login_failure());
        let causes = match condition {
            Condition::Fresh => [None, None],
            Condition::Rejected => [self.rejection.as_ref().map(rejection), failure],
            Condition::OtherCustomer => [failure, None],
            Condition::Stale => [Some(self.stale_cause(failure, now)), None],
            Condition::Unusable => {
                let cause = failure.unwrap_or_else(|| match status.generation {
                    0 => "no token yet".to_owned(),
                    _ => "the token has expired".to_owned(),
                });
                [Some(cause), None]
            }
        };
        let other = status
            .other_customer
            .as_ref()
            .map(|other| format!("the token belongs to customer {other}; {OTHER_CUSTOMER_ADVICE}"));
        let secret = status
            .secret_problem
            .as_ref()
            .map(|problem| format!("a client secret is unreadable: {problem}"));
        let causes = causes.into_iter().chain([secret, other]);
        let causes: Vec<String> = causes.flatten().collect();
        (!causes.is_empty()).then(|| causes.join("; "))
    }

    fn stale_cause(&self, failure: Option<String>, now: SystemTime) -> String {
        let cause = failure.unwrap_or_else(|| match self.status.on_old_secret {
            true => "no configured secret works".to_owned(),
            false => "the refresh is overdue".to_owned(),
        });
        let until = self.status.usable_until;
        let left = until.and_then(|until| until.duration_since(now).ok());
        let left = whole_seconds(left.unwrap_or_default());
        format!("{cause}, and the current token is usable for {left} s")
    }

    fn login_failure(&self) -> Option<String> {
        let outcome = self.status.current_failure()?.outcome;
        let advice = outcome.advice();
        Some(format!("the last login failed ({outcome}: {advice})"))
    }
}

fn rejection(rejection: &Rejection) -> String {
    format!(
        "Citrix has returned {} to all requests since {} ({}, the last at {}); {REJECTION_ADVICE}",
        rejection.code.as_u16(),
        rfc3339(rejection.since),
        rejection.requests,
        rfc3339(rejection.last),
    )
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

    fn state(status: TokenStatus) -> CustomerState {
        CustomerState {
            status,
            rejection: None,
        }
    }

    fn rejected(state: CustomerState) -> CustomerState {
        let rejection = Rejection {
            since: at(1),
            last: at(9),
            requests: 12,
            code: StatusCode::FORBIDDEN,
        };
        CustomerState {
            rejection: Some(rejection),
            ..state
        }
    }

    const FAILED: &str = "the last login failed (empty: the token endpoint returned 200 without a body; \
                          report the transaction id to Citrix)";

    fn check(state: &CustomerState, expected: (Condition, &str, Option<String>)) {
        let condition = state.condition(at(10));
        let (name, cause) = (
            state.name(condition, at(10)),
            state.cause(condition, at(10)),
        );
        assert_eq!((condition, name, cause), expected, "{:?}", state.status);
    }

    #[test]
    fn each_token_state_has_its_cause() {
        let left = "the current token is usable for 10 s";
        let both = |status: &mut TokenStatus, until| {
            fail(status);
            issued(status, until);
        };
        let late = |status: &mut TokenStatus| {
            issued(status, 20);
            status.next_attempt = Some(at(5));
        };
        let old_secret = |status: &mut TokenStatus| {
            issued(status, 20);
            status.on_old_secret = true;
        };
        let text = |text: &str| Some(text.to_owned());
        let stale = |cause| {
            let name = "stale but valid";
            (Condition::Stale, name, Some(format!("{cause}, and {left}")))
        };
        let unusable = |cause| (Condition::Unusable, "unusable", text(cause));
        for (status, expected) in [
            (
                status(|status| issued(status, 20)),
                (Condition::Fresh, "fresh", None),
            ),
            (status(|status| both(status, 20)), stale(FAILED)),
            (status(late), stale("the refresh is overdue")),
            (status(old_secret), stale("no configured secret works")),
            (status(|_| ()), unusable("no token yet")),
            (status(fail), unusable(FAILED)),
            (
                status(|status| issued(status, 10)),
                unusable("the token has expired"),
            ),
            (status(|status| both(status, 10)), unusable(FAILED)),
        ] {
            check(&state(status), expected);
        }
    }

    #[test]
    fn rejected_customer_is_never_called_valid() {
        let fresh = || status(|status| issued(status, 20));
        let failing = || {
            status(|status| {
                fail(status);
                issued(status, 20);
            })
        };
        let cause = format!(
            "Citrix has returned 403 to all requests since 1970-01-01T00:00:01Z \
             (12, the last at 1970-01-01T00:00:09Z); {REJECTION_ADVICE}"
        );
        let expected = (Condition::Rejected, "rejected", Some(cause.clone()));
        check(&rejected(state(fresh())), expected);
        let both = Some(format!("{cause}; {FAILED}"));
        check(
            &rejected(state(failing())),
            (Condition::Rejected, "rejected", both),
        );
        // Without a token, no request is sent.
        check(
            &rejected(state(status(fail))),
            (Condition::Unusable, "unusable", Some(FAILED.to_owned())),
        );
    }

    #[test]
    fn token_of_another_customer_is_reported_in_every_state() {
        let foreign = |until| {
            status(|status| {
                issued(status, until);
                status.other_customer = Some("other".into());
            })
        };
        let cause = format!("the token belongs to customer other; {OTHER_CUSTOMER_ADVICE}");
        let expected = (Condition::OtherCustomer, "fresh", Some(cause.clone()));
        check(&state(foreign(20)), expected);
        let (condition, name) = (Condition::Rejected, "rejected");
        let state = rejected(state(foreign(20)));
        assert_eq!(state.condition(at(10)), condition);
        assert_eq!(state.name(condition, at(10)), name);
        assert!(state.cause(condition, at(10)).unwrap().ends_with(&cause));
    }

    #[test]
    fn unreadable_secret_is_reported_in_every_state() {
        let unreadable = |until| {
            status(|status| {
                issued(status, until);
                status.secret_problem = Some("cannot read /s: No such file".to_owned());
            })
        };
        let cause = "a client secret is unreadable: cannot read /s: No such file";
        let expected = (Condition::Fresh, "fresh", Some(cause.to_owned()));
        check(&state(unreadable(20)), expected);
        let expired = Some(format!("the token has expired; {cause}"));
        check(
            &state(unreadable(5)),
            (Condition::Unusable, "unusable", expired),
        );
    }

    #[test]
    fn headline_states_rejections_before_other_problems() {
        for (rejected, foreign, expected) in [
            (0, 0, "ready"),
            (
                0,
                1,
                "ready, but 1 of 3 customers have the token of another customer",
            ),
            (1, 0, "ready, but Citrix rejects 1 of 3 customers"),
            (2, 1, "ready, but Citrix rejects 2 of 3 customers"),
        ] {
            assert_eq!(headline(rejected, foreign, 3), expected);
        }
    }
}
