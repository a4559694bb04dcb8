//! Contents of the table and URLs of its prefixes.

use std::collections::BTreeMap;

use super::*;

fn urls(cloud: Cloud, customers: &[&str]) -> BTreeMap<String, String> {
    let built_in = built_in_prefixes(cloud, customers.iter().copied());
    let count = built_in.len();
    let urls: BTreeMap<_, _> = built_in
        .into_iter()
        .map(|each| (each.prefix, each.url))
        .collect();
    assert_eq!(urls.len(), count, "a prefix is repeated");
    urls
}

#[test]
fn interface_4_3_each_cloud_has_its_hosts() {
    let url = |cloud, prefix: &str| urls(cloud, &["Acme"]).remove(prefix);
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
            url(cloud, "/classic/registry").as_deref(),
            Some(registry),
            "{cloud:?}"
        );
        assert_eq!(
            url(cloud, "/direct/Acme").as_deref(),
            Some(direct),
            "{cloud:?}"
        );
        assert_eq!(url(cloud, "/wem").as_deref(), wem, "{cloud:?}");
        assert_eq!(url(cloud, "/gac").as_deref(), gac, "{cloud:?}");
    }
}

#[test]
fn contract_4_regional_hosts_are_below_their_region() {
    let expected = [
        ("/region/us/wem", "https://api.wem.cloud.com"),
        ("/region/eu/wem", "https://eu-api.wem.cloud.com"),
        ("/region/ap-s/wem", "https://aps-api.wem.cloud.com"),
        ("/region/us/applayering", "https://us.workstreams.cloud.com"),
        ("/region/eu/applayering", "https://eu.workstreams.cloud.com"),
        (
            "/region/ap-s/applayering",
            "https://ap-s.workstreams.cloud.com",
        ),
    ];
    let expected: BTreeMap<_, _> = expected
        .map(|(prefix, url)| (prefix.to_owned(), url.to_owned()))
        .into();
    for (name, cloud) in Cloud::ALL {
        let mut found = urls(cloud, &["acme"]);
        found.retain(|prefix, _| prefix.starts_with(REGION));
        let is_expected = if cloud.regions().is_empty() {
            found.is_empty()
        } else {
            found == expected
        };
        assert!(is_expected, "{name} {found:?}");
    }
}

#[test]
fn contract_4_all_classic_services_except_trust_are_built_in() {
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
    // Only the gateway logs in.
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
fn only_customers_whose_id_is_a_dns_label_have_a_direct_host() {
    let long = "a".repeat(64);
    let invalid = [
        "", "a.b", "a_b", "-a", "a-", "a@b", "a:1", "evil.com", "a%2f", "ä", &long, "a b", "[::1]",
    ];
    let direct = |id: &str| {
        urls(Cloud::Commercial, &[id])
            .into_keys()
            .any(|key| key.starts_with("/direct"))
    };
    for id in invalid {
        assert!(!direct(id), "{id}");
    }
    for id in ["acme", "9hrh0kjmtf6j", "a-b", "A", &long[1..]] {
        assert!(direct(id), "{id}");
    }
}

#[test]
fn contract_4_only_documented_services_have_limits_or_links() {
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
    let other_hosts = built_in_prefixes(Cloud::Commercial, ["acme"]);
    let with_links = other_hosts.iter().filter(|each| each.service.rewrite_links);
    assert_eq!(
        with_links.map(|each| &*each.prefix).collect::<Vec<_>>(),
        ["/direct/acme"]
    );
}

#[test]
fn region_prefixes_are_those_that_share_tokens() {
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
fn region_is_split_off_a_path() {
    for (path, expected) in [
        (
            "/region/eu/monitorodata/x",
            Some(("/region/eu", "/monitorodata/x")),
        ),
        ("/region/eu//x", Some(("/region/eu", "//x"))),
        ("/region/eu/", Some(("/region/eu", "/"))),
        ("/region/eu", Some(("/region/eu", "/"))),
        ("/region/", None),
        ("/region", None),
        ("/region//x", None),
        ("/regional/eu/x", None),
        ("/Region/eu/x", None),
        ("/x/region/eu/y", None),
    ] {
        assert_eq!(split_region(path), expected, "{path}");
    }
}

#[test]
fn all_hosts_are_in_domains_of_citrix() {
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

#[test]
fn domains_are_those_of_citrix() {
    assert_eq!(
        domains(),
        [
            "citrixcloud.jp",
            "citrixworkspacesapi.jp",
            "citrixworkspacesapi.net",
            "citrixworkspacesapi.us",
            "cloud.com",
            "cloud.us",
            "xendesktop.net",
            "xendesktop.us",
        ]
    );
}
