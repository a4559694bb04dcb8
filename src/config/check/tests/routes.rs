//! The built-in routes (interface §4.3) and `[[route]]` blocks that replace them.

use super::*;
use crate::config::Live;
use citrix_wire::citrix::services;

/// Returns the target of the route with this prefix, and whether the prefix is stripped.
fn target_of(live: &Live, prefix: &str) -> Option<(String, bool)> {
    let route = route(live, prefix)?;
    let url = match &route.target {
        RouteTarget::CustomerApi => "the API".to_owned(),
        RouteTarget::ByCloud(urls) => {
            let urls: Vec<String> = urls.iter().map(|(_, url)| url.to_string()).collect();
            urls.join(" ")
        }
        RouteTarget::Fixed(to) => to.url.to_string(),
    };
    Some((url, route.strip_prefix))
}

fn route<'l>(live: &'l Live, prefix: &str) -> Option<&'l RouteSettings> {
    live.routes
        .iter()
        .map(|route| &**route)
        .find(|route| route.prefix == prefix)
}

#[track_caller]
fn assert_targets(live: &Live, cases: &[(&str, &str, bool)]) {
    for (prefix, url, stripped) in cases {
        assert_eq!(
            target_of(live, prefix),
            Some(((*url).to_owned(), *stripped)),
            "{prefix}"
        );
    }
}

#[test]
fn built_in_routes_exist() {
    let live = accept("").live;
    assert_targets(
        &live,
        &[
            ("", "the API", false),
            ("/monitorodata", "the API", false),
            ("/cvad/manage", "the API", false),
            ("/accessSecurity", "the API", false),
            ("/region/eu", "https://api-eu.cloud.com", true),
            (
                "/region/eu/monitorodata",
                "https://api-eu.cloud.com/monitorodata",
                true,
            ),
            (
                "/region/ap-s/cvad/manage",
                "https://api-ap-s.cloud.com/cvad/manage",
                true,
            ),
            (
                "/classic/registry",
                "https://registry.citrixworkspacesapi.net",
                true,
            ),
            ("/direct/acme", "https://acme.xendesktop.net", true),
            ("/wem", "https://api.wem.cloud.com", true),
        ],
    );
    // Every entry of the table has a route.
    for (name, cloud) in citrix_wire::citrix::clouds::Cloud::ALL {
        let live = accept(&format!("[citrix]\ncloud = '{name}'")).live;
        for built_in in services::built_in_prefixes(cloud, ["acme"]) {
            assert!(
                route(&live, &built_in.prefix).is_some(),
                "{name} {}",
                built_in.prefix
            );
        }
        assert_eq!(
            route(&live, "/region/us").is_some(),
            cloud.regions().len() == 3,
            "{name}"
        );
        assert!(
            live.routes
                .iter()
                .all(|route| route.ignore_case && route.built_in),
            "{name}"
        );
    }
}

#[test]
fn limits_and_link_rewriting_are_equal_at_every_gateway() {
    let live = accept("").live;
    for gateway in ["", "/region/us", "/region/eu", "/region/ap-s"] {
        let of = |path: &str| route(&live, &format!("{gateway}{path}")).unwrap();
        let limit = of("/monitorodata").limit.as_ref().unwrap();
        assert_eq!(limit.shared_as, "/monitorodata");
        assert_eq!(limit.quota, Quota::AtOnce(1.try_into().unwrap()));
        assert_eq!(limit.queue_timeout, Duration::from_secs(60));
        assert!(of("/monitorodata").rewrite_links && of("/cvad/manage").rewrite_links);
        assert!(of("/monitorodata").collapse && !of("/cvad/manage").collapse);
        assert_eq!(
            of("/accessSecurity").limit.as_ref().unwrap().quota,
            Quota::PerSecond(15.try_into().unwrap())
        );
        assert!(
            of("").limit.is_none() && of("/cvad/manage").limit.is_none() && !of("").rewrite_links
        );
    }
    let adm = &route(&live, "/adm").unwrap().default_headers;
    assert_eq!(
        adm.iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect::<Vec<_>>(),
        [("iscloud", &b"true"[..])]
    );
}

