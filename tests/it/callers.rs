//! Authentication of callers, and responses to unauthenticated requests (interface §3.1, §4.1).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use citrix_wire::hex;
use futures_util::future::join_all;
use http::Request;

use crate::harness::{Gateway, Message, OK, Upstream, get, get_with, within_timeout};

const A: &str = "c4nary-secret-of-a";
const B: &str = "c4nary-secret-of-b";

/// Returns the block of a caller with a secret and `more` settings.
pub fn block(name: &str, secret: &str, more: &str) -> String {
    let hash = hex::encode(digest(&SHA256, secret.as_bytes()).as_ref());
    format!("[[caller]]\nname = {name:?}\nsecret_sha256 = {hash:?}\n{more}\n")
}

fn basic(name: &str, secret: &str) -> String {
    format!(
        "Authorization: Basic {}\r\n",
        STANDARD.encode(format!("{name}:{secret}"))
    )
}

async fn gateway_for(blocks: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    (
        Gateway::in_front_of(&upstream).with(blocks).start().await,
        upstream,
    )
}

fn full_text(response: &Message) -> String {
    String::from_utf8_lossy(&response.head).into_owned() + &String::from_utf8_lossy(&response.body)
}

#[tokio::test]
async fn secret_in_every_form_authenticates_and_is_not_forwarded() {
    let (gateway, upstream) = gateway_for(&(block("a", A, "") + &block("b", B, ""))).await;
    for field in [
        basic("a", A),
        format!("X-Api-Key: {A}\r\n"),
        format!("Authorization: Bearer {A}\r\n"),
        format!("authorization: bearer {A}\r\n"),
        format!("Authorization: CwsAuth Bearer={A}\r\n"),
        format!("Authorization: CWSAuth bearer= \"{A}\"\r\n"),
        // A stale token next to the key is ignored.
        format!("X-Api-Key: {A}\r\nAuthorization: CwsAuth Bearer=stale\r\n"),
        format!("{}X-Api-Key: {B}\r\n", basic("a", B)),
    ] {
        let response = gateway.raw(get_with("/", &field)).await;
        assert_eq!(response.status(), 200, "{field}");
        let sent = upstream.request().await;
        assert!(
            !full_text(&sent).contains("c4nary-secret"),
            "{}",
            full_text(&sent)
        );
        assert!(
            sent.field("authorization")
                .unwrap()
                .starts_with("CwsAuth Bearer="),
            "{field}"
        );
        assert!(!sent.has("x-api-key"), "{field}");
    }
    let metrics = gateway.metrics().await;
    for line in [
        r#"requests_total{caller="a",code="200",method="GET",route="/"} 7"#,
        r#"requests_total{caller="b",code="200",method="GET",route="/"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(!metrics.contains("anonymous"), "{metrics}");
}

#[tokio::test]
async fn rfc9110_15_5_2_unauthenticated_caller_gets_401_without_the_cause() {
    let elsewhere = "networks = [\"192.0.2.0/24\"]";
    let (gateway, upstream) = gateway_for(&(block("a", A, "") + &block("b", B, elsewhere))).await;
    // Concurrently, because responses to bad secrets are delayed.
    let attempts = [
        String::new(),
        basic("a", "wrong"),
        basic("unknown", A),
        basic("", A),
        basic("a", ""),
        // Valid, but from the wrong network.
        basic("b", B),
        format!("X-Api-Key: {B}\r\n"),
        format!("X-Api-Key: wrong\r\nAuthorization: Bearer {A}\r\n"),
        format!("X-Api-Key:\r\n{}", basic("a", A)),
        format!("Authorization: Bearer {A}x\r\n"),
        format!("Authorization: {A}\r\n"),
        format!("Authorization: Negotiate {A}\r\n"),
        format!("Authorization: CwsAuth service={A}\r\n"),
        format!("Proxy-{}", basic("a", A)),
        format!("Cookie: x-api-key={A}\r\n"),
        "Authorization: Basic !\r\n".to_owned(),
    ]
    .map(async |field| {
        let response = gateway.raw(get_with("/", &field)).await;
        let problem = response.problem(401, "caller_unknown");
        assert!(
            response
                .field("www-authenticate")
                .unwrap()
                .starts_with("Basic realm="),
            "{field}"
        );
        assert!(
            !full_text(&response).contains("c4nary"),
            "{field}: {}",
            full_text(&response)
        );
        (response.names(), problem["detail"].clone())
    });
    let mut responses = join_all(attempts).await;
    // Nor in the path.
    gateway
        .raw(get(&format!("/?x-api-key={A}&access_token={A}")))
        .await
        .problem(401, "caller_unknown");
    responses.dedup();
    assert_eq!(responses.len(), 1, "{responses:?}");
    upstream.assert_no_more_requests().await;
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains(r#"{caller="none",code="401",method="GET",route="none"} 17"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"errors_total{reason="caller_unknown"} 17"#),
        "{metrics}"
    );
    assert!(!metrics.contains("c4nary"), "{metrics}");
}

#[tokio::test]
async fn repeated_credential_field_is_rejected_only_where_it_matters() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let (key, bearer) = (
        format!("X-Api-Key: {A}\r\n"),
        format!("Authorization: Bearer {A}\r\n"),
    );
    for fields in [
        format!("{key}{key}"),
        format!("{bearer}{bearer}"),
        format!("{bearer}Authorization: Bearer other\r\n"),
        format!("{key}{bearer}{bearer}"),
        format!("{key}X-Api-Key:\r\n"),
    ] {
        gateway
            .raw(get_with("/", &fields))
            .await
            .problem(400, "bad_request");
    }
    upstream.assert_no_more_requests().await;

    let (open, upstream) = gateway_for("").await;
    assert_eq!(
        open.raw(get_with("/", &format!("{key}{key}{bearer}{bearer}")))
            .await
            .status(),
        200
    );
    assert!(!full_text(&upstream.request().await).contains("c4nary-secret"));
}

