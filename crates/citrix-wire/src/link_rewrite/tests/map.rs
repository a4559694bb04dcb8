use super::super::LinkOutcome;
use super::*;

fn judged(links: &LinkRewriter, link: &str) -> String {
    match links.rewrite(link.as_bytes()) {
        LinkOutcome::Rewrite(splice) => format!("{}{}", splice.insert, &link[splice.remove..]),
        LinkOutcome::Unknown => "unknown".to_owned(),
        LinkOutcome::NotALink => "left".to_owned(),
    }
}

#[test]
fn a_link_comes_back_by_the_route_that_leads_where_it_points() {
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
        assert_eq!(judged(&links(), link), expected, "{link}");
    }
}

#[test]
fn what_no_route_leads_to_is_unknown() {
    for link in [
        "https://other.example/x",
        "https://api.cloud.com.evil.example/x",
        "https://evil.example/https://api.cloud.com/",
        "https://xapi.cloud.com/",
        "https://api.cloud.com:8443/x",
        "https://gateway.staging.example/x",
        "https://user@api.cloud.com/x",
        "https://api.cloud.com\\@evil.example/x",
        "https://nobody.xendesktop.net/x",
        "https://reports.example.cloud.com/apix",
        "https://reports.example.cloud.com/API/x",
        "https://reports.example.cloud.com/",
        "https://kept.example/below/x",
        "https:///x",
        "https://",
    ] {
        assert_eq!(judged(&links(), link), "unknown", "{link}");
    }
}

#[test]
fn a_link_whose_place_belongs_to_another_route_is_unknown() {
    assert_eq!(
        judged(&links(), "https://api.cloud.com/reports/1"),
        "unknown"
    );
    assert_eq!(judged(&links(), "https://api.cloud.com/reports"), "unknown");
    assert_eq!(
        judged(&links(), "https://api.cloud.com/reportsx"),
        format!("{BASE}/reportsx")
    );
    assert_eq!(
        judged(&links(), "https://api-eu.cloud.com/reports"),
        format!("{BASE}/region/eu/reports")
    );
}

#[test]
fn identifiers_and_what_is_no_url_stay() {
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
        assert_eq!(judged(&links(), link), "left", "{link}");
    }
    assert_eq!(
        links().rewrite(b"https://\xff\xfe/x"),
        LinkOutcome::NotALink
    );
}

#[test]
fn a_link_without_a_host_gets_the_prefix_that_was_taken_off() {
    let from = |base: &str, upstream: &str, link: &str| {
        judged(&LinkRewriter::new(table(), base, upstream), link)
    };
    assert_eq!(
        from(BASE, "api-eu.cloud.com", "/monitorodata/Users?x"),
        "/region/eu/monitorodata/Users?x"
    );
    assert_eq!(
        from(BASE, "reports.example.cloud.com", "/api/2"),
        "/reports/2"
    );
    assert_eq!(from(BASE, "reports.example.cloud.com", "/other/2"), "left");
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
    assert_eq!(from(BASE, "nobody.example", "/x"), "left");
}

#[test]
fn the_chosen_clouds_own_host_leads_to_the_root() {
    let map = LinkMap::new(
        [
            route("/region/eu", "api-eu.cloud.com", ""),
            kept("", "api-eu.cloud.com"),
        ],
        [],
    );
    let links = LinkRewriter::new(Rc::new(map), BASE, "api-eu.cloud.com");
    assert_eq!(
        judged(&links, "https://api-eu.cloud.com/x"),
        format!("{BASE}/x")
    );
}

#[test]
fn no_table_at_all_knows_nothing() {
    let links = LinkRewriter::new(Rc::default(), BASE, "api.cloud.com");
    assert_eq!(judged(&links, "https://api.cloud.com/x"), "unknown");
    assert_eq!(judged(&links, "/x"), "left");
}
