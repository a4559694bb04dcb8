//! The API gateways that the program knows: nothing else is followed when Citrix sends a request elsewhere.

use super::citrix;
use crate::config::{Credential, Route, RouteTarget, UpstreamUrl};

/// Those of the customers' clouds, every `api_url`, and what a route from `/region/{name}` leads to. What counts is
/// scheme, host and port.
pub(super) fn known(credentials: &[Credential], routes: &[Route]) -> Vec<UpstreamUrl> {
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
            add(&citrix::preset(*cloud));
        }
    }
    for route in routes.iter().filter(|route| is_of_region(&route.prefix)) {
        match &route.target {
            RouteTarget::CustomerApi => {}
            RouteTarget::ByCloud(urls) => urls.iter().for_each(|(_, url)| add(url)),
            RouteTarget::Fixed(destination) => add(&destination.url),
        }
    }
    known
}

/// Whether a prefix is `/region/` and a name.
fn is_of_region(prefix: &str) -> bool {
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

    const LOGIN: &str = "customer_id = 'acme'\nclient_id = 'c'\nclient_secret = { env = 'SECRET' }";

    #[test]
    fn the_gateways_of_a_customers_cloud_are_known_and_no_other_clouds() {
        let regions = [
            "https://api.cloud.com",
            "https://api-us.cloud.com",
            "https://api-eu.cloud.com",
        ];
        assert_eq!(gateways(&format!("[citrix]\n{LOGIN}"))[..3], regions);
        assert_eq!(
            gateways(&format!("[citrix]\ncloud = 'eu'\n{LOGIN}")).len(),
            4
        );
        assert_eq!(
            gateways(&format!("[citrix]\ncloud = 'japan'\n{LOGIN}")),
            ["https://api.citrixcloud.jp"]
        );
    }

    #[test]
    fn so_is_what_the_configuration_calls_a_gateway() {
        let table = format!(
            "[citrix]\ncloud = 'gov'\napi_url = 'https://h/base'\n{LOGIN}\n\
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
