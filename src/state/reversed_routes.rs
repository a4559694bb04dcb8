//! The route table in reverse: the hosts to which it leads, and the paths at the gateway of their
//! URLs, as link rewriting finds them.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use super::customer::Customer;
use super::known_hosts::KnownHosts;
use super::published::Published;
use super::snapshot::Snapshot;
use crate::config::{Live, RouteTarget};
use crate::observe::RequestLogs;
use crate::observe::metrics::Metrics;
use crate::upstream::dial::DialConfig;
use citrix_wire::citrix::clouds::Cloud;
use citrix_wire::citrix::login::token_endpoint;
use citrix_wire::connect_target;

/// Returns the public name of the API gateway, which is `/` whatever cloud the customers are in.
fn public_api_host() -> &'static str {
    Cloud::Commercial.api_host()
}

impl Snapshot {
    /// Returns the hosts that the gateway serves in place of Citrix.
    pub fn known_hosts(&self) -> &Rc<KnownHosts> {
        self.known_hosts.get_or_init(|| Rc::new(known_hosts(self)))
    }

    /// Returns the path at the gateway of `path` at a known host, in lower case; `None` if no route
    /// leads there for any customer.
    pub fn path_at_gateway(&self, host: &str, path: &str) -> Option<String> {
        let known = self.known_hosts();
        if known.logins.contains(host) {
            return token_endpoint(path).map(|_| path.to_owned());
        }
        let customers = known.customers.iter();
        customers
            .filter_map(|id| self.customers.get(id))
            .find_map(|customer| self.path_for_customer(customer, host, path))
    }

    /// Returns the path at the gateway of `path` at a known host; `None` if no route of the
    /// customer leads there.
    pub fn path_for_customer(&self, customer: &Customer, host: &str, path: &str) -> Option<String> {
        let found = self.links(customer).path_at_gateway(host, path);
        let is_api = || {
            let route = self.route_of(path).and_then(|index| self.routes.get(index));
            route.is_some_and(|route| route.config.target == RouteTarget::CustomerApi)
        };
        // The API gateway may have another name or base path in this configuration.
        let is_public_name = [public_api_host(), customer.cloud().api_host()].contains(&host);
        found.or_else(|| (is_public_name && is_api()).then(|| path.to_owned()))
    }
}

/// Returns the names of the hosts that a gateway with this configuration serves in place of Citrix,
/// in lower case.
///
/// # Errors
/// A metric that is registered twice, which is a bug.
pub fn known_host_names(
    live: &Arc<Live>,
    dial_config: &DialConfig,
) -> Result<Arc<HashSet<String>>, prometheus::Error> {
    let published = Published::initial(Arc::clone(live), dial_config, None);
    let metrics = Metrics::new(1)?.worker(0);
    let snapshot = Snapshot::new(Arc::new(published), metrics, RequestLogs::embedded());
    Ok(Arc::clone(snapshot.known_hosts().names()))
}

