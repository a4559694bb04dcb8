//! What an operator should look at, the worst first: conclusions from the rest of the page, in sentences.

use serde::Serialize;

use super::tokens::Token;
use super::{Certificate, Status};

/// A stale token whose login fails is critical when it lasts no longer than that.
const SHORT_RUNWAY_S: u64 = 600;
/// A certificate should have been renewed by then.
const SHORT_CERTIFICATE_S: f64 = 7.0 * 86400.0;
/// Clocks that differ by more than tokens bear well.
const SKEW_S: f64 = 30.0;
/// So many answers 5xx of a route in five minutes are worth a look, if they are as large a share (one in twenty).
const SERVER_ERRORS: u64 = 5;
const SERVER_ERROR_SHARE: u64 = 20;
/// Customers that one alert names.
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
        let text = format!("The gateway is {}: it takes no new connections.", status.program.phase);
        add(Level::Warning, "draining", text);
    }
    tokens(&status.tokens, &mut add);
    for route in &status.routes {
        let (errors, requests) = (route.last_5m.server_errors, route.last_5m.requests);
        if errors >= SERVER_ERRORS && errors * SERVER_ERROR_SHARE >= requests {
            let name = route.name;
            let text =
                format!("{errors} of {requests} answers of route {name} in the last five minutes were 5xx.");
            add(Level::Warning, "server_errors", text);
        }
    }
    let load = &status.load;
    near("Requests in flight", load.in_flight, load.max_in_flight, "limits.max_in_flight", &mut add);
    near("Connections", load.connections, load.max_connections, "limits.max_connections", &mut add);
    status.certificates.iter().for_each(|certificate| expiry(certificate, &mut add));
    let lost = status.program.log_lines_lost;
    if lost > 0 {
        add(Level::Notice, "log_lines_lost", format!("{lost} log lines were lost since the start."));
    }
    if !status.retired.is_empty() {
        let text =
            "Retired addresses are still in use; the tools that send there should be brought up to date.";
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
    let (short, long): (Vec<&Token>, Vec<&Token>) =
        tokens.iter().filter(fails).partition(|token| token.runway_s < SHORT_RUNWAY_S);
    let end = |tokens: &[&Token]| {
        let seconds = tokens.iter().map(|token| token.runway_s).min().unwrap_or_default();
        if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
    };
    if let Some(text) = about(&short, &format!("failing logins, and a token for {} only", end(&short))) {
        add(Level::Critical, "token_runway_short", text);
    }
    if let Some(text) = about(&long, &format!("failing logins, but a token for {}", end(&long))) {
        add(Level::Warning, "login_failing", text);
    }
    let late = |token: &&Token| token.is_stale() && token.consecutive_failures == 0 && !token.on_old_secret;
    if let Some(text) = about(&tokens.iter().filter(late).collect::<Vec<_>>(), "a login that is late") {
        add(Level::Warning, "login_late", text);
    }
    let old: Vec<&Token> = tokens.iter().filter(|token| token.on_old_secret).collect();
    if let Some(text) = about(&old, "a token, but no configured secret that works: a restart would have none")
    {
        add(Level::Warning, "secret_rejected", text);
    }
    let next: Vec<&Token> = tokens.iter().filter(|token| token.secret == Some("next")).collect();
    if let Some(text) = about(&next, "client_secret_next in use: time to put it in client_secret's place") {
        add(Level::Notice, "secret_next_in_use", text);
    }
    let far = |token: &&Token| token.clock_skew_s.is_some_and(|skew| skew.abs() > SKEW_S);
    if let Some(text) =
        about(&tokens.iter().filter(far).collect::<Vec<_>>(), "a clock that differs from ours")
    {
        add(Level::Warning, "clock_skew", text);
    }
}

/// A sentence about some customers, with the reason of the first one's failed login.
fn about(tokens: &[&Token], have: &str) -> Option<String> {
    let first = tokens.first()?;
    let names: Vec<&str> = tokens.iter().take(NAMED).map(|token| token.customer.as_str()).collect();
    let more = tokens.len().saturating_sub(NAMED);
    let (names, verb) = match (names.as_slice(), more) {
        ([one], _) => ((*one).to_owned(), "has"),
        (_, 0) => (names.join(", "), "have"),
        (_, more) => (format!("{} and {more} more", names.join(", ")), "have"),
    };
    let why = first.last_failure.as_ref().filter(|failure| failure.lasts).map(|failure| failure.advice);
    let why = why.map(|advice| format!(" The last login failed: {advice}.")).unwrap_or_default();
    Some(format!("{names} {verb} {have}.{why}"))
}

/// Nine tenths of a limit are near it.
fn near(what: &str, now: usize, limit: usize, key: &str, add: &mut impl FnMut(Level, &'static str, String)) {
    if now.saturating_mul(10) >= limit.saturating_mul(9) {
        let level = if now >= limit { Level::Critical } else { Level::Warning };
        add(level, "limit_near", format!("{what}: {now} of {limit} ({key})."));
    }
}

fn expiry(certificate: &Certificate, add: &mut impl FnMut(Level, &'static str, String)) {
    let left = certificate.expires_in_s;
    let (of, at) = (certificate.of, &certificate.expires_at);
    if left <= 0.0 {
        add(Level::Critical, "certificate_expired", format!("The certificate of {of} expired at {at}."));
    } else if left < SHORT_CERTIFICATE_S {
        let text = format!("The certificate of {of} expires at {at}, and was not renewed.");
        add(Level::Warning, "certificate_expiring", text);
    }
}
