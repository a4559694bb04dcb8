//! Problems that an operator should look at, derived from the rest of the document.

mod tokens;

use serde::Serialize;

use super::traffic::RouteView;
use super::{CertificateView, FleetView, StatusDocument};

/// A certificate should be renewed before it expires in less than this, in seconds.
const MIN_CERTIFICATE_S: f64 = 7.0 * 86400.0;
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
    /// Section of the runbooks, relative to this listener and to the repository.
    runbook: Option<&'static str>,
}

/// Returns the section of the runbooks about a kind of alert.
fn runbook(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "token_unusable" => "docs/runbooks.md#citrixtokengone",
        "customer_rejected" | "customer_mismatch" => "docs/runbooks.md#citrixcustomerrejected",
        "token_runway_short" => "docs/runbooks.md#citrixtokenrunwayshort",
        "login_failing" | "login_late" => "docs/runbooks.md#citrixtokenrefreshfailing",
        "secret_rejected" | "secret_unreadable" | "secret_next_in_use" => {
            "docs/runbooks.md#citrixsecretrejected"
        }
        "clock_skew" => "docs/runbooks.md#citrixclockskew",
        "server_errors" => "docs/runbooks.md#citrixgatewayerrorsmany",
        "limit_near" => "docs/runbooks.md#citrixgatewayoverloaded",
        "certificate_expiring" | "certificate_expired" => {
            "docs/runbooks.md#citrixgatewaycertificateexpiring"
        }
        "fleet_away" => "docs/runbooks.md#citrixfleetstoreaway",
        "fleet_keys_differ" => "docs/runbooks.md#citrixfleetkeysdiffer",
        "log_lines_lost" => "docs/runbooks.md#citrixgatewayloglineslost",
        // Expected: a shutdown, and retired addresses, which docs/services.md lists.
        _ => return None,
    })
}

/// Returns the alerts, the worst first.
pub(super) fn alerts(status: &StatusDocument<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |level, kind, text| {
        alerts.push(Alert {
            level,
            kind,
            text,
            runbook: runbook(kind),
        });
    };
    if status.program.phase != "running" {
        let text = format!("The gateway is shutting down ({}).", status.program.phase);
        add(AlertLevel::Warning, "draining", text);
    }
    tokens::alerts(&status.tokens, &mut add);
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
        .fleet
        .iter()
        .for_each(|fleet| of_fleet(fleet, &mut add));
    status
        .certificates
        .iter()
        .for_each(|certificate| expiry(certificate, &mut add));
    let lost = status.program.log_lines_lost;
    if lost > 0 {
        add(
            AlertLevel::Notice,
            "log_lines_lost",
            format!("{lost} log lines lost since the start: stderr is full, closed or slow."),
        );
    }
    if !status.retired.is_empty() {
        let text = "Retired addresses are in use; update the tools that use them.";
        add(AlertLevel::Notice, "retired_addresses", text.to_owned());
    }
    alerts.sort_by_key(|alert| alert.level);
    alerts
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

fn of_fleet(fleet: &FleetView<'_>, add: &mut impl FnMut(AlertLevel, &'static str, String)) {
    if fleet.acts_alone {
        let text = "The fleet's store is away; this replica acts alone.";
        add(AlertLevel::Warning, "fleet_away", text.to_owned());
    }
    if fleet.keys_differ {
        let text = "Replicas have different keys (fleet.key) and do not share with all others.";
        add(AlertLevel::Warning, "fleet_keys_differ", text.to_owned());
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
    fn runbook_of_each_kind_exists() {
        let (page, runbooks) = (
            include_str!("../../../docs/admin.md"),
            include_str!("../../../docs/runbooks.md").to_lowercase(),
        );
        let (_, table) = page.split_once("| `kind` | level | condition |").unwrap();
        let rows = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        let kinds: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        assert!(kinds.len() > 15, "{kinds:?}");
        let mut without = Vec::new();
        for kind in kinds {
            let Some(link) = runbook(kind) else {
                without.push(kind);
                continue;
            };
            let anchor = link.strip_prefix("docs/runbooks.md#").unwrap();
            assert!(runbooks.contains(&format!("\n## {anchor}\n")), "{link}");
        }
        assert_eq!(without, ["draining", "retired_addresses"]);
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
}
