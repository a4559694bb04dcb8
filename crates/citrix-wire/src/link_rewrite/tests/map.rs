use super::super::LinkOutcome;
use super::*;

fn rewrite(links: &LinkRewriter, link: &str) -> String {
    match links.rewrite(link.as_bytes()) {
        LinkOutcome::Rewrite(splice) => format!("{}{}", splice.insert, &link[splice.remove..]),
        LinkOutcome::Unknown => "unknown".to_owned(),
        LinkOutcome::NotALink => "no link".to_owned(),
    }
}

#[test]
fn known_link_is_rewritten_to_the_most_specific_route() {
    let gw = |path: &str| format!("{BASE}{path}");
    let cases = [
        (
            "https://api.cloud.com/cvad/manage/Jobs/81c0",
            gw("/cvad/manage/Jobs/81c0"),
        ),
        (
            "https://api.cloud.com/anything?x=%2F+#:~",
            gw("/anything?x=%2F+#:~"),
        ),
        ("https://api.cloud.com", gw("")),
        ("https://api.cloud.com?q", gw("?q")),
        ("https://api.cloud.com#f", gw("#f")),
        ("https://api.cloud.com/", gw("/")),
        ("https://api.cloud.com//double", gw("//double")),
        ("HTTPS://API.Cloud.COM/Me", gw("/Me")),
        ("http://api.cloud.com/x", gw("/x")),
        ("https://api.cloud.com:443/x", gw("/x")),
        ("http://api.cloud.com:443/x", gw("/x")),
        ("http://api.cloud.com:80/x", gw("/x")),
        ("https://api.cloud.com:/x", gw("/x")),
        ("https://api.cloud.com./x", gw("/x")),
        ("https://API-EU.cloud.com.:443/x", gw("/region/eu/x")),
        ("//api.cloud.com/x", gw("/x")),
        ("https://gateway.staging.example:8443/x", gw("/x")),
        (
            "https://api-eu.cloud.com/feature/x",
            gw("/region/eu/feature/x"),
        ),
        (
            "https://api-eu.cloud.com/monitorodata/Machines?$skip=1",
            gw("/region/eu/monitorodata/Machines?$skip=1"),
        ),
        (
            "https://registry.citrixworkspacesapi.net/acme/resourcelocations",
            gw("/classic/registry/acme/resourcelocations"),
        ),
        (
            "https://acme.xendesktop.net/Citrix/Monitor",
            gw("/direct/acme/Citrix/Monitor"),
        ),
        ("https://contoso.xendesktop.net", gw("/direct/contoso")),
        (
            "https://reports.example.cloud.com/api/a%2Fb",
            gw("/reports/a%2Fb"),
        ),
        ("https://reports.example.cloud.com/api?x", gw("/reports?x")),
        ("https://kept.example/below/kept/x", gw("/kept/x")),
        ("http://[::1]:9000/x", gw("/v6/x")),
        (
            "https://api.cloud.com/caf\u{e9}/\u{1F980}?\u{e9}",
            gw("/caf\u{e9}/\u{1F980}?\u{e9}"),
        ),
    ];
    for (link, expected) in cases {
        assert_eq!(rewrite(&links(), link), expected, "{link}");
    }
}

#[test]
fn path_at_the_gateway_is_that_of_a_rewritten_link() {
    let map = table();
    for (upstream, path, expected) in [
        ("api.cloud.com", "/x", Some("/x")),
        (
            "api-eu.cloud.com",
            "/monitorodata/x",
            Some("/region/eu/monitorodata/x"),
        ),
        ("reports.example.cloud.com", "/api/x", Some("/reports/x")),
        ("reports.example.cloud.com", "/x", None),
        ("other.example", "/x", None),
    ] {
        let found = map.path_at_gateway(upstream, path);
        assert_eq!(found.as_deref(), expected, "{upstream}{path}");
    }
}

