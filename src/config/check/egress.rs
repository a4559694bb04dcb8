//! `upstream.proxy_url`, and what the environment says where it is not there.

use secrecy::ExposeSecret as _;
use toml::Value;

use super::Report;
use super::secret::{told, written};
use crate::config::value::Leaf;
use crate::config::{Egress, SecretSource};

const EXAMPLE: &str = "\"http://proxy.example.net:3128\"";
/// Where a password belongs.
const IN_A_FILE: &str = "{ file = \"/run/secrets/proxy-url\" }";

/// The variables other programs take a proxy from. An empty one is how compose files pass on one that is not set.
const PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Which way connections leave: as the key says, else as `HTTPS_PROXY` does. `NO_PROXY` counts for both, as there is
/// no other way to say it. An empty key: directly, whatever the environment says.
pub(super) fn check(proxy_url: &Leaf, report: &mut Report<'_>) -> Egress {
    let exceptions = first(EXCEPTIONS, report).map_or("", |(_, value)| value);
    match &proxy_url.value {
        None => by_environment(exceptions, report),
        Some(Value::String(url)) if url.is_empty() => Egress::direct(),
        Some(_) => by_key(proxy_url, exceptions, report).unwrap_or_else(|what| {
            report.wrong(proxy_url, what, EXAMPLE);
            Egress::direct()
        }),
    }
}

fn by_key(leaf: &Leaf, exceptions: &str, report: &mut Report<'_>) -> Result<Egress, String> {
    let source = written(leaf, report)?;
    let url = source.read().map_err(|error| told(&source, &error))?;
    let url = url.expose_secret();
    if matches!(source, SecretSource::Plain(_)) && url.contains('@') {
        report.warn(format!(
            "{}: a password is written in the file itself, where whoever reads the file has it; move the whole URL \
             to a file of its own: proxy_url = {IN_A_FILE}",
            leaf.path
        ));
    }
    Egress::through(url, Some(source), exceptions).map_err(|error| error.to_string())
}

fn by_environment(exceptions: &str, report: &mut Report<'_>) -> Egress {
    let Some((name, url)) = first(PROXY, report) else {
        return Egress::direct();
    };
    Egress::through(url, None, exceptions).unwrap_or_else(|error| {
        let what = format!(
            "{error}; correct it, or set upstream.proxy_url, which wins over it (\"\": no proxy)"
        );
        report.add_elsewhere(name.to_owned(), what);
        Egress::direct()
    })
}

/// The first of these variables that says something.
fn first<'e>(names: [&'static str; 2], report: &Report<'e>) -> Option<(&'static str, &'e str)> {
    let environment = report.environment;
    names.into_iter().find_map(|name| {
        Some((
            name,
            environment.get(name).filter(|value| !value.is_empty())?,
        ))
    })
}
