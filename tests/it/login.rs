//! The gateway's token endpoints and the tokens they issue (interface §4.5, contract §1).

mod throttle;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::{Value, json};

use crate::callers::block;
use crate::harness::{Cloud, Gateway, Message, OK, Upstream, get_with, within_timeout};

const A: &str = "c4nary-secret-of-a==";
const B: &str = "c4nary-secret-of-b";
const FORM: &str = "/cctrustoauth2/root/tokens/clients";
const JSON: &str = "/root/tokens/clients";
const KEY: &str = "[login]\nsigning_key = \"c4nary-signing-key-of-32-bytes-or-more\"\n";

async fn gateway_for(blocks: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::responding(OK).await;
    (
        Gateway::in_front_of(&upstream).with(blocks).start().await,
        upstream,
    )
}

fn post(path: &str, fields: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns a login by form.
fn form(id: &str, secret: &str) -> String {
    let secret = secret.replace('+', "%2B").replace('=', "%3D");
    let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    post(
        FORM,
        "Accept: application/json\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        &body,
    )
}

/// Returns a login in JSON.
fn in_json(id: &str, secret: &str) -> String {
    let body = json!({ "clientId": id, "clientSecret": secret }).to_string();
    post(JSON, "Content-Type: application/json\r\n", &body)
}

/// Logs in by form and returns the token.
pub async fn token(gateway: &Gateway, id: &str, secret: &str) -> String {
    let response = gateway.raw(form(id, secret)).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

pub fn bearing(token: &str) -> String {
    get_with("/", &format!("Authorization: CwsAuth Bearer={token}\r\n"))
}

fn has_ids(response: &Message) {
    let id = response.field("citrix-transactionid").unwrap();
    assert_eq!(response.field("x-cws-transactionid").unwrap(), id);
    assert_eq!(response.field("x-proxy-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn contract_1_1_form_endpoint_responds_byte_for_byte_like_citrix() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let response = gateway.raw(form("a", A)).await;
    assert_eq!(response.line(), "HTTP/1.1 200 OK");
    let body = response.text();
    let token = body.split('"').nth(7).unwrap();
    assert!(
        token.starts_with("eyJ") && token.split('.').count() == 3,
        "{body}"
    );
    let expected = format!(
        "\n{{\n  \"token_type\": \"bearer\",\n  \"access_token\": \"{token}\",\n  \"expires_in\": \"3600\"\n}}\n  "
    );
    assert_eq!(body, expected);
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
    ] {
        assert_eq!(response.field(name).as_deref(), Some(value), "{name}");
    }
    has_ids(&response);
    assert!(!response.has("x-proxy-error") && !response.has("access-control-allow-origin"));

    let response = gateway.raw(form("a", "wrong")).await;
    assert_eq!(response.line(), "HTTP/1.1 400 Invalid request");
    let expected =
        r#"{"error":"invalid_client","error_description":"Invalid client id or client secret."}"#;
    assert_eq!(response.text(), expected);
    assert_eq!(
        response.field("x-proxy-error").as_deref(),
        Some("caller_unknown")
    );
    has_ids(&response);
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn contract_1_1_json_endpoint_responds_byte_for_byte_like_citrix() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    let response = gateway.raw(in_json("a", A)).await;
    assert_eq!(response.status(), 200);
    let body = response.text();
    let token = body.split('"').nth(11).unwrap();
    let open_id_token = body.split('"').nth(15).unwrap();
    let expected = format!(
        "{{\"principal\":\"a\",\"subject\":\"a\",\"token\":\"{token}\",\"openIdToken\":\"{open_id_token}\",\
         \"expiresIn\":3600}}"
    );
    assert_eq!(body, expected);
    assert_eq!(
        response.field("content-type").as_deref(),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(response.field("cache-control").as_deref(), Some("no-cache"));
    has_ids(&response);
    assert_eq!(gateway.raw(bearing(token)).await.status(), 200);
    gateway
        .raw(bearing(open_id_token))
        .await
        .problem(401, "caller_unknown");

    let response = gateway.raw(in_json("a", "wrong")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(
        response.text(),
        r#"{"message":"Invalid client id or client secret."}"#
    );
    assert!(
        response
            .field("www-authenticate")
            .unwrap()
            .starts_with("Basic realm=")
    );
    has_ids(&response);
    assert_eq!(upstream.take_requests().await.len(), 1);
}

const URLENCODED: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON_TYPE: &str = "Content-Type: application/json\r\n";
const WRONG_TYPE: &str = r#"{"error":"invalid_request","error_description":"Content-Type must be set to application/x-www-form-urlencoded"}"#;
const INVALID: &str = r#"{"message":"The request is invalid.","modelState":{"credentials":["An error has occurred."]}}"#;

/// Invalid logins with the status and body that Citrix returns.
fn invalid_logins() -> Vec<(String, u16, &'static str)> {
    vec![
        (post(FORM, "", ""), 400, WRONG_TYPE),
        (post(FORM, JSON_TYPE, "{}"), 400, WRONG_TYPE),
        (
            post(FORM, URLENCODED, "client_id=a"),
            400,
            r#"{"error":"unsupported_grant_type","error_description":"The grant type must be client_credentials."}"#,
        ),
        (
            post(
                FORM,
                URLENCODED,
                "grant_type=client_credentials&client_id=a&client_id=b",
            ),
            400,
            r#"{"error":"invalid_request","error_description":"A parameter is repeated."}"#,
        ),
        (
            post(FORM, &format!("{URLENCODED}{URLENCODED}"), "x"),
            400,
            WRONG_TYPE,
        ),
        (post(JSON, JSON_TYPE, "clientId"), 400, INVALID),
        (
            post(JSON, JSON_TYPE, r#"{"clientId":"a","clientId":"a"}"#),
            400,
            INVALID,
        ),
        (
            post(JSON, URLENCODED, "client_id=a"),
            415,
            r#"{"message":"The request entity's media type is not supported for this resource."}"#,
        ),
        (
            get_with(FORM, ""),
            405,
            r#"{"message":"The requested resource does not support http method 'GET'."}"#,
        ),
    ]
}

#[tokio::test]
async fn contract_1_3_invalid_login_is_rejected_with_the_citrix_body() {
    let (gateway, upstream) = gateway_for(&block("a", A, "")).await;
    for (request, status, body) in invalid_logins() {
        let response = gateway.raw(&request).await;
        assert_eq!(
            (response.status(), response.text().as_str()),
            (status, body),
            "{request}"
        );
        assert_eq!(
            response.field("x-proxy-error").as_deref(),
            Some("bad_request"),
            "{request}"
        );
        has_ids(&response);
        // With a 415 it would blame the content coding (RFC 9110 section 12.5.3).
        assert!(!response.has("accept-encoding"), "{request}");
    }
    assert_eq!(
        gateway
            .raw(get_with(JSON, ""))
            .await
            .field("allow")
            .as_deref(),
        Some("POST")
    );
    let (head, rest) = gateway
        .raw_head(get_with(JSON, "").replace("GET", "HEAD"))
        .await;
    assert_eq!((head.status(), rest.len()), (405, 0));
    gateway
        .raw(post(FORM, URLENCODED, &"x".repeat(16 * 1024 + 1)))
        .await
        .problem(413, "body_too_large");
    let long = format!(
        "grant_type=client_credentials&client_id=a&client_secret={}",
        "s".repeat(16_000)
    );
    assert_eq!(
        gateway.raw(post(FORM, URLENCODED, &long)).await.status(),
        400
    );
    upstream.assert_no_more_requests().await;
    let metrics = gateway.metrics().await;
    for line in [
        r#"logins_total{outcome="malformed"} 11"#,
        r#"logins_total{outcome="refused"} 1"#,
        r#"logins_total{outcome="invalid_client"} 1"#,
        r#"logins_total{outcome="ok"} 0"#,
        r#"requests_total{caller="none",code="405",method="GET",route="none"} 2"#,
        r#"errors_total{reason="bad_request"} 11"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

const GRANT: &str = "grant_type=client_credentials";
const IN_FORM: &str =
    "client_secret=c4nary-secret-of-a%3d%3d&client_id=a&grant_type=client_credentials";

fn basic_of_a() -> String {
    let pair = STANDARD.encode(format!("a:{A}"));
    format!("Authorization: Basic {pair}\r\n")
}

/// Logins of the caller `a` in every form.
fn valid_logins() -> Vec<String> {
    const STALE: &str = "Authorization: CwsAuth Bearer=an-old-citrix-token\r\n";
    const UPPER: &str = r#"{"ClientSecret":"c4nary-secret-of-a==","ClientId":"a"}"#;
    let basic = basic_of_a();
    vec![
        form("a", A),
        in_json("a", A),
        post(FORM, URLENCODED, IN_FORM),
        post(
            FORM,
            &URLENCODED.replace("\r\n", ";charset=utf-8\r\n"),
            IN_FORM,
        ),
        post(
            "/base/cctrustoauth2/acme/tokens/clients?x=y",
            URLENCODED,
            IN_FORM,
        ),
        post(
            "/region/eu/CCTRUSTOAUTH2/ACME/TOKENS/CLIENTS/",
            URLENCODED,
            IN_FORM,
        ),
        post(
            "http://localhost/cctrustoauth2/root/tokens/clients",
            URLENCODED,
            IN_FORM,
        ),
        post(
            "/classic/trust/root/tokens/clients",
            "Content-Type: application/json; charset=utf-8\r\n",
            UPPER,
        ),
        post(FORM, &format!("{URLENCODED}{basic}"), GRANT),
        post(
            FORM,
            &format!("{URLENCODED}{basic}"),
            &format!("client_id=a&{GRANT}"),
        ),
        post(
            FORM,
            &format!("{URLENCODED}X-Api-Key: {A}\r\n{STALE}"),
            "grant_type=client_credentials&client_id=x&client_secret=y",
        ),
        post(FORM, &format!("{URLENCODED}{STALE}"), IN_FORM),
    ]
}

/// Logins with missing or bad credentials.
fn rejected_logins() -> Vec<String> {
    let basic = basic_of_a();
    vec![
        form("b", A),
        form("", A),
        form("a", ""),
        form("A", A),
        in_json("b", A),
        post(FORM, URLENCODED, "grant_type=client_credentials"),
        // Credentials in the body take precedence.
        post(
            FORM,
            &format!("{URLENCODED}{basic}"),
            &format!("client_id=a&client_secret=x&{GRANT}"),
        ),
        post(FORM, &format!("{URLENCODED}X-Api-Key: wrong\r\n"), IN_FORM),
        post(
            FORM,
            &format!("{URLENCODED}Authorization: Bearer {A}\r\n"),
            GRANT,
        ),
    ]
}

#[tokio::test]
async fn credentials_in_body_or_basic_header_log_in() {
    let (gateway, upstream) = gateway_for(&(block("a", A, "") + &block("b", B, ""))).await;
    let basic = basic_of_a();
    for request in valid_logins() {
        let response = gateway.raw(&request).await;
        assert_eq!(response.status(), 200, "{request}: {}", response.text());
    }
    for request in rejected_logins() {
        let response = gateway.raw(&request).await;
        assert!(
            response
                .text()
                .contains("Invalid client id or client secret."),
            "{request}: {}",
            response.text()
        );
    }
    gateway
        .raw(post(FORM, &format!("{basic}{basic}{URLENCODED}"), GRANT))
        .await
        .problem(400, "bad_request");
    upstream.assert_no_more_requests().await;
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains(r#"requests_total{caller="a",code="200",method="POST",route="none"} 12"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn login_with_expectation_gets_100() {
    let (gateway, _upstream) = gateway_for(&block("a", A, "")).await;
    let request = form("a", A);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut tool = gateway.connect().await;
    tool.write(format!("{head}\r\nExpect: 100-continue\r\n\r\n"))
        .await;
    assert_eq!(tool.head().await.status(), 100);
    tool.write(body).await;
    assert_eq!(tool.response().await.status(), 200);
}

#[tokio::test]
async fn http2_login_returns_a_token() {
    let (gateway, _upstream) = gateway_for(&block("a", A, "")).await;
    let mut http2 = gateway.http2().await;
    for (secret, status) in [("c4nary-secret-of-a%3D%3D", 200), ("wrong", 400)] {
        let request = Request::post(format!("http://localhost{FORM}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("expect", "100-continue");
        let (response, mut body) = http2
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        let fields = format!("grant_type=client_credentials&client_id=a&client_secret={secret}");
        body.send_data(fields.into(), true).unwrap();
        assert_eq!(within_timeout(response).await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn login_from_outside_the_callers_network_is_rejected() {
    let elsewhere = block("b", B, "networks = [\"192.0.2.0/24\"]");
    let (gateway, upstream) =
        gateway_for(&(block("a", A, "networks = [\"127.0.0.0/8\"]") + &elsewhere)).await;
    assert_eq!(gateway.raw(form("a", A)).await.status(), 200);
    let (wrong, misplaced) = (
        gateway.raw(form("b", "wrong")).await,
        gateway.raw(form("b", B)).await,
    );
    assert_eq!((wrong.status(), wrong.text()), (400, misplaced.text()));
    assert_eq!(wrong.names(), misplaced.names());
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn caller_known_by_network_gets_a_token_for_any_credentials() {
    let here = "[[caller]]\nname = \"here\"\nnetworks = [\"127.0.0.0/8\"]\n";
    let (gateway, upstream) = gateway_for(&(here.to_owned() + &block("a", A, ""))).await;
    for (id, secret) in [
        ("an-id-of-citrix", "an-old-secret"),
        ("here", "x"),
        ("", ""),
        ("not-a", A),
    ] {
        let token = token(&gateway, id, secret).await;
        assert_eq!(gateway.raw(bearing(&token)).await.status(), 200);
        upstream.request().await;
    }
    assert!(
        gateway
            .metrics()
            .await
            .contains(r#"caller="here",code="200",method="GET""#)
    );
    // The name of a caller with a secret requires that secret.
    assert_eq!(gateway.raw(form("a", "wrong")).await.status(), 400);
    token(&gateway, "a", A).await;
    assert!(
        gateway
            .metrics()
            .await
            .contains(r#"caller="a",code="200",method="POST""#)
    );
    let page = form("x", "y").replace("Accept:", "Origin: https://evil.example\r\nAccept:");
    gateway.raw(page).await.problem(403, "caller_forbidden");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn login_without_configured_callers_rejects_only_cross_site_pages() {
    let (gateway, upstream) = gateway_for("").await;
    for request in [
        form("an-id", "a-secret"),
        in_json("an-id", "a-secret"),
        form("", ""),
    ] {
        let response = gateway.raw(&request).await;
        assert_eq!(response.status(), 200, "{request}");
    }
    let token = token(&gateway, "x", "y").await;
    assert_eq!(gateway.raw(bearing(&token)).await.status(), 200);
    assert_eq!(gateway.raw(bearing("none at all")).await.status(), 200);
    upstream.request().await;
    upstream.request().await;
    let login = form("x", "y");
    for (field, status, reason) in [
        ("Origin: https://evil.example\r\n", 403, "caller_forbidden"),
        ("Sec-Fetch-Site: cross-site\r\n", 403, "caller_forbidden"),
    ] {
        gateway
            .raw(login.replace("Accept:", &format!("{field}Accept:")))
            .await
            .problem(status, reason);
    }
    gateway
        .raw(login.replace("localhost", "rebound.example"))
        .await
        .problem(421, "foreign_host");
    gateway
        .raw(login.replace("Accept:", "x_api_key: 1\r\nAccept:"))
        .await
        .problem(400, "bad_request");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn login_with_a_stalled_body_times_out() {
    let blocks = block("a", A, "") + "[limits]\nbody_idle_timeout = \"200ms\"";
    let (gateway, _upstream) = gateway_for(&blocks).await;
    let mut tool = gateway.connect().await;
    let request = form("a", A);
    tool.write(&request[..request.len() - 3]).await;
    tool.response().await.problem(408, "request_timeout");
}

#[tokio::test]
async fn token_keeper_of_another_gateway_logs_in() {
    // A second gateway, whose token keeper uses both endpoints.
    let cloud = Cloud::start().await;
    let front = Gateway::in_front_of_cloud(&cloud)
        .with(&block("a", A, ""))
        .start()
        .await;
    for (dialect, path) in [("oauth2", FORM), ("trust", JSON)] {
        let behind = Gateway::in_front_of_cloud(&cloud)
            .set("CITRIX_CLIENT_ID", "a")
            .set("CITRIX_CLIENT_SECRET", A)
            .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_DIALECT", dialect)
            .set("CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL", &front.url(path))
            .set("CITRIX_AUTH_PROXY_CITRIX__API_URL", &front.url(""))
            .start()
            .await;
        let response = behind.raw(get_with("/cvad/manage/me", "")).await;
        assert_eq!(response.status(), 200, "{dialect}: {}", response.text());
    }
}
