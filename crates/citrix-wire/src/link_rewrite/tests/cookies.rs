use http::HeaderMap;
use http::header::SET_COOKIE;

use super::super::{CookieScope, rewrite_cookies};
use super::*;

/// Returns the rewritten `Set-Cookie` of a response to `request_path` from `upstream`.
fn rewritten(
    links: &LinkRewriter,
    [request_path, prefix, upstream_path]: [&str; 3],
    value: &str,
) -> String {
    let scope = CookieScope {
        request_path,
        prefix,
        upstream_path,
    };
    let mut headers = HeaderMap::new();
    headers.insert(SET_COOKIE, value.parse().unwrap());
    rewrite_cookies(links, scope, &mut headers);
    headers[SET_COOKIE].to_str().unwrap().to_owned()
}

fn from(upstream: &str) -> LinkRewriter {
    LinkRewriter::new(table(), BASE, upstream)
}

#[test]
fn rfc6265_5_2_3_domain_of_a_known_host_is_removed() {
    let links = from("acme.xendesktop.net");
    let scope = ["/direct/acme/x", "/direct/acme", ""];
    for (value, expected) in [
        ("s=1; Domain=acme.xendesktop.net; Secure", "s=1; Secure"),
        ("s=1;domain=.ACME.xendesktop.net", "s=1"),
        (
            "s=1; DOMAIN = \"acme.xendesktop.net\" ; HttpOnly",
            "s=1; HttpOnly",
        ),
        ("s=1; Domain=xendesktop.net", "s=1"),
        ("s=1; Domain=api.cloud.com", "s=1"),
        ("s=1; Domain=gateway.staging.example", "s=1"),
        ("s=1; Domain=other.example", "s=1; Domain=other.example"),
        ("s=1; Domain=net", "s=1; Domain=net"),
        ("s=1; Domain=desktop.net", "s=1; Domain=desktop.net"),
        ("s=1; Domain", "s=1; Domain"),
        ("s=\"a b\"; Max-Age=5", "s=\"a b\"; Max-Age=5"),
        ("Domain=acme.xendesktop.net", "Domain=acme.xendesktop.net"),
    ] {
        assert_eq!(rewritten(&links, scope, value), expected);
    }
}

#[test]
fn rfc6265_5_2_4_path_of_the_upstream_becomes_that_of_the_gateway() {
    let stripped = ["/direct/acme/x/y", "/direct/acme", ""];
    let spelled = ["/Direct/acme/x/y", "/Direct/acme", ""];
    let based = ["/reports/x", "/reports", "/api"];
    let kept = ["/kept/x", "/kept", "/below/kept"];
    let regional = [
        "/region/eu/monitorodata/x",
        "/region/eu/monitorodata",
        "/monitorodata",
    ];
    let root = ["/monitorodata/Machines", "/monitorodata", "/monitorodata"];
    for (upstream, scope, path, expected) in [
        (
            "acme.xendesktop.net",
            stripped,
            "/nitro",
            "/direct/acme/nitro",
        ),
        (
            "acme.xendesktop.net",
            stripped,
            "/nitro/",
            "/direct/acme/nitro/",
        ),
        ("acme.xendesktop.net", stripped, "/", "/direct/acme"),
        (
            "acme.xendesktop.net",
            spelled,
            "/nitro",
            "/Direct/acme/nitro",
        ),
        ("reports.example.cloud.com", based, "/api", "/reports"),
        ("reports.example.cloud.com", based, "/api/", "/reports/"),
        ("reports.example.cloud.com", based, "/api/v1", "/reports/v1"),
        ("reports.example.cloud.com", based, "/", "/reports"),
        ("reports.example.cloud.com", based, "/apis", "/reports/apis"),
        (
            "reports.example.cloud.com",
            based,
            "/other",
            "/reports/other",
        ),
        ("kept.example", kept, "/below/kept/a", "/kept/a"),
        ("kept.example", kept, "/below", "/kept"),
        ("kept.example", kept, "/", "/kept"),
        ("api-eu.cloud.com", regional, "/", "/region/eu/"),
        (
            "api-eu.cloud.com",
            regional,
            "/monitorodata",
            "/region/eu/monitorodata",
        ),
        ("api-eu.cloud.com", regional, "/cvad", "/region/eu/cvad"),
        ("api.cloud.com", root, "/", "/"),
        ("api.cloud.com", root, "/monitorodata", "/monitorodata"),
        ("api.cloud.com", root, "/cvad/manage/x", "/cvad/manage/x"),
        ("api.cloud.com", root, "/cvad", "/cvad"),
    ] {
        let value = format!("s=1; Path={path}; Secure");
        let expected = format!("s=1; Path={expected}; Secure");
        assert_eq!(
            rewritten(&from(upstream), scope, &value),
            expected,
            "{scope:?}"
        );
    }
}

