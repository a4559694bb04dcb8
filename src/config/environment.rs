//! Settings from environment variables, laid over the file's.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::file::below;
use super::report::Report;

/// What every variable of ours begins with.
const PREFIX: &str = "CITRIX_AUTH_PROXY_";

/// The variables with a name of their own (those of Citrix's Terraform provider, and the cloud).
const SHORT: [(&str, &str); 4] = [
    ("CITRIX_CUSTOMER_ID", "customer_id"),
    ("CITRIX_CLIENT_ID", "client_id"),
    ("CITRIX_CLIENT_SECRET", "client_secret"),
    ("CITRIX_CLOUD", "cloud"),
];

/// Tables that are lists of blocks, and come from the file only.
const BLOCKS: [&str; 3] = ["customer", "route", "caller"];

/// Secrets, which are written in one of several ways: a variable replaces what the file says as a whole.
const SECRETS: [&str; 5] = [
    "client_secret",
    "client_secret_next",
    "cache_key",
    "proxy_url",
    "signing_key",
];

/// The environment of this process, without what is not UTF-8 (no setting of ours is), for [`super::load`].
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A copy of the environment.
pub(super) struct Environment(BTreeMap<String, String>);

impl Environment {
    pub(super) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value of one variable.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Lays the variables over `table`. All of them become strings there; who reads a key knows what it must be.
pub(super) fn overlay(table: &mut Table, report: &mut Report<'_>) {
    let environment = report.environment;
    for (variable, key) in SHORT {
        // Empty is how compose files and the like pass on a variable that is not set.
        if let Some(value) = environment.get(variable).filter(|value| !value.is_empty()) {
            set(table, &["citrix", key], variable, value, report);
        }
    }
    for (variable, value) in &environment.0 {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if is_service_link(name) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        let keys: Vec<&str> = name.split("__").collect();
        if BLOCKS.contains(&keys[0]) {
            let what = format!("[[{}]] blocks come from the file only", keys[0]);
            report.add_elsewhere(variable.clone(), what);
        } else if keys.len() < 2 || keys.contains(&"") {
            let what = "sets nothing: a variable names a table and a key, as CITRIX_AUTH_PROXY_LISTEN__ADDRESS does";
            report.add_elsewhere(variable.clone(), what);
        } else {
            set(table, &keys, variable, value, report);
        }
    }
}

/// Whether Kubernetes made a variable up for a Service whose name begins as ours do (`citrix-auth-proxy`): it
/// gives every pod `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`, `…_PORT_8080_TCP_ADDR` and so on.
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

/// Puts one value at the path `keys`, making the tables on the way.
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
            // A variable set the whole, this one sets a part of it.
            _ if report.variable(&path).is_some() => return contradiction(&path, variable, report),
            // The file has something else there, which is reported when the file is read.
            _ => return,
        }
    }
    path = below(&path, last);
    if report.variable(&path).is_some_and(|_| {
        here.get(*last)
            .is_some_and(|set| set.as_str() != Some(value))
    }) {
        return contradiction(&path, variable, report);
    }
    here.insert((*last).to_owned(), Value::String(value.to_owned()));
    report.set_by(path, variable);
}

fn contradiction(path: &str, variable: &str, report: &mut Report<'_>) {
    let other = report.variable(path).unwrap_or_default();
    let what = format!("contradicts {other}, which sets {path} too; keep one of them");
    report.add_elsewhere(variable.to_owned(), what);
}
