//! What an operator should look at, the worst first: conclusions from the rest of the page, in sentences.

use serde::Serialize;

use super::tokens::Token;
use super::traffic::Route;
use super::{Certificate, Status};
use crate::token::status::WhichSecret;

/// A stale token whose login fails is critical when it lasts no longer than that.
const SHORT_RUNWAY_S: u64 = 600;
/// A certificate should have been renewed by then.
const SHORT_CERTIFICATE_S: f64 = 7.0 * 86400.0;
/// Clocks that differ by more than tokens bear well.
const SKEW_S: f64 = 30.0;
/// So many answers 5xx of a route in five minutes are worth a look, if they are as large a share (one in twenty).
const SERVER_ERRORS: u64 = 5;
const SERVER_ERROR_SHARE: u64 = 20;
/// Customers, or routes, that one alert names.
const NAMED: usize = 3;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Requests fail, or are about to.
    Critical,
    /// They will, if nobody does anything.
    Warning,
    /// For working hours.
    Notice,
}

/// One thing to look at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alert {
    level: Level,
    /// A name that does not change.
    kind: &'static str,
    text: String,
}

pub(super) fn of(status: &Status<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |level, kind, text| alerts.push(Alert { level, kind, text });
    if status.program.phase != "running" {
        let text = format!(
            "The gateway is {}: it is about to end.",
            status.program.phase
        );
        add(Level::Warning, "draining", text);
    }
    tokens(&status.tokens, &mut add);
    if let Some(text) = server_errors(&status.routes) {
        add(Level::Warning, "server_errors", text);
    }
    let load = &status.load;
    near(
        "Requests in flight",
        load.in_flight,
        load.max_in_flight,
        "limits.max_in_flight",
        &mut add,
    );
    near(
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
            Level::Notice,
            "log_lines_lost",
            format!("{lost} log lines were lost since the start."),
        );
    }
    if !status.retired.is_empty() {
        let text = "Retired addresses are still in use; the tools that send there should be brought up to date.";
        add(Level::Notice, "retired_addresses", text.to_owned());
    }
    alerts.sort_by_key(|alert| alert.level);
    alerts
}

fn tokens(tokens: &[Token], add: &mut impl FnMut(Level, &'static str, String)) {
    let unusable: Vec<&Token> = tokens.iter().filter(|token| !token.is_usable()).collect();
    if let Some(text) = about(&unusable, "no token that can be sent") {
        add(Level::Critical, "token_unusable", text);
    }
    let fails = |token: &&Token| token.is_stale() && token.consecutive_failures > 0;
    let (short, long): (Vec<&Token>, Vec<&Token>) = tokens
        .iter()
        .filter(fails)
        .partition(|token| token.runway_s < SHORT_RUNWAY_S);
    let end = |tokens: &[&Token]| {
        let seconds = tokens
            .iter()
            .map(|token| token.runway_s)
            .min()
            .unwrap_or_default();
        if seconds < 120 {
            format!("{seconds} s")
        } else {
            format!("{} min", seconds / 60)
        }
    };
    if let Some(text) = about(
        &short,
        &format!("failing logins, and a token for {} only", end(&short)),
    ) {
        add(Level::Critical, "token_runway_short", text);
    }
    if let Some(text) = about(
        &long,
        &format!("failing logins, but a token for {}", end(&long)),
    ) {
        add(Level::Warning, "login_failing", text);
    }
    let late = |token: &&Token| {
        token.is_stale() && token.consecutive_failures == 0 && !token.on_old_secret
    };
    if let Some(text) = about(
        &tokens.iter().filter(late).collect::<Vec<_>>(),
        "a login that is late",
    ) {
        add(Level::Warning, "login_late", text);
    }
    let old: Vec<&Token> = tokens.iter().filter(|token| token.on_old_secret).collect();
    if let Some(text) = about(
        &old,
        "a token, but no configured secret that works: a restart would have none",
    ) {
        add(Level::Warning, "secret_rejected", text);
    }
    let next: Vec<&Token> = tokens
        .iter()
        .filter(|token| token.secret == Some(WhichSecret::Next.name()))
        .collect();
    if let Some(text) = about(
        &next,
        "client_secret_next in use: time to put it in client_secret's place",
    ) {
        add(Level::Notice, "secret_next_in_use", text);
    }
    let far = |token: &&Token| token.clock_skew_s.is_some_and(|skew| skew.abs() > SKEW_S);
    if let Some(text) = about(
        &tokens.iter().filter(far).collect::<Vec<_>>(),
        "a clock that differs from ours",
    ) {
        add(Level::Warning, "clock_skew", text);
    }
}

/// The routes are sorted, the busiest first.
fn server_errors(routes: &[Route<'_>]) -> Option<String> {
    let bad = |route: &&Route<'_>| {
        let (errors, requests) = (route.last_5m.server_errors, route.last_5m.requests);
        errors >= SERVER_ERRORS && errors * SERVER_ERROR_SHARE >= requests
    };
    let told = |route: &Route<'_>| {
        format!(
            "{} of {} by {}",
            route.last_5m.server_errors, route.last_5m.requests, route.name
        )
    };
    let bad: Vec<String> = routes.iter().filter(bad).map(told).collect();
    let more = bad.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more routes")
    } else {
        String::new()
    };
    let named = bad
        .get(..NAMED.min(bad.len()))
        .unwrap_or_default()
        .join(", ");
    (!bad.is_empty()).then(|| format!("Answers 5xx in the last five minutes: {named}{more}."))
}