#[test]
fn customers_of_several_clouds_have_the_hosts_of_each_cloud() {
    let block = |id: &str, cloud: &str| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\ncloud = '{cloud}'\nclient_id = 'c'\n\
             client_secret = {{ env = 'S' }}\n"
        )
    };
    let text = [("acme", "eu"), ("contoso", "gov"), ("fabrikam", "us")]
        .map(|(id, cloud)| block(id, cloud));
    let live = from_toml(&text.concat(), pairs(&[("S", "s3cret")]))
        .unwrap()
        .live;
    let net = "https://core.citrixworkspacesapi.net";
    assert_targets(
        &live,
        &[
            (
                "/classic/core",
                &format!("{net} {net} https://core.citrixworkspacesapi.us"),
                true,
            ),
            (
                "/wem",
                "https://api.wem.cloud.com https://eu-api.wem.cloud.com",
                true,
            ),
            (
                "/region/ap-s",
                "https://api-ap-s.cloud.com https://api-ap-s.cloud.com",
                true,
            ),
            ("/direct/acme", "https://acme.xendesktop.net", true),
            ("/direct/contoso", "https://contoso.xendesktop.us", true),
        ],
    );
}

#[test]
fn configured_route_replaces_a_built_in_route_and_its_services() {
    let text = "\
[[route]]
prefix = '/MonitorOData'
upstream = 'https://a.example'
[[route]]
prefix = '/region/eu'
upstream = 'https://b.example/x'
[[route]]
prefix = '/classic/mine'
upstream = 'https://c.example'
[[route]]
prefix = '/'
upstream = 'https://d.example/y'
";
    let live = accept(text).live;
    assert_targets(
        &live,
        &[
            ("/MonitorOData", "https://a.example", true),
            ("/region/eu", "https://b.example/x", true),
            (
                "/region/eu/monitorodata",
                "https://b.example/x/monitorodata",
                true,
            ),
            ("/classic/mine", "https://c.example", true),
            ("", "https://d.example/y", false),
            ("/cvad/manage", "https://d.example/y", false),
        ],
    );
    assert!(route(&live, "/monitorodata").is_none());
    let replaced = route(&live, "/MonitorOData").unwrap();
    assert!(
        replaced.ignore_case
            && replaced.limit.is_none()
            && !replaced.rewrite_links
            && !replaced.built_in
    );
    assert!(!route(&live, "/classic/mine").unwrap().ignore_case);
    rejects_with(
        "[[route]]\nprefix = '/wem'\nupstream = 'https://a'\n[[route]]\nprefix = '/WEM'\nupstream = 'https://a'",
        "route[1].prefix: duplicate prefix \"/WEM\"",
    );
    // Prefixes that are not built in may differ in case only.
    accept(
        "[[route]]\nprefix = '/a'\nupstream = 'https://a'\n[[route]]\nprefix = '/A'\nupstream = 'https://a'",
    );
}

#[test]
fn routes_to_customers_hosts_share_a_name() {
    let live = accept("").live;
    assert_eq!(route(&live, "/direct/acme").unwrap().name(), "/direct");
    assert_eq!(
        route(&live, "/classic/core").unwrap().name(),
        "/classic/core"
    );
    let own = accept("[[route]]\nprefix = '/directory'\nupstream = 'https://a'").live;
    assert_eq!(route(&own, "/directory").unwrap().name(), "/directory");
}

#[test]
fn customer_id_that_is_no_dns_label_has_no_direct_route() {
    let env = [
        ("CITRIX_CUSTOMER_ID", "a.b"),
        ("CITRIX_CLIENT_ID", "id"),
        ("CITRIX_CLIENT_SECRET", "s3cret"),
    ];
    let live = from_toml("", pairs(&env)).unwrap().live;
    assert!(
        !live
            .routes
            .iter()
            .any(|route| route.prefix.starts_with("/direct"))
    );
}
