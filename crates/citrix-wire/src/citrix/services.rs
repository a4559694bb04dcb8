//! The services of Citrix Cloud as data: where each is, what it wants, what it allows (contract §3, §4), and by
//! which path of the gateway it is reached (interface §4.3). `docs/services.md` is generated from
//! here.
//!
//! No text of a caller ever becomes a part of a host: each name that a path may have leads to a host made here,
//! ahead of any request.

mod table;

#[cfg(test)]
mod document;
#[cfg(test)]
mod tests;

use super::clouds::Cloud;
pub use table::SERVICES;

/// One service, or what several have in common.
#[derive(Debug)]
pub struct Service {
    /// What Citrix calls it.
    pub name: &'static str,
    /// Where it is.
    pub at: ServiceLocation,
    /// Headers a request needs besides `Authorization`. The gateway adds `Citrix-CustomerId`,
    /// `Citrix-InstanceId` and what is in [`Self::adds`]; others are the caller's to send.
    pub needs: &'static [&'static str],
    /// Headers of one fixed value, added when a caller sent none. Names in lower case.
    pub adds: &'static [(&'static str, &'static str)],
    /// How a list goes on: the field of an answer, the parameters of a query.
    pub paging: &'static str,
    /// What Citrix allows, where it is known and the gateway can keep to it.
    pub limit: ServiceLimit,
    /// The same in words, with what the gateway cannot keep for its callers.
    pub limits: &'static str,
    /// The header in which it tells its transaction id.
    pub transaction_id: &'static str,
    /// Whether links in its JSON bodies are made to point at the gateway (contract §5).
    pub rewrite_links: bool,
    /// What else a user should know.
    pub note: &'static str,
}

/// Where a service is, which is also how it is reached.
#[derive(Clone, Copy, Debug)]
pub enum ServiceLocation {
    /// On the API gateway, below this path; there by the same path at ours, and behind `/region/{region}`.
    Gateway(&'static str),
    /// On a classic host, which begins with this name: `/classic/{name}`.
    Classic(&'static str),
    /// On the host that a customer has for itself: `/direct/{customer}`.
    Direct,
    /// On a host of its own: by this prefix, where the cloud is known to have it.
    Host(&'static str, fn(Cloud) -> Option<&'static str>),
    /// On a host that only its user knows: a `[[route]]` leads there.
    Elsewhere,
}

/// A limit of Citrix's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLimit {
    /// None known.
    Unknown,
    /// Requests at a time, for each customer.
    AtOnce(usize),
    /// Requests a second, for each customer.
    PerSecond(u32),
}

impl Service {
    /// Whether requests to it are treated in a way that needs a route, though the API gateway's would lead there.
    fn needs_own_route(&self) -> bool {
        self.limit != ServiceLimit::Unknown || self.rewrite_links
    }
}

/// A prefix that the gateway serves without being told to.
#[derive(Debug)]
pub struct BuiltIn {
    /// Of the caller's path, any case.
    pub prefix: String,
    /// Where it leads. What is below the prefix is put behind it.
    pub url: String,
    /// What is there.
    pub service: &'static Service,
}

/// The built-in prefixes that lead to hosts other than the API gateways: the classic hosts, each customer's own
/// one, and those of single services. A customer whose id is no DNS label has no host of its own.
pub fn built_in_prefixes<'c>(
    cloud: Cloud,
    customers: impl IntoIterator<Item = &'c str>,
) -> Vec<BuiltIn> {
    let customers: Vec<&str> = customers
        .into_iter()
        .filter(|id| is_dns_label(id))
        .collect();
    let mut built_in = Vec::new();
    for service in SERVICES {
        let mut lead = |prefix: String, url: String| {
            built_in.push(BuiltIn {
                prefix,
                url,
                service,
            })
        };
        match service.at {
            ServiceLocation::Gateway(_) | ServiceLocation::Elsewhere => {}
            ServiceLocation::Classic(name) => {
                lead(
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
                    lead(format!("{DIRECT}/{customer}"), format!("https://{host}"));
                }
            }
            ServiceLocation::Host(prefix, url) => {
                if let Some(url) = url(cloud) {
                    lead(prefix.to_owned(), url.to_owned());
                }
            }
        }
    }
    built_in
}

/// The services of an API gateway that need a route besides the gateway's own, with their paths there.
pub fn with_own_route() -> impl Iterator<Item = (&'static str, &'static Service)> {
    SERVICES
        .iter()
        .filter(|service| service.needs_own_route())
        .filter_map(|service| match service.at {
            ServiceLocation::Gateway(path) => Some((path, service)),
            _ => None,
        })
}

/// The gateways of the regions, by their prefixes.
pub fn region_prefixes(cloud: Cloud) -> impl Iterator<Item = (String, &'static str)> {
    cloud
        .regions()
        .iter()
        .map(|(name, region)| (format!("{REGION}/{name}"), region.api_url()))
}

/// Prefixes below which nothing is served but what has a route: another name there is a mistake, or somebody trying
/// hosts. Those of services that the chosen cloud does not have are among them.
pub fn reserved_prefixes() -> impl Iterator<Item = &'static str> {
    let hosts = SERVICES.iter().filter_map(|service| match service.at {
        ServiceLocation::Host(prefix, _) => Some(prefix),
        _ => None,
    });
    [CLASSIC, DIRECT, REGION].into_iter().chain(hosts)
}

/// The prefix of the classic hosts.
pub const CLASSIC: &str = "/classic";
/// The prefix of the customers' own hosts.
pub const DIRECT: &str = "/direct";
/// The prefix of the regions' gateways.
pub const REGION: &str = "/region";

/// Letters, digits and hyphens, 63 at most, no hyphen at either end (RFC 1123 section 2.1).
fn is_dns_label(text: &str) -> bool {
    const LONGEST: usize = 63;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
