//! Customers that Citrix rejects although they have a token: readiness, status page and metrics
//! report them (interface §5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Gateway, Message, OK, TokenEndpoint, Upstream, get, get_with, wait_until};

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";

async fn readyz(gateway: &Gateway) -> (u16, Vec<String>) {
    let response = gateway.admin(get("/readyz")).await;
    let lines = response.text().lines().map(str::to_owned).collect();
    (response.status(), lines)
}

async fn status(gateway: &Gateway) -> Value {
    let response = gateway.admin(get("/status.json")).await;
    serde_json::from_str(&response.text()).unwrap()
}

fn kinds(status: &Value) -> Vec<&str> {
    let alerts = status["alerts"].as_array().unwrap().iter();
    alerts
        .map(|alert| alert["kind"].as_str().unwrap())
        .collect()
}

async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let page = gateway.metrics().await;
    let series = format!("citrix_auth_proxy_{series} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.expect("no such series").parse().unwrap()
}

async fn rejections(gateway: &Gateway, customer: &str, code: u16) -> f64 {
    let series = format!("upstream_rejections_total{{code=\"{code}\",customer=\"{customer}\"}}");
    metric(gateway, &series).await
}

/// Returns an upstream that responds with `rejection` below `path` only.
async fn rejecting_below(path: &'static str, rejection: &'static str) -> Upstream {
    Upstream::scripted_by_request(move |_, request: &Message| {
        let is_below = request.line().split(' ').nth(1).unwrap().starts_with(path);
        if is_below { rejection } else { OK }.into()
    })
    .await
}

async fn send(gateway: &Gateway, path: &str, times: usize) -> u16 {
    let mut status = 0;
    for _ in 0..times {
        status = gateway.raw(get(path)).await.status();
    }
    status
}

#[tokio::test]
async fn rejected_customer_is_reported_until_a_request_succeeds() {
    for (response, code) in [(UNAUTHORIZED, 401), (FORBIDDEN, 403)] {
        let upstream =
            Upstream::scripted(move |number| if number <= 10 { response } else { OK }.into()).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        assert_eq!(send(&gateway, "/a", 3).await, code);
        let (ready, lines) = readyz(&gateway).await;
        // Not 503: callers still get Citrix's response, and only their success ends the rejection.
        assert_eq!(ready, 200);
        assert_eq!(lines[0], "ready, but Citrix rejects 1 of 1 customers");
        let expected =
            format!("customer acme: rejected: Citrix has returned {code} to all requests since 2");
        assert!(lines[1].starts_with(&expected), "{lines:?}");

        let body = status(&gateway).await;
        assert_eq!(body["ready"], json!(true));
        let rejection = &body["tokens"][0]["rejection"];
        assert_eq!(
            (&rejection["code"], &rejection["requests"]),
            (&json!(code), &json!(3))
        );
        assert!(rejection["since"].as_str().unwrap().ends_with('Z'));
        assert_eq!(kinds(&body), ["customer_rejected"]);
        assert_eq!(body["alerts"][0]["level"], json!("critical"));

        let count = rejections(&gateway, "acme", code).await;
        assert_eq!(count, 3.0, "the responses that callers got");
        let since = "upstream_rejected_since_timestamp_seconds{customer=\"acme\"}";
        assert!(metric(&gateway, since).await > 1.7e9);

        wait_until("a request succeeds", || async {
            send(&gateway, "/a", 1).await == 200
        })
        .await;
        let (_, lines) = readyz(&gateway).await;
        assert_eq!(lines[0], "ready", "{lines:?}");
        assert_eq!(metric(&gateway, since).await, 0.0);
        assert_eq!(status(&gateway).await["alerts"], json!([]));
    }
}

#[tokio::test]
async fn path_without_permission_does_not_mark_the_customer() {
    let upstream = rejecting_below("/forbidden", FORBIDDEN).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..3 {
        assert_eq!(send(&gateway, "/permitted", 1).await, 200);
        assert_eq!(send(&gateway, "/forbidden", 5).await, 403);
    }
    // The path is known by now, however often it is requested.
    assert_eq!(send(&gateway, "/forbidden", 20).await, 403);
    assert_eq!(readyz(&gateway).await.1[0], "ready");
    let body = status(&gateway).await;
    assert_eq!(body["tokens"][0]["rejection"], Value::Null);
    assert_eq!(body["alerts"], json!([]));
    assert_eq!(rejections(&gateway, "acme", 403).await, 35.0);
}

