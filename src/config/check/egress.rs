//! `upstream.proxy_url`, and the environment variables that replace it.

use secrecy::ExposeSecret as _;
use toml::Value;

use super::Report;
use super::secret::{read_problem, source_of};
use crate::config::value::Leaf;
use crate::config::{Egress, SecretSource};

const EXAMPLE: &str = "\"http://proxy.example.net:3128\"";
const EXAMPLE_FILE: &str = "{ file = \"/run/secrets/proxy-url\" }";

/// The conventional variables. Empty ones count as unset, which is how compose files pass them on.
const PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Uses the key, else `HTTPS_PROXY`; `NO_PROXY` applies to both. An empty key means no proxy.
pub(super) fn check_egress(proxy_url: &Leaf, report: &mut Report<'_>) -> Egress {
    let exceptions = first_set(EXCEPTIONS, report).map_or("", |(_, value)| value);
    match &proxy_url.value {
        None => from_environment(exceptions, report),
        Some(Value::String(url)) if url.is_empty() => Egress::direct(),
        Some(_) => from_key(proxy_url, exceptions, report).unwrap_or_else(|problem| {
            report.invalid(proxy_url, problem, EXAMPLE);
            Egress::direct()
        }),
    }
}

fn from_key(leaf: &Leaf, exceptions: &str, report: &mut Report<'_>) -> Result<Egress, String> {
    let source = source_of(leaf, report)?;
    let url = source
        .read()
        .map_err(|error| read_problem(leaf, &source, &error))?;
    let url = url.expose_secret();
    if matches!(source, SecretSource::Plain(_)) && url.contains('@') {
        report.warn(format!(
            "{}: the configuration contains a password; move the URL to a file: proxy_url = {EXAMPLE_FILE}",
            leaf.path
        ));
    }
    Egress::through(url, Some(source), exceptions).map_err(|error| error.to_string())
}

fn from_environment(exceptions: &str, report: &mut Report<'_>) -> Egress {
    let Some((name, url)) = first_set(PROXY, report) else {
        return Egress::direct();
    };
    Egress::through(url, None, exceptions).unwrap_or_else(|error| {
        let problem = format!(
            "{error}; correct it, or override it with upstream.proxy_url (\"\" for no proxy)"
        );
        report.add_variable(name, problem);
        Egress::direct()
    })
}

fn first_set<'e>(names: [&'static str; 2], report: &Report<'e>) -> Option<(&'static str, &'e str)> {
    let environment = report.environment;
    names.into_iter().find_map(|name| {
        let value = environment.get(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    })
}
