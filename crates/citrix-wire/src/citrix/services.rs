//! Citrix Cloud's services as data: hosts, requirements and limits (contract §3, §4), and their
//! paths at the gateway (interface §4.3). A test generates `docs/services.md` from it.
//!
//! No text of a request becomes part of a host name: every permitted path segment maps to a host
//! listed here.

mod table;

#[cfg(test)]
mod document;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::clouds::Cloud;
use crate::path::first_segment;
pub use table::SERVICES;

/// A service, or the defaults of several.
#[derive(Debug)]
pub struct Service {
    /// Citrix's name.
    pub name: &'static str,
    /// Host and path, which also determine the path at the gateway.
    pub at: ServiceLocation,
    /// Required header fields besides `Authorization`. The gateway adds `Citrix-CustomerId`,
    /// `Citrix-InstanceId` and [`Self::default_headers`]; the caller sends the others.
    pub headers: &'static [&'static str],
    /// Fields with a fixed value, added if the caller sent none. Names in lower case.
    pub default_headers: &'static [(&'static str, &'static str)],
    /// Response field and query parameters for the next page.
    pub paging: &'static str,
    /// The limit that the gateway enforces for its callers.
    pub limit: ServiceLimit,
    /// Description of all limits, including those that the gateway does not enforce.
    pub limit_note: &'static str,
    /// Response field with the transaction id.
    pub transaction_id: &'static str,
    /// Links in JSON bodies are rewritten (contract §5).
    pub rewrite_links: bool,
    /// Identical GET requests that wait for a permit share one response.
    pub collapse: bool,
    /// Further notes for users.
    pub note: &'static str,
}

/// The host and path of a service.
#[derive(Clone, Copy, Debug)]
pub enum ServiceLocation {
    /// Below this path of the API gateway; the same path here, also below `/region/{region}`.
    Gateway(&'static str),
    /// On the classic host with this first label; `/classic/{name}` here.
    Classic(&'static str),
    /// On a customer's direct host; `/direct/{customer}` here.
    Direct,
    /// On a separate host; this prefix here, if the cloud is known to have the host, and below
    /// `/region/{region}` if the regions have different ones.
    Host(&'static str, fn(Cloud) -> Option<&'static str>),
    /// On a host that the operator configures with a `[[route]]`.
    Elsewhere,
}

/// A limit that Citrix enforces per customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLimit {
    /// None documented.
    Unknown,
    /// Concurrent requests.
    AtOnce(usize),
    /// Requests per second.
    PerSecond(u32),
}

impl Service {
    /// Returns `true` if a service of the API gateway needs settings that the gateway's own route
    /// does not have.
    fn needs_own_route(&self) -> bool {
        self.limit != ServiceLimit::Unknown || self.rewrite_links
    }
}

/// A path prefix that is routed without configuration.
#[derive(Debug)]
pub struct BuiltInPrefix {
    /// Prefix of the caller's path, case-insensitive.
    pub prefix: String,
    /// Upstream URL that replaces the prefix.
    pub url: String,
    /// The service at that URL.
    pub service: &'static Service,
}

/// Returns the built-in prefixes of hosts other than the API gateways: classic hosts, direct hosts
/// of `customers`, and hosts of single services. A customer whose id is no DNS label has no direct
/// host.
pub fn built_in_prefixes<'c>(
    cloud: Cloud,
    customers: impl IntoIterator<Item = &'c str>,
) -> Vec<BuiltInPrefix> {
    let customers: Vec<&str> = customers
        .into_iter()
        .filter(|id| is_dns_label(id))
        .collect();
    let mut built_in = Vec::new();
    for service in SERVICES {
        let mut add = |prefix: String, url: String| {
            built_in.push(BuiltInPrefix {
                prefix,
                url,
                service,
            })
        };
        match service.at {
            ServiceLocation::Gateway(_) | ServiceLocation::Elsewhere => {}
            ServiceLocation::Classic(name) => {
                add(
                    format!("{CLASSIC}/{name}"),
                    format!("https://{name}.{}", cloud.classic_domain()),
                );
            }
            ServiceLocation::Direct => {
                for customer in &customers {
                    let host = format!(
                        "{}.{}",
                        customer.to_ascii_lowercase(),
                        cloud.direct_domain()
                    );
                    add(format!("{DIRECT}/{customer}"), format!("https://{host}"));
                }
            }
            ServiceLocation::Host(prefix, url) => {
                if let Some(url) = url(cloud) {
                    add(prefix.to_owned(), url.to_owned());
                }
                for (name, url) in regional_hosts(cloud, url) {
                    add(format!("{REGION}/{name}{prefix}"), url.to_owned());
                }
            }
        }
    }
    built_in
}

