//! `[upstream]`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use citrix_wire::connect_target;
use toml::Value;

use super::egress::check_egress;
use super::{Report, TIMEOUT, WAIT};
use crate::config::raw::RawUpstream;
use crate::config::value::{self, Checked, Leaf, shown};
use crate::config::{FixedAddresses, Http2Mode, UpstreamSettings};

pub(super) fn check_upstream(upstream: &RawUpstream, report: &mut Report<'_>) -> UpstreamSettings {
    let modes = [("auto", Http2Mode::Auto), ("never", Http2Mode::Never)];
    let ca_file = report.file(&upstream.ca_file, "\"/etc/citrix-auth-proxy/ca.pem\"");
    if let Some(path) = &ca_file {
        report.add_file(&upstream.ca_file, path);
    }
    UpstreamSettings {
        ca_file,
        egress: check_egress(&upstream.proxy_url, report),
        resolve: check_resolve(&upstream.resolve, report),
        http2: report
            .choice(&upstream.http2, &modes)
            .unwrap_or(Http2Mode::Auto),
        connect_timeout: report.duration(
            &upstream.connect_timeout,
            Duration::from_secs(5),
            TIMEOUT,
        ),
        response_timeout: report.duration(
            &upstream.response_timeout,
            Duration::from_secs(100),
            TIMEOUT,
        ),
        idle_timeout: report.duration(&upstream.idle_timeout, Duration::from_secs(60), TIMEOUT),
        pool_idle_timeout: report.duration(
            &upstream.pool_idle_timeout,
            Duration::from_secs(60),
            TIMEOUT,
        ),
        max_connection_age: report.duration(
            &upstream.max_connection_age,
            Duration::from_mins(10),
            TIMEOUT,
        ),
        retry_budget: report.duration(&upstream.retry_budget, Duration::from_secs(10), WAIT),
    }
}

/// Reads a table of hosts, each with its addresses.
fn check_resolve(leaf: &Leaf, report: &mut Report<'_>) -> FixedAddresses {
    const EXAMPLE: &str = "{ \"api.cloud.com\" = [\"203.0.113.7\"] }";
    let fixed = report.read(leaf, EXAMPLE, |leaf| {
        let table = match &leaf.value {
            Some(Value::Table(table)) => Some(table.clone()),
            Some(Value::String(text)) if leaf.from_variable => value::parse_table(text),
            _ => None,
        };
        let table = table.ok_or("must be a table of hosts with their addresses")?;
        let hosts = table.iter();
        hosts
            .map(|(host, addresses)| Ok((fixed_host(host)?, fixed_addresses(addresses)?)))
            .collect::<Result<BTreeMap<_, _>, _>>()
    });
    fixed.unwrap_or_default()
}

fn fixed_host(host: &str) -> Checked<String> {
    connect_target::dns_name(host).map_err(|_| format!("invalid host name {}", shown(host)))
}

fn fixed_addresses(value: &Value) -> Checked<Vec<IpAddr>> {
    let not_addresses = || "the value of a host must be a list of IP addresses".to_owned();
    let addresses = value.as_array().filter(|addresses| !addresses.is_empty());
    let addresses = addresses.ok_or_else(not_addresses)?.iter();
    addresses
        .map(|address| {
            let text = address.as_str().ok_or_else(not_addresses)?;
            text.parse()
                .map_err(|_| format!("invalid IP address {}", shown(text)))
        })
        .collect()
}
