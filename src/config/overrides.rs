//! Overrides of the file by environment variables.

use toml::{Table, Value};

use super::key::below;
use super::report::Report;

/// The prefix of all variables but [`SHORT`].
const PREFIX: &str = "CITRIX_AUTH_PROXY_";

/// Variables with short names (those of Citrix's Terraform provider, and the cloud), for keys of
/// `[citrix]`.
const SHORT: [(&str, &str); 4] = [
    ("CITRIX_CUSTOMER_ID", "customer_id"),
    ("CITRIX_CLIENT_ID", "client_id"),
    ("CITRIX_CLIENT_SECRET", "client_secret"),
    ("CITRIX_CLOUD", "cloud"),
];

/// Arrays of tables, which only the file can contain.
const BLOCKS: [&str; 3] = ["customer", "route", "caller"];

/// Keys whose value may be a table or a string: a variable replaces the value in the file as a
/// whole.
const SECRETS: [&str; 9] = [
    "client_secret",
    "client_secret_next",
    "cache_key",
    "key",
    "key_previous",
    "password",
    "sentinel_password",
    "proxy_url",
    "signing_key",
];

/// Returns `true` for a key whose value is a secret, or a table that names where it is.
#[cfg(test)]
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// Overrides `table` with the variables. All values become strings, parsed later as the type of
/// their key.
pub(super) fn apply_overrides(table: &mut Table, report: &mut Report<'_>) {
    let environment = report.environment;
    for (variable, key) in SHORT {
        // Compose files pass an unset variable on as an empty one.
        if let Some(value) = environment.get(variable).filter(|value| !value.is_empty()) {
            set(table, &["citrix", key], variable, value, report);
        }
    }
    for (variable, value) in environment.iter() {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if is_service_link(name) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        let keys: Vec<&str> = name.split("__").collect();
        if BLOCKS.contains(&keys[0]) {
            let problem = format!("[[{}]] blocks are read from the file only", keys[0]);
            report.add_variable(variable, problem);
        } else if keys.len() < 2 || keys.contains(&"") {
            let problem = "unknown variable; expected CITRIX_AUTH_PROXY_<TABLE>__<KEY>";
            report.add_variable(variable, problem);
        } else {
            set(table, &keys, variable, value, report);
        }
    }
}

/// Returns `true` for the variables that Kubernetes sets in every pod for a Service named
/// `citrix-auth-proxy`: `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`, `…_PORT_8080_TCP_ADDR` and so on.
fn is_service_link(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_port = |words: &[&str]| match words {
        [] => true,
        [number, "TCP" | "UDP" | "SCTP", rest @ ..] => {
            number.parse::<u16>().is_ok() && matches!(rest, [] | ["PROTO" | "PORT" | "ADDR"])
        }
        _ => false,
    };
    !name.contains("__")
        && words
            .iter()
            .enumerate()
            .any(|(at, word)| match (*word, &words[at + 1..]) {
                ("SERVICE", ["HOST"] | ["PORT", ..]) => true,
                ("PORT", rest) => is_port(rest),
                _ => false,
            })
}

/// Sets the value at the path `keys`, and creates missing tables.
fn set(table: &mut Table, keys: &[&str], variable: &str, value: &str, report: &mut Report<'_>) {
    let Some((last, tables)) = keys.split_last() else {
        return;
    };
    let mut here = table;
    let mut path = String::new();
    for key in tables {
        path = below(&path, key);
        let next = here
            .entry(*key)
            .or_insert_with(|| Value::Table(Table::new()));
        if SECRETS.contains(key) && report.variable(&path).is_none() {
            *next = Value::Table(Table::new());
        }
        match next {
            Value::Table(next) => here = next,
            // Another variable sets the table as a whole.
            _ if report.variable(&path).is_some() => return conflict(&path, variable, report),
            // The file has another type, which is reported later.
            _ => return,
        }
    }
    path = below(&path, last);
    let differs = |set: &Value| set.as_str() != Some(value);
    if report.variable(&path).is_some() && here.get(*last).is_some_and(differs) {
        return conflict(&path, variable, report);
    }
    here.insert((*last).to_owned(), Value::String(value.to_owned()));
    report.set_by(path, variable);
}

fn conflict(path: &str, variable: &str, report: &mut Report<'_>) {
    let other = report.variable(path).unwrap_or_default();
    let problem = format!("conflicts with {other}, which also sets {path}; remove one of them");
    report.add_variable(variable, problem);
}