#[tokio::test]
async fn revoked_client_after_a_success_is_reported_on_one_path_and_on_several() {
    for paths in [["/a"; 10].as_slice(), &["/a", "/b", "/a"]] {
        let upstream = Upstream::scripted(|number| if number == 1 { OK } else { FORBIDDEN }.into());
        let upstream = upstream.await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        assert_eq!(send(&gateway, "/a", 1).await, 200);
        for path in paths {
            assert_eq!(send(&gateway, path, 1).await, 403);
        }
        let (_, lines) = readyz(&gateway).await;
        assert!(
            lines[1].starts_with("customer acme: rejected: "),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn revoked_client_whose_login_is_rejected_is_not_called_valid() {
    let upstream = Upstream::scripted(|number| if number == 1 { OK } else { UNAUTHORIZED }.into());
    let upstream = upstream.await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(send(&gateway, "/", 1).await, 200);
    gateway.logins.reject();
    assert_eq!(send(&gateway, "/", 1).await, 401);
    let (_, lines) = readyz(&gateway).await;
    assert_eq!(lines[0], "ready, but Citrix rejects 1 of 1 customers");
    assert!(
        lines[1]
            .starts_with("customer acme: rejected: Citrix has returned 401 to all requests since ")
            && lines[1].contains("invalid_client"),
        "{lines:?}"
    );
    let body = status(&gateway).await;
    assert_eq!(body["tokens"][0]["rejection"]["requests"], json!(1));
    assert_eq!(kinds(&body), ["customer_rejected"]);

    assert_eq!(send(&gateway, "/", 10).await, 401);
    let (_, lines) = readyz(&gateway).await;
    let line = lines.last().unwrap();
    assert!(
        line.starts_with("customer acme: rejected: ") && line.contains("invalid_client"),
        "{lines:?}"
    );
    assert!(!lines.concat().contains("valid: "), "{lines:?}");
    assert_eq!(kinds(&status(&gateway).await), ["customer_rejected"]);
}

#[tokio::test]
async fn one_rejected_customer_of_three_is_named_first() {
    let logins = TokenEndpoint::granting().await;
    let (accepting, rejecting) = (
        Upstream::responding(OK).await,
        Upstream::responding(FORBIDDEN).await,
    );
    let block = |id: &str, api: &Upstream| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'S' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n",
            api.url(),
            logins.url()
        )
    };
    let blocks =
        block("acme", &accepting) + &block("beta", &rejecting) + &block("gamma", &accepting);
    let gateway = Gateway::for_customers(&blocks)
        .set("S", "s3cret")
        .start()
        .await;
    for customer in ["acme", "beta", "beta", "beta"] {
        let named = format!("Citrix-CustomerId: {customer}\r\n");
        gateway.raw(get_with("/", &named)).await;
    }
    let (ready, lines) = readyz(&gateway).await;
    assert_eq!((ready, lines.len()), (200, 4), "{lines:?}");
    assert_eq!(lines[0], "ready, but Citrix rejects 1 of 3 customers");
    assert!(
        lines[1].starts_with("customer beta: rejected: "),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("customer acme: fresh; "), "{lines:?}");
    for (customer, expected) in [("acme", 0.0), ("beta", 3.0), ("gamma", 0.0)] {
        assert_eq!(rejections(&gateway, customer, 403).await, expected);
        assert_eq!(rejections(&gateway, customer, 401).await, 0.0);
    }
}

#[tokio::test]
async fn token_of_another_customer_is_reported() {
    let claims = URL_SAFE_NO_PAD.encode(r#"{"customer":"contoso","exp":4102444800}"#);
    let token = format!(r#"{{"access_token":"e30.{claims}.c2ln","expires_in":"3600"}}"#);
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}",
        token.len()
    );
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        Upstream::responding(response).await,
    );
    let gateway = Gateway::in_front_of(&upstream)
        .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &logins.url())
        .start()
        .await;
    assert_eq!(send(&gateway, "/", 1).await, 200);
    let (ready, lines) = readyz(&gateway).await;
    assert_eq!(ready, 200);
    assert_eq!(
        lines[0],
        "ready, but 1 of 1 customers have the token of another customer"
    );
    assert!(
        lines[1].starts_with("customer acme: fresh: the token belongs to customer contoso; set "),
        "{lines:?}"
    );
    let body = status(&gateway).await;
    assert_eq!(body["tokens"][0]["other_customer"], json!("contoso"));
    assert_eq!(kinds(&body), ["customer_mismatch"]);
}

#[tokio::test]
async fn responses_of_an_upstream_outside_citrix_prove_nothing_about_the_customer() {
    let citrix = Upstream::responding(UNAUTHORIZED).await;
    let other = rejecting_below("/forbidden", FORBIDDEN).await;
    let route = format!("[[route]]\nprefix = '/other'\nupstream = '{}'", other.url());
    let gateway = Gateway::in_front_of(&citrix).with(&route).start().await;
    assert_eq!(send(&gateway, "/other/forbidden", 20).await, 403);
    assert_eq!(readyz(&gateway).await.1[0], "ready");
    assert_eq!(send(&gateway, "/x", 3).await, 401);
    assert_eq!(send(&gateway, "/other/x", 1).await, 200);
    assert_eq!(
        readyz(&gateway).await.1[0],
        "ready, but Citrix rejects 1 of 1 customers"
    );
}
