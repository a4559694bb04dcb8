//! Route selection (interface §3.1 `[[route]]`).

use crate::harness::{Gateway, Message, OK, TOKEN, Upstream, get};

/// Requests `path` from a gateway with two upstreams, `api` for `/` and `reports` for `routes`.
/// Returns the name of the one that responded, and the request that it received.
async fn response_from(routes: &str, path: &str) -> (&'static str, Message) {
    let api = Upstream::responding(OK).await;
    let reports = Upstream::responding(OK).await;
    let toml = routes.replace("REPORTS", &reports.url());
    let gateway = Gateway::in_front_of(&api).with(&toml).start().await;
    assert_eq!(gateway.raw(get(path)).await.status(), 200, "{path}");
    if api.connections() > 0 {
        ("api", api.request().await)
    } else {
        ("reports", reports.request().await)
    }
}

async fn check(routes: &str, cases: &[(&str, &str, &str)]) {
    for (path, upstream, expected) in cases {
        let (by, request) = response_from(routes, path).await;
        assert_eq!(
            (by, request.line()),
            (*upstream, format!("GET {expected} HTTP/1.1")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn prefix_is_stripped_and_the_upstream_path_prepended() {
    let routes = "[[route]]\nprefix = \"/reports\"\nupstream = \"REPORTS/api\"";
    check(
        routes,
        &[
            (
                "/reports/a%2Fb/$x?q=%27~",
                "reports",
                "/api/a%2Fb/$x?q=%27~",
            ),
            ("/reports", "reports", "/api/"),
            ("/reports?q", "reports", "/api/?q"),
            ("/reports/", "reports", "/api/"),
            ("/reports//x", "reports", "/api//x"),
            ("/reports/reports", "reports", "/api/reports"),
        ],
    )
    .await;
}

#[tokio::test]
async fn prefix_matches_whole_segments_exactly() {
    let routes = "[[route]]\nprefix = \"/reports\"\nupstream = \"REPORTS\"";
    check(
        routes,
        &[
            ("/reportsx", "api", "/reportsx"),
            ("/Reports/x", "api", "/Reports/x"),
            ("/x/reports", "api", "/x/reports"),
            ("/report%73/x", "api", "/report%73/x"),
            ("/?/reports", "api", "/?/reports"),
        ],
    )
    .await;
}

#[tokio::test]
async fn prefix_is_kept_without_strip_prefix() {
    let routes =
        "[[route]]\nprefix = \"/reports\"\nupstream = \"REPORTS/api\"\nstrip_prefix = false";
    check(
        routes,
        &[
            ("/reports/x?q", "reports", "/api/reports/x?q"),
            ("/reports", "reports", "/api/reports"),
        ],
    )
    .await;
}

#[tokio::test]
async fn longest_prefix_wins_in_any_order() {
    let short = "[[route]]\nprefix = \"/a\"\nupstream = \"http://127.0.0.1:9\"\n";
    let long = "[[route]]\nprefix = \"/a/b\"\nupstream = \"REPORTS\"\n";
    for routes in [format!("{short}{long}"), format!("{long}{short}")] {
        check(
            &routes,
            &[
                ("/a/b/c", "reports", "/c"),
                ("/a/b", "reports", "/"),
                ("/b", "api", "/b"),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn root_route_overrides_the_api_url() {
    let routes = "[[route]]\nprefix = \"/\"\nupstream = \"REPORTS/base\"";
    check(
        routes,
        &[("/x", "reports", "/base/x"), ("/", "reports", "/base/")],
    )
    .await;
}

#[tokio::test]
async fn route_sets_its_host_and_token_scheme() {
    let routes =
        "[[route]]\nprefix = \"/reports\"\nupstream = \"REPORTS\"\nauthorization = \"bearer\"";
    let (_, request) = response_from(routes, "/reports/x").await;
    assert_eq!(
        request.field("authorization"),
        Some(format!("Bearer {TOKEN}1"))
    );
    assert!(request.field("host").unwrap().starts_with("127.0.0.1:"));
    let (_, request) = response_from(routes, "/x").await;
    assert_eq!(
        request.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
}

#[tokio::test]
async fn path_of_api_url_is_prepended() {
    let upstream = Upstream::responding(OK).await;
    let base = format!("{}/base/", upstream.url());
    let gateway = Gateway::in_front_of(&upstream)
        .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &base)
        .start()
        .await;
    gateway.raw(get("/x?q")).await;
    assert_eq!(upstream.request().await.line(), "GET /base/x?q HTTP/1.1");
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let upstream = Upstream::responding(OK).await;
    let routes = format!(
        "[[route]]\nprefix = \"/reports\"\nupstream = \"{}\"",
        upstream.url()
    );
    let gateway = Gateway::in_front_of(&upstream).with(&routes).start().await;
    for path in ["/reports/1", "/reports/2", "/other"] {
        gateway.raw(get(path)).await;
    }
    let metrics = gateway.metrics().await;
    for (route, count) in [("/reports", 2), ("/", 1)] {
        let line = format!(
            "citrix_auth_proxy_requests_total{{caller=\"anonymous\",code=\"200\",method=\"GET\",route=\"{route}\"}} {count}\n"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
    // Both routes have one origin and share one connection.
    assert_eq!(upstream.connections(), 1);
}