/// A sentence about some customers, with the reason of the first one's failed login.
fn about(tokens: &[&Token], have: &str) -> Option<String> {
    let first = tokens.first()?;
    let names: Vec<&str> = tokens
        .iter()
        .take(NAMED)
        .map(|token| token.customer.as_str())
        .collect();
    let more = tokens.len().saturating_sub(NAMED);
    let (names, verb) = match (names.as_slice(), more) {
        ([one], _) => ((*one).to_owned(), "has"),
        (_, 0) => (names.join(", "), "have"),
        (_, more) => (format!("{} and {more} more", names.join(", ")), "have"),
    };
    let why = first
        .last_failure
        .as_ref()
        .filter(|failure| failure.lasts)
        .map(|failure| failure.advice);
    let why = why
        .map(|advice| format!(" The last login failed: {advice}."))
        .unwrap_or_default();
    Some(format!("{names} {verb} {have}.{why}"))
}

/// Nine tenths of a limit are near it.
fn near(
    what: &str,
    now: usize,
    limit: usize,
    key: &str,
    add: &mut impl FnMut(Level, &'static str, String),
) {
    if now.saturating_mul(10) >= limit.saturating_mul(9) {
        let level = if now >= limit {
            Level::Critical
        } else {
            Level::Warning
        };
        add(
            level,
            "limit_near",
            format!("{what}: {now} of {limit} ({key})."),
        );
    }
}

fn expiry(certificate: &Certificate, add: &mut impl FnMut(Level, &'static str, String)) {
    let left = certificate.expires_in_s;
    let (of, at) = (certificate.of, &certificate.expires_at);
    if left <= 0.0 {
        add(
            Level::Critical,
            "certificate_expired",
            format!("The certificate of {of} expired at {at}."),
        );
    } else if left < SHORT_CERTIFICATE_S {
        let text = format!("The certificate of {of} expires at {at}, and was not renewed.");
        add(Level::Warning, "certificate_expiring", text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(
        when: impl FnOnce(&mut dyn FnMut(Level, &'static str, String)),
    ) -> Option<(Level, &'static str)> {
        let mut told = None;
        when(&mut |level, kind, _| told = Some((level, kind)));
        told
    }

    #[test]
    fn a_limit_is_told_of_at_nine_tenths_and_is_critical_when_it_is_reached() {
        for (now, told) in [
            (0, None),
            (899, None),
            (900, Some((Level::Warning, "limit_near"))),
            (1000, Some((Level::Critical, "limit_near"))),
        ] {
            assert_eq!(
                alert(|mut add| near("Requests", now, 1000, "limits.x", &mut add)),
                told,
                "{now}"
            );
        }
    }

    #[test]
    fn a_certificate_is_told_of_a_week_before_its_end() {
        for (expires_in_s, told) in [
            (8.0 * 86400.0, None),
            (
                6.0 * 86400.0,
                Some((Level::Warning, "certificate_expiring")),
            ),
            (0.0, Some((Level::Critical, "certificate_expired"))),
            (-5.0, Some((Level::Critical, "certificate_expired"))),
        ] {
            let certificate = Certificate {
                of: "listen.tls",
                expires_at: String::new(),
                expires_in_s,
            };
            assert_eq!(
                alert(|mut add| expiry(&certificate, &mut add)),
                told,
                "{expires_in_s}"
            );
        }
    }

    #[test]
    fn tokens_in_trouble_are_told_of_by_how_long_they_last() {
        let token = |state, runway_s, consecutive_failures| Token {
            state,
            runway_s,
            consecutive_failures,
            ..Token::named("acme")
        };
        for (token, told) in [
            (token("fresh", 3000, 0), None),
            (
                token("unusable", 0, 3),
                Some((Level::Critical, "token_unusable")),
            ),
            (
                token("stale", 599, 1),
                Some((Level::Critical, "token_runway_short")),
            ),
            (
                token("stale", 600, 1),
                Some((Level::Warning, "login_failing")),
            ),
            (
                token("stale", 3000, 0),
                Some((Level::Warning, "login_late")),
            ),
            (
                Token {
                    on_old_secret: true,
                    ..token("stale", 3000, 0)
                },
                Some((Level::Warning, "secret_rejected")),
            ),
            (
                Token {
                    secret: Some("next"),
                    ..token("fresh", 3000, 0)
                },
                Some((Level::Notice, "secret_next_in_use")),
            ),
            (
                Token {
                    clock_skew_s: Some(-31.0),
                    ..token("fresh", 3000, 0)
                },
                Some((Level::Warning, "clock_skew")),
            ),
        ] {
            let kind = token.state;
            assert_eq!(alert(|mut add| tokens(&[token], &mut add)), told, "{kind}");
        }
    }

    #[test]
    fn a_sentence_names_three_customers_and_counts_the_others() {
        let all: Vec<Token> = ["a", "b", "c", "d", "e"].map(Token::named).into();
        let about = |count: usize| about(&all.iter().take(count).collect::<Vec<_>>(), "no token");
        for (count, text) in [
            (0, None),
            (1, Some("a has no token.")),
            (3, Some("a, b, c have no token.")),
            (5, Some("a, b, c and 2 more have no token.")),
        ] {
            assert_eq!(about(count).as_deref(), text);
        }
    }
}
