//! Problems of tokens and of the customers that they belong to.

use super::{AlertLevel, MAX_NAMED};
use crate::admin::status::tokens::{RejectionView, TokenView};
use crate::token::acceptance::REJECTION_ADVICE;
use crate::token::response::OTHER_CUSTOMER_ADVICE;
use crate::token::status::WhichSecret;

/// Failing logins are critical if the token is usable for less than this, in seconds.
const MIN_RUNWAY_S: u64 = 600;
/// Maximum clock skew in seconds.
const MAX_SKEW_S: f64 = 30.0;

/// Adds one alert for each problem; it names the customers that have it.
pub(super) fn alerts(tokens: &[TokenView], add: &mut impl FnMut(AlertLevel, &'static str, String)) {
    let mut report = |level, kind, problem: &str, matches: &dyn Fn(&TokenView) -> bool| {
        let matching: Vec<&TokenView> = tokens.iter().filter(|token| matches(token)).collect();
        if let Some(text) = sentence(&matching, problem) {
            add(level, kind, text);
        }
    };
    report(
        AlertLevel::Critical,
        "token_unusable",
        "no usable token",
        &|token| !token.is_usable(),
    );
    rejections(tokens, &mut report);
    failing_logins(tokens, &mut report);
    report(
        AlertLevel::Warning,
        "login_late",
        "login overdue",
        &|token| token.is_stale() && token.consecutive_failures == 0 && !token.on_old_secret,
    );
    report(
        AlertLevel::Warning,
        "secret_rejected",
        "no configured secret works; a restart would lose the one in use",
        &|token| token.on_old_secret,
    );
    report(
        AlertLevel::Warning,
        "secret_unreadable",
        "a client secret is unreadable; the next start would fail",
        &|token| token.secret_problem.is_some(),
    );
    report(
        AlertLevel::Notice,
        "secret_next_in_use",
        "client_secret_next is in use; move it to client_secret",
        &|token| token.secret == Some(WhichSecret::Next.name()),
    );
    report(
        AlertLevel::Warning,
        "clock_skew",
        "the local clock and Citrix's differ by more than 30 s",
        &|token| {
            token
                .clock_skew_s
                .is_some_and(|skew| skew.abs() > MAX_SKEW_S)
        },
    );
}

/// Reports the customers of a problem: level, kind, problem and condition.
type Report<'r> = dyn FnMut(AlertLevel, &'static str, &str, &dyn Fn(&TokenView) -> bool) + 'r;

fn rejections(tokens: &[TokenView], report: &mut Report<'_>) {
    report(
        AlertLevel::Critical,
        "customer_rejected",
        &rejected_requests(tokens),
        &is_rejected,
    );
    report(
        AlertLevel::Warning,
        "customer_mismatch",
        &other_customers(tokens),
        &|token| token.other_customer.is_some(),
    );
}

fn failing_logins(tokens: &[TokenView], report: &mut Report<'_>) {
    // A token that Citrix rejects is not usable for any time.
    let is_failing = |token: &TokenView| is_failing(token) && token.rejection.is_none();
    let is_short = |token: &TokenView| is_failing(token) && token.runway_s < MIN_RUNWAY_S;
    report(
        AlertLevel::Critical,
        "token_runway_short",
        &remaining_time(tokens, &is_short),
        &is_short,
    );
    let is_long = |token: &TokenView| is_failing(token) && token.runway_s >= MIN_RUNWAY_S;
    report(
        AlertLevel::Warning,
        "login_failing",
        &remaining_time(tokens, &is_long),
        &is_long,
    );
}

fn is_failing(token: &TokenView) -> bool {
    token.is_stale() && token.consecutive_failures > 0
}

fn is_rejected(token: &TokenView) -> bool {
    token.is_usable() && token.rejection.is_some()
}

/// States the rejection of the first rejected customer.
fn rejected_requests(tokens: &[TokenView]) -> String {
    let mut rejected = tokens.iter().filter(|token| is_rejected(token));
    let first = rejected.next().and_then(|token| token.rejection.as_ref());
    let counted = first.map(|first| {
        let RejectionView {
            code,
            requests,
            since,
            ..
        } = first;
        format!(" ({code} since {since}, requests: {requests})")
    });
    let counted = counted.unwrap_or_default();
    format!("Citrix rejects all requests{counted}; {REJECTION_ADVICE}")
}

/// Names the customer of the first token that belongs to another one.
fn other_customers(tokens: &[TokenView]) -> String {
    let other = tokens
        .iter()
        .find_map(|token| token.other_customer.as_deref());
    let other = other.unwrap_or_default();
    format!("the token belongs to customer {other}; {OTHER_CUSTOMER_ADVICE}")
}

