//! Cookies of upstreams: their scope for the caller, and their way back (interface §4.2).

use http::Request;

use crate::harness::{Gateway, OK, Upstream, get, get_with, within_timeout};

fn with_cookies(cookies: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 2\r\n\r\n{{}}")
}

/// Returns a gateway with a route `/reports` to the path `/api` of `upstream`.
async fn gateway_with_route(upstream: &Upstream) -> Gateway {
    let route = format!(
        "[[route]]\nprefix = \"/reports\"\nupstream = \"{}/api\"",
        upstream.url()
    );
    Gateway::in_front_of(upstream).with(&route).start().await
}

#[tokio::test]
async fn rfc6265_5_2_cookies_are_scoped_to_the_route_of_the_request() {
    let upstream = Upstream::responding(with_cookies(
        "Set-Cookie: a=1; Path=/api/nitro; Domain=127.0.0.1; Secure\r\n\
         set-cookie: b=\"2\"; HttpOnly; domain=other.example; path=\"/\"\r\n\
         Set-Cookie: c=3\r\n",
    ))
    .await;
    let gateway = gateway_with_route(&upstream).await;
    let of_route = |path: &str| {
        [
            format!("a=1; Path={path}/nitro; Secure"),
            format!("b=\"2\"; HttpOnly; domain=other.example; path=\"{path}\""),
            "c=3".to_owned(),
        ]
    };
    for request in [
        get("/reports/x"),
        "HEAD /reports/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /reports/x HTTP/1.0\r\n\r\n".to_owned(),
    ] {
        let (response, _) = gateway.raw_head(&request).await;
        assert_eq!(
            response.fields("set-cookie"),
            of_route("/reports"),
            "{request}"
        );
    }
    let mut http2 = gateway.http2().await;
    let request = Request::get(gateway.url("/reports/x")).body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    let response = within_timeout(response).await.unwrap();
    let cookies = response.headers().get_all("set-cookie");
    assert!(cookies.iter().eq(&of_route("/reports")));

    let at_root = gateway.raw(get("/api/x")).await;
    assert_eq!(
        at_root.fields("set-cookie"),
        [
            "a=1; Path=/api/nitro; Secure",
            "b=\"2\"; HttpOnly; domain=other.example; path=\"/\"",
            "c=3"
        ]
    );
    let at_prefix = gateway.raw(get("/reports")).await;
    assert_eq!(at_prefix.fields("set-cookie")[2], "c=3; Path=/reports");
}

#[tokio::test]
async fn built_in_prefix_is_kept_as_the_caller_wrote_it() {
    let upstream = Upstream::responding(with_cookies("Set-Cookie: s=1; Path=/nitro\r\n")).await;
    let routes = ["/adm", "/classic/registry", "/region/eu"].map(|prefix| {
        format!(
            "[[route]]\nprefix = \"{prefix}\"\nupstream = \"{}\"\n",
            upstream.url()
        )
    });
    let gateway = Gateway::in_front_of(&upstream)
        .with(&routes.concat())
        .start()
        .await;
    // Clients compare paths byte for byte.
    for prefix in ["/adm", "/Adm", "/classic/registry", "/Region/EU"] {
        let response = gateway.raw(get(&format!("{prefix}/acme/x"))).await;
        assert_eq!(
            response.field("set-cookie"),
            Some(format!("s=1; Path={prefix}/nitro"))
        );
    }
}

#[tokio::test]
async fn cookies_of_the_caller_reach_the_upstream_unchanged() {
    let upstream = Upstream::responding(OK).await;
    let gateway = gateway_with_route(&upstream).await;
    let cookie = "a=1; b=\"2; x\"; SESSID=%2B==; Path=/reports";
    gateway
        .raw(get_with("/reports/x", &format!("Cookie: {cookie}\r\n")))
        .await;
    assert_eq!(
        upstream.request().await.field("cookie").as_deref(),
        Some(cookie)
    );
}

#[tokio::test]
async fn cookies_and_links_of_a_replaced_built_in_host_lead_to_its_route() {
    let upstream = Upstream::responding(with_cookies(
        "Set-Cookie: s=1; Path=/nitro; Domain=adm.cloud.com\r\n\
         Location: https://adm.cloud.com/nitro/y\r\n",
    ))
    .await;
    let route = format!(
        "[[route]]\nprefix = \"/adm\"\nupstream = \"{}\"",
        upstream.url()
    );
    let gateway = Gateway::in_front_of(&upstream).with(&route).start().await;
    for (path, cookie) in [
        ("/adm/nitro/x", "s=1; Path=/adm/nitro"),
        ("/x", "s=1; Path=/nitro"),
    ] {
        let response = gateway.raw(get(path)).await;
        assert_eq!(response.fields("set-cookie"), [cookie], "{path}");
        let location = response.field("location").unwrap();
        assert!(location.ends_with("/adm/nitro/y"), "{location}");
    }
}
