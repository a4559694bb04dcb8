//! The known API gateways: the only permitted targets of a region redirect.

use super::citrix::api_gateway;
use crate::config::{Credential, KnownGateway, RouteSettings, RouteTarget, UpstreamUrl};
use citrix_wire::citrix::clouds::Cloud;

/// Returns the gateways of the customers' clouds, and the upstreams of routes for `/region/{name}`.
pub(super) fn known_gateways(
    credentials: &[Credential],
    routes: &[RouteSettings],
) -> Vec<KnownGateway> {
    let mut known = Vec::new();
    let mut add = |cloud: Option<Cloud>, url: UpstreamUrl| {
        let gateway = KnownGateway { cloud, url };
        if !known.contains(&gateway) {
            known.push(gateway);
        }
    };
    for credential in credentials {
        for cloud in credential.cloud.gateways() {
            add(Some(credential.cloud), api_gateway(*cloud));
        }
    }
    for route in routes.iter().filter(|route| is_region(&route.prefix)) {
        match &route.target {
            RouteTarget::CustomerApi => {}
            RouteTarget::ByCloud(urls) => {
                for (cloud, url) in urls {
                    add(Some(*cloud), url.clone());
                }
            }
            RouteTarget::Fixed(endpoint) => add(None, endpoint.url.clone()),
        }
    }
    known
}

/// Returns `true` for `/region/{name}`.
fn is_region(prefix: &str) -> bool {
    let mut segments = prefix.split('/').skip(1);
    let region = segments
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case("region"));
    region && segments.next().is_some_and(|name| !name.is_empty()) && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use crate::config::check::from_toml;

    fn gateways(toml: &str) -> Vec<String> {
        let env = [("SECRET".to_owned(), "s".to_owned())];
        let live = from_toml(toml, env).unwrap().live;
        let gateways = live.gateways.iter();
        gateways.map(|gateway| gateway.url.to_string()).collect()
    }

    const CLIENT: &str =
        "customer_id = 'acme'\nclient_id = 'c'\nclient_secret = { env = 'SECRET' }";

    #[test]
    fn gateways_of_the_customers_cloud_are_known() {
        let regions = [
            "https://api.cloud.com",
            "https://api-us.cloud.com",
            "https://api-eu.cloud.com",
        ];
        assert_eq!(gateways(&format!("[citrix]\n{CLIENT}"))[..3], regions);
        assert_eq!(
            gateways(&format!("[citrix]\ncloud = 'eu'\n{CLIENT}")).len(),
            4
        );
        assert_eq!(
            gateways(&format!("[citrix]\ncloud = 'japan'\n{CLIENT}")),
            ["https://api.citrixcloud.jp"]
        );
    }

    #[test]
    fn upstreams_of_region_routes_are_known() {
        let table = format!(
            "[citrix]\ncloud = 'gov'\napi_url = 'https://h/base'\n{CLIENT}\n\
             [[route]]\nprefix = '/region/eu'\nupstream = 'https://eu/x'\n\
             [[route]]\nprefix = '/region/eu/more'\nupstream = 'https://more'\n\
             [[route]]\nprefix = '/reports'\nupstream = 'https://reports'\n"
        );
        assert_eq!(gateways(&table), ["https://api.cloud.us", "https://eu/x"]);
    }
}
