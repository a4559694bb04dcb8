//! Problems that an operator should look at, derived from the rest of the document.

use serde::Serialize;

use super::tokens::TokenView;
use super::traffic::RouteView;
use super::{CertificateView, StatusDocument};
use crate::token::status::WhichSecret;

/// Failing logins are critical if the token is usable for less than this, in seconds.
const MIN_RUNWAY_S: u64 = 600;
/// A certificate should be renewed before it expires in less than this, in seconds.
const MIN_CERTIFICATE_S: f64 = 7.0 * 86400.0;
/// Maximum clock skew in seconds.
const MAX_SKEW_S: f64 = 30.0;
/// Number of 5xx responses of a route in five minutes from which they are reported.
const MIN_SERVER_ERRORS: u64 = 5;
/// Reciprocal of their minimum share: one in twenty.
const SERVER_ERROR_SHARE: u64 = 20;
/// Customers or routes that one alert names.
const MAX_NAMED: usize = 3;

/// Severity of an alert, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AlertLevel {
    /// Requests fail, or will within minutes.
    Critical,
    /// Requests will fail unless an operator acts.
    Warning,
    /// Can wait for working hours.
    Notice,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alert {
    level: AlertLevel,
    kind: &'static str,
    text: String,
}

/// Returns the alerts, the worst first.
pub(super) fn alerts(status: &StatusDocument<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |level, kind, text| alerts.push(Alert { level, kind, text });
    if status.program.phase != "running" {
        let text = format!("The gateway is shutting down ({}).", status.program.phase);
        add(AlertLevel::Warning, "draining", text);
    }
    tokens(&status.tokens, &mut add);
    if let Some(text) = server_errors(&status.routes) {
        add(AlertLevel::Warning, "server_errors", text);
    }
    let load = &status.load;
    limit(
        "Requests in flight",
        load.in_flight,
        load.max_in_flight,
        "limits.max_in_flight",
        &mut add,
    );
    limit(
        "Connections",
        load.connections,
        load.max_connections,
        "limits.max_connections",
        &mut add,
    );
    status
        .certificates
        .iter()
        .for_each(|certificate| expiry(certificate, &mut add));
    let lost = status.program.log_lines_lost;
    if lost > 0 {
        add(
            AlertLevel::Notice,
            "log_lines_lost",
            format!("{lost} log lines dropped since the start."),
        );
    }
    if !status.retired.is_empty() {
        let text = "Retired addresses are in use; update the tools that use them.";
        add(AlertLevel::Notice, "retired_addresses", text.to_owned());
    }
    alerts.sort_by_key(|alert| alert.level);
    alerts
}

fn tokens(tokens: &[TokenView], add: &mut impl FnMut(AlertLevel, &'static str, String)) {
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
    let is_failing = |token: &TokenView| token.is_stale() && token.consecutive_failures > 0;
    let is_short = |token: &TokenView| is_failing(token) && token.runway_s < MIN_RUNWAY_S;
    report(
        AlertLevel::Critical,
        "token_runway_short",
        &failing_logins(tokens, &is_short),
        &is_short,
    );
    let is_long = |token: &TokenView| is_failing(token) && token.runway_s >= MIN_RUNWAY_S;
    report(
        AlertLevel::Warning,
        "login_failing",
        &failing_logins(tokens, &is_long),
        &is_long,
    );
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

/// States the problem with the shortest remaining time of the matching tokens.
fn failing_logins(tokens: &[TokenView], matches: &dyn Fn(&TokenView) -> bool) -> String {
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

/// Names the routes with many 5xx responses, in the order of `routes`.
fn server_errors(routes: &[RouteView<'_>]) -> Option<String> {
    let has_many = |route: &&RouteView<'_>| {
        let (errors, requests) = (route.last_5m.server_errors, route.last_5m.requests);
        errors >= MIN_SERVER_ERRORS && errors * SERVER_ERROR_SHARE >= requests
    };
    let count = |route: &RouteView<'_>| {
        format!(
            "{} of {} on {}",
            route.last_5m.server_errors, route.last_5m.requests, route.name
        )
    };
    let counts: Vec<String> = routes.iter().filter(has_many).map(count).collect();
    let more = counts.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 {
        format!(" and {more} more routes")
    } else {
        String::new()
    };
    let named = counts
        .get(..MAX_NAMED.min(counts.len()))
        .unwrap_or_default()
        .join(", ");
    (!counts.is_empty()).then(|| format!("5xx responses in the last five minutes: {named}{more}."))
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

/// Reports the use of 90 % of a limit or more.
fn limit(
    name: &str,
    now: usize,
    limit: usize,
    key: &str,
    add: &mut impl FnMut(AlertLevel, &'static str, String),
) {
    if now.saturating_mul(10) >= limit.saturating_mul(9) {
        let level = if now >= limit {
            AlertLevel::Critical
        } else {
            AlertLevel::Warning
        };
        add(
            level,
            "limit_near",
            format!("{name}: {now} of {limit} ({key})."),
        );
    }
}

fn expiry(certificate: &CertificateView, add: &mut impl FnMut(AlertLevel, &'static str, String)) {
    let left = certificate.expires_in_s;
    let (of, at) = (certificate.of, &certificate.expires_at);
    if left <= 0.0 {
        add(
            AlertLevel::Critical,
            "certificate_expired",
            format!("The certificate of {of} expired at {at}."),
        );
    } else if left < MIN_CERTIFICATE_S {
        let text = format!("The certificate of {of} expires at {at} and has not been renewed.");
        add(AlertLevel::Warning, "certificate_expiring", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(
        check: impl FnOnce(&mut dyn FnMut(AlertLevel, &'static str, String)),
    ) -> Option<(AlertLevel, &'static str)> {
        let mut added = None;
        check(&mut |level, kind, _| added = Some((level, kind)));
        added
    }

    #[test]
    fn limit_is_a_warning_at_nine_tenths_and_critical_when_reached() {
        for (now, expected) in [
            (0, None),
            (899, None),
            (900, Some((AlertLevel::Warning, "limit_near"))),
            (1000, Some((AlertLevel::Critical, "limit_near"))),
        ] {
            assert_eq!(
                alert(|mut add| limit("Requests", now, 1000, "limits.x", &mut add)),
                expected,
                "{now}"
            );
        }
    }

    #[test]
    fn certificate_is_a_warning_a_week_before_its_expiry() {
        for (expires_in_s, expected) in [
            (8.0 * 86400.0, None),
            (
                6.0 * 86400.0,
                Some((AlertLevel::Warning, "certificate_expiring")),
            ),
            (0.0, Some((AlertLevel::Critical, "certificate_expired"))),
            (-5.0, Some((AlertLevel::Critical, "certificate_expired"))),
        ] {
            let certificate = CertificateView {
                of: "listen.tls",
                expires_at: String::new(),
                expires_in_s,
            };
            assert_eq!(
                alert(|mut add| expiry(&certificate, &mut add)),
                expected,
                "{expires_in_s}"
            );
        }
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
            let kind = token.state;
            let alert = alert(|mut add| tokens(&[token], &mut add));
            assert_eq!(alert, expected, "{kind}");
        }
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