#[tokio::test]
async fn unauthenticated_caller_learns_no_customers_routes_or_limits() {
    let (gateway, upstream) =
        gateway_for(&(block("a", A, "") + "[limits]\nmax_body_bytes = 1")).await;
    for request in [
        get("/classic/no-such-service/x"),
        get_with("/", "Citrix-CustomerId: other\r\n"),
        get("/catalogservice/other/x"),
        get_with("/", "Content-Length: 2\r\n"),
    ] {
        gateway.raw(request).await.problem(401, "caller_unknown");
    }
    let key = format!("X-Api-Key: {A}\r\n");
    gateway
        .raw(get_with("/classic/no-such-service/x", &key))
        .await
        .problem(404, "no_route");
    let other = format!("{key}Citrix-CustomerId: other\r\n");
    gateway
        .raw(get_with("/", &other))
        .await
        .problem(403, "customer_forbidden");
    upstream.assert_no_more_requests().await;
    // The caller is known although no route was selected.
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains(r#"{caller="a",code="404",method="GET",route="none"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn network_alone_authenticates_a_caller() {
    let here = "[[caller]]\nname = \"here\"\nnetworks = [\"127.0.0.0/8\", \"::1\"]\n";
    let (gateway, upstream) = gateway_for(&(here.to_owned() + &block("a", A, ""))).await;
    for (field, caller) in [
        (String::new(), "here"),
        (
            "Authorization: CwsAuth Bearer=an-old-citrix-token\r\n".to_owned(),
            "here",
        ),
        (
            "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n".to_owned(),
            "here",
        ),
        (basic("a", A), "a"),
    ] {
        assert_eq!(
            gateway.raw(get_with("/", &field)).await.status(),
            200,
            "{field}"
        );
        upstream.request().await;
        let label = format!(r#"caller="{caller}",code="200""#);
        assert!(gateway.metrics().await.contains(&label), "{field}");
    }
    // An API key and Basic credentials are meant for this gateway.
    for field in [
        "X-Api-Key: wrong\r\n",
        &basic("a", "wrong"),
        &basic("here", ""),
    ] {
        gateway
            .raw(get_with("/", field))
            .await
            .problem(401, "caller_unknown");
    }
    // No credentials; a cross-site page sends none either.
    for field in [
        "Origin: https://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        gateway
            .raw(get_with("/", field))
            .await
            .problem(403, "caller_forbidden");
        let known = format!("{field}{}", basic("a", A));
        assert_eq!(gateway.raw(get_with("/", &known)).await.status(), 200);
        upstream.request().await;
    }
    let rebound = get("/").replace("localhost", "rebound.example");
    gateway.raw(rebound).await.problem(421, "foreign_host");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn forwarded_headers_do_not_change_the_network_of_a_caller() {
    let elsewhere = "[[caller]]\nname = \"elsewhere\"\nnetworks = [\"192.0.2.0/24\"]\n";
    let (gateway, upstream) = gateway_for(elsewhere).await;
    for field in [
        "",
        "X-Forwarded-For: 192.0.2.1\r\n",
        "Forwarded: for=192.0.2.1\r\n",
        "X-Real-IP: 192.0.2.1\r\n",
        "True-Client-IP: 192.0.2.1\r\n",
        "X-Api-Key: elsewhere\r\n",
    ] {
        // No secret is configured, so there is no challenge.
        let response = gateway.raw(get_with("/", field)).await;
        response.problem(403, "caller_forbidden");
        assert!(!response.has("www-authenticate"), "{field}");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn unix_socket_matches_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::responding(OK).await;
    let anywhere = "[[caller]]\nname = \"net\"\nnetworks = [\"0.0.0.0/0\", \"::/0\"]\n";
    let gateway = Gateway::in_front_of(&upstream)
        .with(&(anywhere.to_owned() + &block("a", A, "")))
        .on_socket(&folder.path().join("gateway.sock"))
        .start()
        .await;
    gateway.raw(get("/")).await.problem(401, "caller_unknown");
    assert_eq!(
        gateway.raw(get_with("/", &basic("a", A))).await.status(),
        200
    );
}

#[tokio::test]
async fn caller_with_a_secret_may_use_any_host_unless_hosts_are_configured() {
    let rebound = get_with("/", &basic("a", A)).replace("localhost", "gw.example.net:8443");
    let (gateway, _upstream) = gateway_for(&block("a", A, "")).await;
    assert_eq!(gateway.raw(&rebound).await.status(), 200);
    let (gateway, _upstream) =
        gateway_for(&(block("a", A, "") + "[listen]\nhosts = [\"other.example\"]")).await;
    gateway.raw(&rebound).await.problem(421, "foreign_host");
}

#[tokio::test]
async fn admin_listener_requires_own_host_though_callers_may_use_any() {
    let named = block("a", A, "") + "[listen]\npublic_url = \"https://gw.example.net/citrix\"";
    let (gateway, _upstream) = gateway_for(&named).await;
    for (host, status) in [
        ("gw.example.net:9090", 200),
        ("localhost", 200),
        ("other.example", 421),
    ] {
        let response = gateway
            .admin(get("/metrics").replace("localhost", host))
            .await;
        assert_eq!(response.status(), status, "{host}");
    }
}

#[tokio::test]
async fn http2_requests_are_authenticated_one_by_one() {
    let (gateway, _upstream) = gateway_for(&(block("a", A, "") + &block("b", B, ""))).await;
    let mut http2 = gateway.http2().await;
    let secrets = [
        (Some(A), 200),
        (None, 401),
        (Some(B), 200),
        (Some("wrong"), 401),
        (Some(A), 200),
    ];
    let responses = secrets.map(|(secret, status)| {
        let mut request = Request::get("http://localhost/");
        if let Some(secret) = secret {
            request = request.header("x-api-key", secret);
        }
        (
            http2
                .send_request(request.body(()).unwrap(), true)
                .unwrap()
                .0,
            status,
        )
    });
    for (response, status) in responses {
        assert_eq!(within_timeout(response).await.unwrap().status(), status);
    }
    let metrics = gateway.metrics().await;
    for label in [
        r#"caller="a",code="200""#,
        r#"caller="b",code="200""#,
        r#"caller="none",code="401""#,
    ] {
        assert!(metrics.contains(label), "{label} in {metrics}");
    }
}

#[tokio::test]
async fn rejected_upload_is_unread_and_later_requests_are_served() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let mut caller = gateway.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\n";
    caller
        .write(format!(
            "{head}Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        ))
        .await;
    caller.response().await.problem(401, "caller_unknown");
    let mut caller = gateway.connect().await;
    caller
        .write(format!("{head}Content-Length: 2\r\n\r\nhi"))
        .await;
    caller.response().await.problem(401, "caller_unknown");
    caller
        .write(format!(
            "{head}X-Api-Key: {A}\r\nContent-Length: 2\r\n\r\nho"
        ))
        .await;
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(upstream.request().await.body, b"ho");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn callers_at_one_address_queue_by_name() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with(&(block("a", A, "") + &block("b", B, "")))
        .start()
        .await;
    let send = async |secret: &str, path: &str| {
        let mut wire = gateway.connect().await;
        wire.write(get_with(
            &format!("/monitorodata/{path}"),
            &format!("X-Api-Key: {secret}\r\n"),
        ))
        .await;
        wire
    };
    let mut waiting = vec![send(A, "a1").await];
    let mut served = upstream.connection().await;
    assert!(served.request().await.line().contains("/a1 "));
    for (secret, path) in [(A, "a2"), (A, "a3"), (B, "b1")] {
        waiting.push(send(secret, path).await);
        let depth = format!(
            "queue_depth{{route=\"/monitorodata\"}} {}",
            waiting.len() - 1
        );
        crate::harness::wait_until("the request waits", || async {
            gateway.metrics().await.contains(&depth)
        })
        .await;
    }
    for next in ["/a2 ", "/b1 ", "/a3 "] {
        served.write(OK).await;
        assert!(served.request().await.line().contains(next), "{next}");
    }
}

#[tokio::test]
async fn debug_output_of_the_configuration_contains_no_hash() {
    let (gateway, _upstream) = gateway_for(&block("a", A, "")).await;
    let printed = format!("{:?}", gateway.app().shared().published.load().live.callers);
    let hash = digest(&SHA256, A.as_bytes());
    let numbers = format!("{:?}", &hash.as_ref()[..4]);
    assert!(
        printed.contains("[REDACTED]") && !printed.contains(numbers.trim_matches(['[', ']'])),
        "{printed}"
    );
}