#[test]
fn attributes_in_any_notation_are_rewritten_in_place() {
    let links = from("acme.xendesktop.net");
    let scope = ["/direct/acme/x", "/direct/acme", ""];
    for (value, expected) in [
        ("s=1;path=/a", "s=1;path=/direct/acme/a"),
        (
            "s=1; PATH = /a ;Secure",
            "s=1; PATH = /direct/acme/a ;Secure",
        ),
        (
            "s=1; Path=\"/a\"; Version=1",
            "s=1; Path=\"/direct/acme/a\"; Version=1",
        ),
        (
            "s=1; Path=/a; Path=/b",
            "s=1; Path=/direct/acme/a; Path=/direct/acme/b",
        ),
        ("s=a=b; Path=/a=b", "s=a=b; Path=/direct/acme/a=b"),
        ("s=/a; Path=a; Path=; Path", "s=/a; Path=a; Path=; Path"),
        ("Path=/a", "Path=/a"),
        ("__Host-s=1; Path=/; Secure", "__Host-s=1; Path=/; Secure"),
        (
            "__Secure-s=1; Path=/; Secure",
            "__Secure-s=1; Path=/direct/acme; Secure",
        ),
        ("", ""),
    ] {
        assert_eq!(rewritten(&links, scope, value), expected);
    }
}

#[test]
fn rfc6265_5_1_4_default_path_stays_within_the_route() {
    let links = from("acme.xendesktop.net");
    let at_prefix = ["/direct/acme", "/direct/acme", ""];
    assert_eq!(
        rewritten(&links, at_prefix, "s=1"),
        "s=1; Path=/direct/acme"
    );
    // The client derives the same path from the gateway's URL.
    for path in ["/direct/acme/", "/direct/acme/x", "/direct/acme/x/y"] {
        assert_eq!(rewritten(&links, [path, "/direct/acme", ""], "s=1"), "s=1");
    }
    assert_eq!(
        rewritten(&from("api.cloud.com"), ["/x", "", ""], "s=1"),
        "s=1"
    );
}

#[test]
fn path_of_public_url_precedes_the_route() {
    let links = LinkRewriter::new(table(), "https://example.net/citrix", "acme.xendesktop.net");
    let scope = ["/direct/acme/x", "/direct/acme", ""];
    assert_eq!(
        rewritten(&links, scope, "s=1; Path=/a"),
        "s=1; Path=/citrix/direct/acme/a"
    );
    let links = LinkRewriter::new(table(), "https://example.net/citrix", "api.cloud.com");
    assert_eq!(
        rewritten(&links, ["/x", "", ""], "s=1; Path=/"),
        "s=1; Path=/citrix"
    );
}

#[test]
fn each_set_cookie_field_is_rewritten() {
    let scope = CookieScope {
        request_path: "/direct/acme/x",
        prefix: "/direct/acme",
        upstream_path: "",
    };
    let mut headers = HeaderMap::new();
    for value in ["a=1; Path=/a", "b=2", "c=3; Path=/c"] {
        headers.append(SET_COOKIE, value.parse().unwrap());
    }
    rewrite_cookies(&from("acme.xendesktop.net"), scope, &mut headers);
    let values: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
    assert_eq!(
        values,
        [
            "a=1; Path=/direct/acme/a",
            "b=2",
            "c=3; Path=/direct/acme/c"
        ]
    );
}