/// States the problem with the shortest remaining time of the matching tokens.
fn remaining_time(tokens: &[TokenView], matches: &dyn Fn(&TokenView) -> bool) -> String {
    let matching = tokens.iter().filter(|token| matches(token));
    let seconds = matching.map(|token| token.runway_s).min();
    match seconds.unwrap_or_default() {
        seconds @ ..120 => format!("logins fail; the current token is usable for {seconds} s"),
        seconds => format!(
            "logins fail; the current token is usable for {} min",
            seconds / 60
        ),
    }
}

/// States a problem of some customers, with the first one's failed login.
fn sentence(tokens: &[&TokenView], problem: &str) -> Option<String> {
    let first = tokens.first()?;
    let names: Vec<&str> = tokens
        .iter()
        .take(MAX_NAMED)
        .map(|token| token.customer.as_str())
        .collect();
    let names = match tokens.len().saturating_sub(MAX_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    };
    let failure = first.last_failure.as_ref();
    let failure = failure
        .filter(|failure| failure.lasts)
        .map(|failure| format!(" The last login failed: {}.", failure.advice))
        .unwrap_or_default();
    Some(format!("{names}: {problem}.{failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(token: TokenView) -> Vec<(AlertLevel, &'static str)> {
        let mut found = Vec::new();
        alerts(&[token], &mut |level, kind, _| found.push((level, kind)));
        found
    }

    #[test]
    fn failing_logins_are_critical_if_the_token_expires_soon() {
        let token = |state, runway_s, consecutive_failures| TokenView {
            state,
            runway_s,
            consecutive_failures,
            ..TokenView::named("acme")
        };
        for (token, expected) in [
            (token("fresh", 3000, 0), None),
            (
                token("unusable", 0, 3),
                Some((AlertLevel::Critical, "token_unusable")),
            ),
            (
                token("stale", 599, 1),
                Some((AlertLevel::Critical, "token_runway_short")),
            ),
            (
                token("stale", 600, 1),
                Some((AlertLevel::Warning, "login_failing")),
            ),
            (
                token("stale", 3000, 0),
                Some((AlertLevel::Warning, "login_late")),
            ),
            (
                TokenView {
                    on_old_secret: true,
                    ..token("stale", 3000, 0)
                },
                Some((AlertLevel::Warning, "secret_rejected")),
            ),
            (
                TokenView {
                    secret_problem: Some("cannot read /s".to_owned()),
                    ..token("fresh", 3000, 0)
                },
                Some((AlertLevel::Warning, "secret_unreadable")),
            ),
            (
                TokenView {
                    secret: Some("next"),
                    ..token("fresh", 3000, 0)
                },
                Some((AlertLevel::Notice, "secret_next_in_use")),
            ),
            (
                TokenView {
                    clock_skew_s: Some(-31.0),
                    ..token("fresh", 3000, 0)
                },
                Some((AlertLevel::Warning, "clock_skew")),
            ),
        ] {
            let state = token.state;
            assert_eq!(alert(token), Vec::from_iter(expected), "{state}");
        }
    }

    #[test]
    fn rejected_customer_is_critical_whether_logins_fail_or_not() {
        let token = |state, consecutive_failures| TokenView {
            state,
            runway_s: 3357,
            consecutive_failures,
            rejection: Some(RejectionView::example()),
            ..TokenView::named("acme")
        };
        for (token, expected) in [
            (token("fresh", 0), "customer_rejected"),
            (token("stale", 2), "customer_rejected"),
            (token("unusable", 2), "token_unusable"),
        ] {
            assert_eq!(alert(token), [(AlertLevel::Critical, expected)]);
        }
    }

    #[test]
    fn rejection_names_code_count_and_start() {
        let token = TokenView {
            state: "fresh",
            rejection: Some(RejectionView::example()),
            ..TokenView::named("acme")
        };
        let mut texts = Vec::new();
        alerts(&[token], &mut |_, _, text| texts.push(text));
        let expected = format!(
            "acme: Citrix rejects all requests (403 since 1970-01-01T00:00:01Z, requests: 12); {REJECTION_ADVICE}."
        );
        assert_eq!(texts, [expected]);
    }

    #[test]
    fn token_of_another_customer_is_a_warning() {
        let token = TokenView {
            state: "fresh",
            other_customer: Some("contoso".to_owned()),
            ..TokenView::named("acme")
        };
        assert_eq!(alert(token), [(AlertLevel::Warning, "customer_mismatch")]);
    }

    #[test]
    fn sentence_names_three_customers_and_counts_the_others() {
        let all: Vec<TokenView> = ["a", "b", "c", "d", "e"].map(TokenView::named).into();
        for (count, text) in [
            (0, None),
            (1, Some("a: no token.")),
            (3, Some("a, b, c: no token.")),
            (5, Some("a, b, c and 2 more: no token.")),
        ] {
            let tokens: Vec<_> = all.iter().take(count).collect();
            assert_eq!(sentence(&tokens, "no token").as_deref(), text);
        }
    }
}
