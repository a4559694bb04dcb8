//! What is in the table, and where its prefixes lead.

use std::collections::BTreeMap;

use super::*;

fn urls(cloud: Cloud, customers: &[&str]) -> BTreeMap<String, String> {
    let built_in = built_in_prefixes(cloud, customers.iter().copied());
    let count = built_in.len();
    let urls: BTreeMap<_, _> = built_in
        .into_iter()
        .map(|each| (each.prefix, each.url))
        .collect();
    assert_eq!(urls.len(), count, "a prefix is there twice");
    urls
}

#[test]
fn design_4_3_each_cloud_has_its_own_hosts() {
    let leads = |cloud, prefix: &str| urls(cloud, &["Acme"]).remove(prefix);
    for (cloud, registry, direct, wem, gac) in [
        (
            Cloud::Commercial,
            "https://registry.citrixworkspacesapi.net",
            "https://acme.xendesktop.net",
            Some("https://api.wem.cloud.com"),
            Some("https://wsaca.cloud.com"),
        ),
        (
            Cloud::Eu,
            "https://registry.citrixworkspacesapi.net",
            "https://acme.xendesktop.net",
            Some("https://eu-api.wem.cloud.com"),
            Some("https://wsaca.cloud.com"),
        ),
        (
            Cloud::Japan,
            "https://registry.citrixworkspacesapi.jp",
            "https://acme.apps.citrixworkspacesapi.jp",
            Some("https://jp-api.wem.citrixcloud.jp"),
            None,
        ),
        (
            Cloud::Gov,
            "https://registry.citrixworkspacesapi.us",
            "https://acme.xendesktop.us",
            None,
            None,
        ),
    ] {
        assert_eq!(
            leads(cloud, "/classic/registry").as_deref(),
            Some(registry),
            "{cloud:?}"
        );
        assert_eq!(
            leads(cloud, "/direct/Acme").as_deref(),
            Some(direct),
            "{cloud:?}"
        );
        assert_eq!(leads(cloud, "/wem").as_deref(), wem, "{cloud:?}");
        assert_eq!(leads(cloud, "/gac").as_deref(), gac, "{cloud:?}");
    }
}

#[test]
fn contract_4_every_classic_service_is_there_and_the_login_is_not() {
    let urls = urls(Cloud::Commercial, &[]);
    for name in [
        "registry",
        "core",
        "agenthub",
        "cws",
        "webhooks",
        "notifications",
        "customers",
        "partner",
        "licensing",
        "cloudlicense",
        "directory",
        "features",
        "identity",
        "serviceprofiles",
        "messaging",
        "cloudlibrary",
        "healthdatastore",
        "releasesapi",
    ] {
        assert_eq!(
            urls[&format!("/classic/{name}")],
            format!("https://{name}.citrixworkspacesapi.net")
        );
    }
    // Logging in is the gateway's; a caller has no business there.
    assert!(!urls.contains_key("/classic/trust"));
    for prefix in [
        "/wem",
        "/gac",
        "/sessionrecording",
        "/adm",
        "/applayering",
        "/catalogs",
    ] {
        assert!(urls.contains_key(prefix), "{prefix}");
    }
}

#[test]
fn only_customers_whose_id_is_a_dns_label_have_a_host() {
    let long = "a".repeat(64);
    let odd = [
        "", "a.b", "a_b", "-a", "a-", "a@b", "a:1", "evil.com", "a%2f", "ä", &long, "a b", "[::1]",
    ];
    let direct = |id: &str| {
        urls(Cloud::Commercial, &[id])
            .into_keys()
            .any(|key| key.starts_with("/direct"))
    };
    for id in odd {
        assert!(!direct(id), "{id}");
    }
    for id in ["acme", "9hrh0kjmtf6j", "a-b", "A", &long[1..]] {
        assert!(direct(id), "{id}");
    }
}

#[test]
fn contract_4_limits_and_links_are_those_of_the_services_that_have_them() {
    let own: Vec<_> = with_own_route()
        .map(|(path, service)| (path, service.limit, service.rewrite_links))
        .collect();
    assert_eq!(
        own,
        [
            ("/cvad/manage", ServiceLimit::Unknown, true),
            ("/monitorodata", ServiceLimit::AtOnce(1), true),
            ("/casodata", ServiceLimit::Unknown, true),
            ("/accessSecurity", ServiceLimit::PerSecond(15), false),
        ]
    );
    // The same services on the customers' own hosts.
    let elsewhere = built_in_prefixes(Cloud::Commercial, ["acme"]);
    let with_links = elsewhere.iter().filter(|each| each.service.rewrite_links);
    assert_eq!(
        with_links.map(|each| &*each.prefix).collect::<Vec<_>>(),
        ["/direct/acme"]
    );
}

#[test]
fn regions_lead_to_gateways_that_take_the_clouds_tokens() {
    let of = |cloud| {
        region_prefixes(cloud)
            .map(|(prefix, url)| format!("{prefix} {url}"))
            .collect::<Vec<_>>()
    };
    let all = [
        "/region/us https://api-us.cloud.com",
        "/region/eu https://api-eu.cloud.com",
        "/region/ap-s https://api-ap-s.cloud.com",
    ];
    for cloud in [Cloud::Commercial, Cloud::Us, Cloud::Eu, Cloud::ApS] {
        assert_eq!(of(cloud), all);
    }
    assert!(of(Cloud::Japan).is_empty() && of(Cloud::Gov).is_empty());
}

#[test]
fn hosts_are_of_citrixs_domains_only() {
    const DOMAINS: [&str; 9] = [
        ".cloud.com",
        ".citrixworkspacesapi.net",
        ".citrixworkspacesapi.jp",
        ".citrixworkspacesapi.us",
        ".xendesktop.net",
        ".xendesktop.us",
        ".citrixcloud.jp",
        ".apps.citrixworkspacesapi.jp",
        ".cloud.us",
    ];
    for (_, cloud) in Cloud::ALL {
        let all = urls(cloud, &["acme"])
            .into_values()
            .chain(region_prefixes(cloud).map(|(_, url)| url.to_owned()));
        for url in all {
            let host = url.strip_prefix("https://").unwrap();
            assert!(DOMAINS.iter().any(|domain| host.ends_with(domain)), "{url}");
            assert!(!host.contains(['/', '@', ':', '?', '#']), "{url}");
        }
    }
}
