//! `[intercept]`.

use super::Report;
use super::caller::AccessMode;
use super::listen::add_all;
use crate::config::raw::RawIntercept;
use crate::config::value::{Checked, Leaf, shown};
use crate::config::{AuthorityFiles, HostPattern, InterceptSettings, ListenAddress};
use citrix_wire::connect_target;

const ADDRESS: &str = "\"127.0.0.1:8081\"";

/// Checks the section. Its addresses are also added to `listeners`, with which they may conflict.
pub(super) fn check_intercept(
    intercept: &RawIntercept,
    listeners: &mut Vec<ListenAddress>,
    access: AccessMode,
    report: &mut Report<'_>,
) -> (InterceptSettings, Vec<HostPattern>) {
    let others = listeners.len();
    report.require(&intercept.address, "an address for tools", ADDRESS);
    match report.read(&intercept.address, ADDRESS, Leaf::text_or_texts) {
        None => {}
        Some(texts) if texts.is_empty() => {
            report.invalid(&intercept.address, "must not be an empty list", ADDRESS);
        }
        Some(texts) => add_all(&intercept.address, &texts, false, listeners, access, report),
    }
    let parts = [
        (
            &intercept.ca.certificate,
            "\"/etc/citrix-auth-proxy/ca.pem\"",
        ),
        (&intercept.ca.key, "\"/etc/citrix-auth-proxy/ca.key\""),
    ];
    let [certificate, key] = parts.map(|(leaf, example)| {
        let purpose = "an authority and its key; create them with citrix-auth-proxy ca new";
        report.require(leaf, purpose, example);
        report.file(leaf, example)
    });
    if let Some(key) = &key {
        report.check_mode(&intercept.ca.key, key);
    }
    let tunnels = check_tunnels(&intercept.tunnel, report);
    let addresses = listeners[others..].iter();
    let addresses: Vec<_> = addresses.map(|listener| listener.address.clone()).collect();
    let authority = certificate
        .zip(key)
        .map(|(certificate, key)| AuthorityFiles { certificate, key });
    let settings = InterceptSettings {
        addresses,
        // Without one of them there is a problem, and the settings are not used.
        authority: authority.unwrap_or_default(),
    };
    (settings, tunnels)
}

fn check_tunnels(leaf: &Leaf, report: &mut Report<'_>) -> Vec<HostPattern> {
    const EXAMPLE: &str = "[\"*.blob.core.windows.net\"]";
    let texts = report.read(leaf, EXAMPLE, Leaf::texts).unwrap_or_default();
    let mut patterns = Vec::new();
    for text in texts {
        match pattern(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(problem) => report.invalid(leaf, problem, EXAMPLE),
        }
    }
    patterns
}

/// Parses a name, or `*.` and a domain with two labels or more.
fn pattern(text: &str) -> Checked<HostPattern> {
    let below = text.strip_prefix("*.");
    let name = connect_target::dns_name(below.unwrap_or(text))
        .ok()
        .filter(|name| name.contains('.'));
    let invalid = || {
        format!(
            "invalid host {}: neither a name with a dot nor *. and a domain",
            shown(text)
        )
    };
    let name = name.ok_or_else(invalid)?;
    Ok(match below {
        Some(_) => HostPattern::Below(format!(".{name}")),
        None => HostPattern::Exact(name),
    })
}