/// Collects the hosts of all customers.
fn known_hosts(snapshot: &Snapshot) -> KnownHosts {
    let mut kinds: Vec<&Customer> = Vec::new();
    for customer in snapshot.customers.all() {
        if !kinds.iter().any(|kind| kind.has_hosts_of(customer)) {
            kinds.push(customer);
        }
    }
    let logins: HashSet<_> = kinds
        .iter()
        .map(|customer| customer.cloud().trust_host())
        .collect();
    let mut names: HashSet<String> = logins.iter().map(|&host| host.to_owned()).collect();
    names.insert(public_api_host().to_owned());
    for customer in &kinds {
        let links = snapshot.links(customer);
        // No certificate is issued for an address.
        names.extend(
            links
                .hosts()
                .filter_map(|host| connect_target::dns_name(host).ok()),
        );
    }
    KnownHosts {
        logins,
        names: Arc::new(names),
        customers: kinds.iter().map(|it| it.id.as_bytes().into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const LOGIN: &str = "client_id = 'c'\nclient_secret = { env = 'S' }\n";

    fn snapshot(toml: &str) -> Rc<Snapshot> {
        let config = config::from_toml(toml, [("S".to_owned(), "s".to_owned())]).unwrap();
        let published = Published::initial(config.live, &DialConfig::unreachable(), None);
        let metrics = Metrics::new(1).unwrap().worker(0);
        Snapshot::new(Arc::new(published), metrics, RequestLogs::embedded())
    }

    fn assert_paths(toml: &str, table: &[(&str, &str, Option<&str>)]) {
        let snapshot = snapshot(toml);
        for (host, path, expected) in table {
            let found = snapshot.path_at_gateway(host, path);
            assert_eq!(found.as_deref(), *expected, "{host}{path}");
            if expected.is_some() {
                assert!(snapshot.known_hosts().contains(host), "{host}");
            }
        }
    }

    #[test]
    fn paths_of_citrix_hosts_are_the_built_in_ones() {
        assert_paths(
            &format!("[citrix]\ncustomer_id = 'acme'\n{LOGIN}"),
            &[
                ("api.cloud.com", "/", Some("/")),
                ("api.cloud.com", "/me?", Some("/me?")),
                ("api.cloud.com", "/monitorodata/x", Some("/monitorodata/x")),
                ("api.cloud.com", "/cvad/manage/me", Some("/cvad/manage/me")),
                (
                    "api.cloud.com",
                    "/cctrustoauth2/acme/tokens/clients",
                    Some("/cctrustoauth2/acme/tokens/clients"),
                ),
                ("api-eu.cloud.com", "/x", Some("/region/eu/x")),
                (
                    "api-us.cloud.com",
                    "/monitorodata/x",
                    Some("/region/us/monitorodata/x"),
                ),
                (
                    "registry.citrixworkspacesapi.net",
                    "/acme/x",
                    Some("/classic/registry/acme/x"),
                ),
                (
                    "acme.xendesktop.net",
                    "/citrix/orchestration/api/acme/x",
                    Some("/direct/acme/citrix/orchestration/api/acme/x"),
                ),
                (
                    "trust.citrixworkspacesapi.net",
                    "/root/tokens/clients",
                    Some("/root/tokens/clients"),
                ),
                (
                    "api.wem.cloud.com",
                    "/services/wem/x",
                    Some("/wem/services/wem/x"),
                ),
                ("trust.citrixworkspacesapi.net", "/acme/keys", None),
                ("api.cloud.com", "/region/eu/x", None),
                ("api.cloud.com", "/classic/registry/x", None),
                ("api.cloud.com", "/direct/acme/x", None),
                ("contoso.xendesktop.net", "/x", None),
                ("unknown.citrixworkspacesapi.net", "/x", None),
                ("api.citrixcloud.jp", "/x", None),
                ("errors-api.cloud.com", "/x", None),
                ("cloud.com", "/x", None),
                ("evilapi.cloud.com", "/x", None),
                ("bank.example", "/x", None),
            ],
        );
    }

    #[test]
    fn public_name_of_the_api_gateway_is_the_root_wherever_it_leads() {
        for api in [
            "https://127.0.0.1:9",
            "https://staging.example/base",
            "https://api.cloud.us",
        ] {
            assert_paths(
                &format!("[citrix]\ncustomer_id = 'acme'\napi_url = '{api}'\n{LOGIN}"),
                &[
                    ("api.cloud.com", "/cvad/manage/x", Some("/cvad/manage/x")),
                    ("api.cloud.com", "/x", Some("/x")),
                    ("api.cloud.com", "/classic/registry/x", None),
                ],
            );
        }
        let gov = format!("[citrix]\ncloud = 'gov'\ncustomer_id = 'acme'\n{LOGIN}");
        assert_paths(
            &gov,
            &[
                ("api.cloud.us", "/x", Some("/x")),
                ("api.cloud.com", "/x", Some("/x")),
                (
                    "trust.citrixworkspacesapi.us",
                    "/acme/tokens/clients",
                    Some("/acme/tokens/clients"),
                ),
                (
                    "trust.citrixworkspacesapi.net",
                    "/acme/tokens/clients",
                    None,
                ),
                ("api-eu.cloud.com", "/x", None),
            ],
        );
    }

    #[test]
    fn hosts_of_routes_are_known_unless_they_have_another_port_or_are_addresses() {
        let toml = format!(
            "[citrix]\ncustomer_id = 'acme'\n{LOGIN}\
             [[route]]\nprefix = '/reports'\nupstream = 'https://reports.example.net/api'\n\
             [[route]]\nprefix = '/port'\nupstream = 'https://port.example.net:8443'\n\
             [[route]]\nprefix = '/address'\nupstream = 'http://127.0.0.1'\n\
             [[route]]\nprefix = '/classic/registry'\nupstream = 'https://registry.example.net'\n"
        );
        assert_paths(
            &toml,
            &[
                ("reports.example.net", "/api/x", Some("/reports/x")),
                ("reports.example.net", "/other", None),
                ("registry.example.net", "/x", Some("/classic/registry/x")),
                (
                    "registry.citrixworkspacesapi.net",
                    "/x",
                    Some("/classic/registry/x"),
                ),
            ],
        );
        let snapshot = snapshot(&toml);
        for host in ["port.example.net", "127.0.0.1", "localhost"] {
            assert!(!snapshot.known_hosts().contains(host), "{host}");
        }
    }

    #[test]
    fn customers_of_several_clouds_have_their_own_hosts() {
        let customer = |id: &str, cloud: &str| {
            format!("[[customer]]\ncustomer_id = '{id}'\ncloud = '{cloud}'\n{LOGIN}")
        };
        let toml = customer("acme", "commercial") + &customer("nippon", "japan");
        assert_paths(
            &toml,
            &[
                ("api.cloud.com", "/x", Some("/x")),
                ("api.citrixcloud.jp", "/x", Some("/x")),
                ("acme.xendesktop.net", "/x", Some("/direct/acme/x")),
                (
                    "nippon.apps.citrixworkspacesapi.jp",
                    "/x",
                    Some("/direct/nippon/x"),
                ),
            ],
        );
        let snapshot = snapshot(&toml);
        let for_customer = |id: &str, host: &str| {
            let customer = snapshot.customers.get(id.as_bytes()).unwrap();
            snapshot.path_for_customer(customer, host, "/x")
        };
        assert_eq!(for_customer("acme", "api.citrixcloud.jp"), None);
        assert_eq!(for_customer("nippon", "api-eu.cloud.com"), None);
    }
}