/// Returns the hosts of a service in the regions of a cloud; none if all regions share one.
fn regional_hosts(
    cloud: Cloud,
    url: fn(Cloud) -> Option<&'static str>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let hosts = move || {
        let regions = cloud.regions().iter();
        regions.filter_map(move |(name, region)| Some((*name, url(*region)?)))
    };
    let is_shared = hosts().is_sorted_by(|(_, one), (_, other)| one == other);
    hosts().filter(move |_| !is_shared)
}

/// Returns the services of an API gateway that need a route of their own, with their paths.
pub fn with_own_route() -> impl Iterator<Item = (&'static str, &'static Service)> {
    SERVICES
        .iter()
        .filter(|service| service.needs_own_route())
        .filter_map(|service| match service.at {
            ServiceLocation::Gateway(path) => Some((path, service)),
            _ => None,
        })
}

/// Returns the prefixes and URLs of the regions' API gateways.
pub fn region_prefixes(cloud: Cloud) -> impl Iterator<Item = (String, &'static str)> {
    cloud
        .regions()
        .iter()
        .map(|(name, region)| (format!("{REGION}/{name}"), region.api_url()))
}

/// Splits `/region/{region}` off a path. The rest is a path of the API gateway, or that of a service
/// with a host in the region; it begins with a slash.
pub fn split_region(path: &str) -> Option<(&str, &str)> {
    let below = path.strip_prefix(REGION)?;
    let (name, rest) = first_segment(below)?;
    let region = &path[..REGION.len() + 1 + name.len()];
    (!name.is_empty()).then_some((region, if rest.is_empty() { "/" } else { rest }))
}

/// Returns the prefixes below which only routed paths are forwarded: any other name is a mistake or
/// an attempt to reach a host. They include services that the chosen cloud does not have.
pub fn reserved_prefixes() -> impl Iterator<Item = &'static str> {
    let hosts = SERVICES.iter().filter_map(|service| match service.at {
        ServiceLocation::Host(prefix, _) => Some(prefix),
        _ => None,
    });
    [CLASSIC, DIRECT, REGION].into_iter().chain(hosts)
}

/// Returns the domains of all hosts of all clouds, the last two labels of each, in alphabetical
/// order: those for which an authority may issue certificates (interface §4.6).
pub fn domains() -> Vec<String> {
    let mut domains = BTreeSet::new();
    for (_, cloud) in Cloud::ALL {
        let hosts = built_in_prefixes(cloud, ["customer"]).into_iter();
        let trust = format!("https://{}", cloud.trust_host());
        let urls = hosts
            .map(|it| it.url)
            .chain([cloud.api_url().to_owned(), trust]);
        domains.extend(urls.filter_map(|url| domain_of(&url).map(str::to_owned)));
    }
    domains.into_iter().collect()
}

/// Returns the last two labels of the host of an `https` URL of the table.
fn domain_of(url: &str) -> Option<&str> {
    let host = url.strip_prefix("https://")?.split('/').next()?;
    let (rest, _) = host.rsplit_once('.')?;
    let start = rest.rfind('.').map_or(0, |dot| dot + 1);
    Some(&host[start..])
}

/// Prefix of the classic hosts.
pub const CLASSIC: &str = "/classic";
/// Prefix of the customers' direct hosts.
pub const DIRECT: &str = "/direct";
/// Prefix of the regions' API gateways.
pub const REGION: &str = "/region";

/// Returns `true` for 1 to 63 letters, digits and inner hyphens (RFC 1123 section 2.1).
fn is_dns_label(text: &str) -> bool {
    const MAX_LENGTH: usize = 63;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_LENGTH).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
