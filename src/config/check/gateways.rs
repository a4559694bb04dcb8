//! The known API gateways: the only permitted targets of a region redirect.

use super::citrix::api_gateway;
use crate::config::{Credential, RouteSettings, RouteTarget, UpstreamUrl};

/// Returns the gateways of the customers' clouds, every `api_url`, and the upstreams of routes for
/// `/region/{name}`, without paths.
pub(super) fn known_gateways(
    credentials: &[Credential],
    routes: &[RouteSettings],
) -> Vec<UpstreamUrl> {
    let mut known = Vec::new();
    let mut add = |url: &UpstreamUrl| {
        let url = UpstreamUrl {
            base_path: String::new(),
            ..url.clone()
        };
        if !known.contains(&url) {
            known.push(url);
        }
    };
    for credential in credentials {
        add(&credential.api.url);
        for cloud in credential.cloud.gateways() {
            add(&api_gateway(*cloud));
        }
    }
    for route in routes.iter().filter(|route| is_region(&route.prefix)) {
        match &route.target {
            RouteTarget::CustomerApi => {}
            RouteTarget::ByCloud(urls) => urls.iter().for_each(|(_, url)| add(url)),
            RouteTarget::Fixed(endpoint) => add(&endpoint.url),
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
        live.gateways.iter().map(ToString::to_string).collect()
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
    fn api_url_and_region_routes_are_known() {
        let table = format!(
            "[citrix]\ncloud = 'gov'\napi_url = 'https://h/base'\n{CLIENT}\n\
             [[route]]\nprefix = '/region/eu'\nupstream = 'https://eu/x'\n\
             [[route]]\nprefix = '/region/eu/more'\nupstream = 'https://more'\n\
             [[route]]\nprefix = '/reports'\nupstream = 'https://reports'\n"
        );
        assert_eq!(
            gateways(&table),
            ["https://h", "https://api.cloud.us", "https://eu"]
        );
    }
}
