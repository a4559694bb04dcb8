//! Token endpoints, byte for byte (contract §1).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use citrix_emulator::{Faults, Options, TokenFault};
use serde_json::{Value, json};

use super::{Lab, header, json, lab, lab_with};

/// Logs in at the form endpoint; returns status and body.
async fn form_login(lab: &Lab) -> (u16, String) {
    let form = lab.form(lab.emulator.client_secret());
    let response = lab
        .client
        .post(lab.emulator.token_url("acme"))
        .form(&form)
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Posts a body to the JSON endpoint.
async fn json_login(lab: &Lab, body: String) -> reqwest::Response {
    let request = lab
        .client
        .post(lab.emulator.trust_url())
        .header("content-type", "application/json");
    request.body(body).send().await.unwrap()
}

fn credentials(lab: &Lab) -> String {
    json!({ "clientId": lab.emulator.client_id(), "clientSecret": lab.emulator.client_secret() })
        .to_string()
}

#[tokio::test]
async fn form_endpoint_returns_indented_json_with_string_lifetime() {
    let lab = lab().await;
    let form = lab.form(lab.emulator.client_secret());
    let response = lab
        .client
        .post(lab.emulator.token_url("acme"))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
        ("access-control-expose-headers", "X-Cws-TransactionId"),
        ("x-cc-localgeo", "US"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(header(&response, name), Some(value));
    }
    assert_eq!(
        header(&response, "x-cws-transactionid").map(str::len),
        Some(36)
    );
    let body = response.text().await.unwrap();
    let token = serde_json::from_str::<Value>(&body).unwrap()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = format!(
        "\n{{\n  \"token_type\": \"bearer\",\n  \"access_token\": \"{token}\",\n  \"expires_in\": \"3600\"\n}}\n  "
    );
    assert_eq!(body, expected);
}

#[tokio::test]
async fn json_endpoint_returns_number_lifetime() {
    let lab = lab().await;
    let (id, secret) = (lab.emulator.client_id(), lab.emulator.client_secret());
    for keys in [["clientId", "clientSecret"], ["ClientId", "ClientSecret"]] {
        let response = json_login(&lab, json!({ keys[0]: id, keys[1]: secret }).to_string()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "cache-control"), Some("no-cache"));
        assert_eq!(
            header(&response, "content-type"),
            Some("application/json; charset=utf-8")
        );
        assert_eq!(
            header(&response, "x-cws-transactionid").map(str::len),
            Some(36)
        );
        let body = response.text().await.unwrap();
        let prefix =
            "{\"principal\":\"emulator-client\",\"subject\":\"emulator-client\",\"token\":\"ey";
        assert!(body.starts_with(prefix), "{body}");
        assert!(
            body.contains("\",\"openIdToken\":\"ey") && body.ends_with("\",\"expiresIn\":3600}"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn tokens_are_jwts_and_several_are_valid_at_once() {
    let lifetime = Duration::from_secs(77);
    let lab = lab_with(Options {
        token_lifetime: lifetime,
        ..Options::default()
    })
    .await;
    assert!(
        (1500..2048).contains(&lab.token.len()),
        "{}",
        lab.token.len()
    );
    let segments: Vec<_> = lab
        .token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    assert_eq!(segments.len(), 3);
    let claims: Value = serde_json::from_slice(&segments[1]).unwrap();
    assert_eq!(claims["sub"], lab.emulator.client_id());
    assert!(claims["displayname"].is_string());
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        lifetime.as_secs()
    );

    let first = lab.token.clone();
    assert_ne!(lab.login().await, first);
    assert_eq!(lab.status(lab.get("/echo")).await, 200);
}

#[tokio::test]
async fn expire_and_revoke_invalidate_tokens() {
    let mut lab = lab().await;
    lab.emulator.expire_all();
    assert_eq!(lab.status(lab.get("/echo")).await, 401);
    lab.token = lab.login().await;
    assert_eq!(lab.status(lab.get("/echo")).await, 200);
    lab.emulator.revoke_all();
    assert_eq!(lab.status(lab.get("/echo")).await, 401);
    lab.token = "eyJhbGciOiJSUzI1NiJ9.e30.AA".to_owned();
    assert_eq!(lab.status(lab.get("/echo")).await, 401);
    let stats = lab.emulator.stats().tokens;
    let counts = (
        stats.valid,
        stats.expired_token,
        stats.revoked_token,
        stats.unknown_token,
    );
    assert_eq!(counts, (1, 1, 1, 1));
}

#[tokio::test]
async fn token_expires_after_lifetime() {
    // With a lifetime of zero the test need not wait.
    let lab = lab_with(Options {
        token_lifetime: Duration::ZERO,
        ..Options::default()
    })
    .await;
    assert_eq!(lab.status(lab.get("/echo")).await, 401);
    assert_eq!(lab.emulator.stats().tokens.expired_token, 1);
}

#[tokio::test]
async fn form_endpoint_rejects_wrong_client_with_oauth2_error() {
    let lab = lab().await;
    let body = "grant_type=client_credentials&client_id=emulator-client&client_secret=wrong";
    let response = lab
        .raw(&format!(
            "POST /cctrustoauth2/root/tokens/clients HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert!(
        response.starts_with("HTTP/1.1 400 Invalid request\r\n"),
        "{response}"
    );
    let expected = "{\"error\":\"invalid_client\",\"error_description\":\"Invalid client id or client secret.\"}";
    assert_eq!(response.split_once("\r\n\r\n").unwrap().1, expected);

    // The right secret at the path of another customer.
    let form = lab.form(lab.emulator.client_secret());
    let response = lab
        .client
        .post(lab.emulator.token_url("contoso"))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(json(response).await["error"], "invalid_client");
}

#[tokio::test]
async fn form_endpoint_rejects_other_content_type() {
    let lab = lab().await;
    for content_type in [
        "application/x-www-form-urlencoded; charset=utf-8",
        "application/json",
    ] {
        let request = lab
            .client
            .post(lab.emulator.token_url("root"))
            .header("content-type", content_type);
        let response = request.body(credentials(&lab)).send().await.unwrap();
        assert_eq!(response.status(), 400);
        let text = response.text().await.unwrap();
        assert!(
            text.contains("Content-Type must be set to application/x-www-form-urlencoded"),
            "{text}"
        );
    }
    assert_eq!(
        lab.status(lab.client.get(lab.emulator.token_url("root")))
            .await,
        405
    );
}

#[tokio::test]
async fn json_endpoint_rejects_in_its_error_format() {
    let lab = lab().await;
    let response = json_login(&lab, "{\"clientId\":".to_owned()).await;
    assert_eq!(response.status(), 400);
    let expected = "{\"message\":\"The request is invalid.\",\"modelState\":{\"credentials\":[\"An error has occurred.\"]}}";
    assert_eq!(response.text().await.unwrap(), expected);

    let wrong =
        json!({ "clientId": lab.emulator.client_id(), "clientSecret": "wrong" }).to_string();
    assert_eq!(json_login(&lab, wrong).await.status(), 401);
    let untyped = lab
        .client
        .post(lab.emulator.trust_url())
        .body(credentials(&lab));
    assert_eq!(lab.status(untyped).await, 415);
}

#[tokio::test]
async fn token_fault_changes_response() {
    let lab = lab().await;
    let fault = |token| {
        lab.emulator.set_faults(Faults {
            token: Some(token),
            ..Faults::default()
        })
    };
    for (token, status, part) in [
        (
            TokenFault::RateLimited,
            429,
            "Rate limit is exceeded. Try again in 1 seconds.",
        ),
        (TokenFault::RateLimitedBody, 429, "\"retryDelay\""),
        (TokenFault::ServerError, 500, "\"activityId\""),
        (TokenFault::Html, 200, "<html>"),
        (TokenFault::Empty, 200, ""),
        (TokenFault::ErrorIn200, 200, "\"error_description\""),
        (TokenFault::ExpiresInNumber, 200, "\"expires_in\": 3600\n"),
        (TokenFault::ExpiresInZero, 200, "\"expires_in\": \"0\"\n"),
    ] {
        fault(token);
        let (got, body) = form_login(&lab).await;
        assert_eq!(got, status, "{token:?}");
        assert!(body.contains(part), "{token:?}: {body}");
    }
    fault(TokenFault::Truncated);
    let (status, body) = form_login(&lab).await;
    assert!(
        status == 200
            && body.contains("access_token")
            && serde_json::from_str::<Value>(&body).is_err()
    );

    fault(TokenFault::ExpiresInMissing);
    assert!(!form_login(&lab).await.1.contains("expires_in"));
    assert!(
        json(json_login(&lab, credentials(&lab)).await)
            .await
            .get("expiresIn")
            .is_none()
    );
    fault(TokenFault::ExpiresInNumber);
    assert_eq!(
        json(json_login(&lab, credentials(&lab)).await).await["expiresIn"],
        "3600"
    );
    fault(TokenFault::RateLimited);
    assert_eq!(
        header(&json_login(&lab, credentials(&lab)).await, "retry-after"),
        Some("1")
    );
}

#[tokio::test(start_paused = true)]
async fn slow_fault_exceeds_client_timeout() {
    let lab = lab().await;
    lab.emulator.set_faults(Faults {
        token: Some(TokenFault::Slow),
        ..Faults::default()
    });
    let begin = tokio::time::Instant::now();
    assert_eq!(form_login(&lab).await.0, 200);
    assert!(begin.elapsed() > Duration::from_secs(15));
}