#[test]
fn url_without_route_is_unknown() {
    for link in [
        "https://other.example/x",
        "https://api.cloud.com.evil.example/x",
        "https://evil.example/https://api.cloud.com/",
        "https://xapi.cloud.com/",
        "https://api.cloud.com:8443/x",
        "https://gateway.staging.example/x",
        "https://user@api.cloud.com/x",
        "https://api.cloud.com\\@evil.example/x",
        "https://fabrikam.xendesktop.net/x",
        "https://reports.example.cloud.com/apix",
        "https://reports.example.cloud.com/API/x",
        "https://reports.example.cloud.com/",
        "https://kept.example/below/x",
        "https:///x",
        "https://",
    ] {
        assert_eq!(rewrite(&links(), link), "unknown", "{link}");
    }
}

#[test]
fn link_whose_new_path_belongs_to_another_route_is_unknown() {
    assert_eq!(
        rewrite(&links(), "https://api.cloud.com/reports/1"),
        "unknown"
    );
    assert_eq!(
        rewrite(&links(), "https://api.cloud.com/reports"),
        "unknown"
    );
    assert_eq!(
        rewrite(&links(), "https://api.cloud.com/reportsx"),
        format!("{BASE}/reportsx")
    );
    assert_eq!(
        rewrite(&links(), "https://api-eu.cloud.com/reports"),
        format!("{BASE}/region/eu/reports")
    );
}

#[test]
fn identifiers_and_relative_references_are_no_links() {
    for link in [
        "https://errors-api.cloud.com/common/notFound",
        "HTTPS://Identifiers-Api.cloud.com:443/x",
        "Machines?$skip=100",
        "/monitorodata/Machines?$skip=100",
        "$metadata#Machines",
        "?x",
        "#x",
        "",
        "ftp://api.cloud.com/x",
        "https:api.cloud.com",
        "https:/api.cloud.com",
        "westeurope",
        "mailto:admin@api.cloud.com",
        " https://api.cloud.com/",
    ] {
        assert_eq!(rewrite(&links(), link), "no link", "{link}");
    }
    assert_eq!(
        links().rewrite(b"https://\xff\xfe/x"),
        LinkOutcome::NotALink
    );
}

#[test]
fn link_without_host_gets_the_stripped_prefix() {
    let from = |base: &str, upstream: &str, link: &str| {
        rewrite(&LinkRewriter::new(table(), base, upstream), link)
    };
    assert_eq!(
        from(BASE, "api-eu.cloud.com", "/monitorodata/Users?x"),
        "/region/eu/monitorodata/Users?x"
    );
    assert_eq!(
        from(BASE, "reports.example.cloud.com", "/api/2"),
        "/reports/2"
    );
    assert_eq!(
        from(BASE, "reports.example.cloud.com", "/other/2"),
        "no link"
    );
    assert_eq!(
        from("https://gw.example/citrix/", "api.cloud.com", "/x"),
        "/citrix/x"
    );
    assert_eq!(
        from(
            "https://gw.example/citrix/",
            "api.cloud.com",
            "https://api.cloud.com/x"
        ),
        "https://gw.example/citrix/x"
    );
    assert_eq!(from(BASE, "unknown.example", "/x"), "no link");
}

#[test]
fn host_of_the_configured_cloud_maps_to_the_root() {
    let map = LinkMap::new(
        [
            route("/region/eu", "api-eu.cloud.com", ""),
            unstripped("", "api-eu.cloud.com"),
        ],
        [],
    );
    let links = LinkRewriter::new(Rc::new(map), BASE, "api-eu.cloud.com");
    assert_eq!(
        rewrite(&links, "https://api-eu.cloud.com/x"),
        format!("{BASE}/x")
    );
}

#[test]
fn empty_table_rewrites_nothing() {
    let links = LinkRewriter::new(Rc::default(), BASE, "api.cloud.com");
    assert_eq!(rewrite(&links, "https://api.cloud.com/x"), "unknown");
    assert_eq!(rewrite(&links, "/x"), "no link");
}
