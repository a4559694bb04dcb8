//! Token responses: documented, deviating and invalid.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use TokenDialect::{Oauth2, Trust};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secs(seconds: u64) -> Lifetime {
    Lifetime::FromRequest(Duration::from_secs(seconds))
}

fn jwt(claims: &str) -> String {
    format!(
        "eyJhbGciOiJub25lIn0.{}.c2ln",
        URL_SAFE_NO_PAD.encode(claims)
    )
}

#[track_caller]
fn check(body: &str, token: &str, lifetime: Lifetime) {
    for dialect in [Oauth2, Trust] {
        let grant = parse(dialect, body.as_bytes()).unwrap();
        assert_eq!(grant.token.expose_secret(), token, "{dialect:?}");
        assert_eq!(grant.lifetime, lifetime, "{dialect:?}");
    }
}

#[track_caller]
fn rejects(body: &[u8], expected: Outcome) {
    for dialect in [Oauth2, Trust] {
        assert_eq!(parse(dialect, body).unwrap_err(), expected, "{dialect:?}");
    }
}

#[test]
fn documented_responses_are_parsed() {
    check(
        "\n  {\n  \"token_type\": \"bearer\",\n  \"access_token\": \"ey1.2.3\",\n  \"expires_in\": \"3600\"\n}\n  ",
        "ey1.2.3",
        secs(3600),
    );
    check(
        r#"{"principal":"p","subject":"s","token":"ey1","openIdToken":"ey2","expiresIn":3600}"#,
        "ey1",
        secs(3600),
    );
}

#[test]
fn lifetime_is_accepted_as_string_or_number_in_either_dialect() {
    check(r#"{"access_token":"t","expires_in":1800}"#, "t", secs(1800));
    check(r#"{"token":"t","expiresIn":" 1800 "}"#, "t", secs(1800));
    check(r#"{"token":"t","expires_in":"2"}"#, "t", secs(2));
    check(
        r#"{"access_token":"t","expiresIn":3600.0}"#,
        "t",
        secs(3600),
    );
    check(r#"{"ACCESS_TOKEN":"t","Expires_In":"60"}"#, "t", secs(60));
    check(r#"{"Token":"t","ExpiresIn":60}"#, "t", secs(60));
}

#[test]
fn field_names_of_the_dialect_take_precedence() {
    let body = br#"{"token":"a","expiresIn":1,"access_token":"b","expires_in":2}"#;
    assert_eq!(parse(Trust, body).unwrap().token.expose_secret(), "a");
    assert_eq!(parse(Trust, body).unwrap().lifetime, secs(1));
    assert_eq!(parse(Oauth2, body).unwrap().token.expose_secret(), "b");
    assert_eq!(parse(Oauth2, body).unwrap().lifetime, secs(2));
}

#[test]
fn missing_or_implausible_lifetime_falls_back_to_the_jwt_then_to_the_default() {
    let until = Lifetime::Until(at(5000));
    for expiry in [
        "",
        r#","expires_in":0"#,
        r#","expires_in":-5"#,
        r#","expires_in":"soon""#,
        r#","expires_in":null"#,
        r#","expires_in":2592001"#,
        r#","expires_in":[]"#,
        r#","expires_in":"NaN""#,
    ] {
        check(
            &format!(r#"{{"access_token":"opaque"{expiry}}}"#),
            "opaque",
            Lifetime::Assumed,
        );
        let token = jwt(r#"{"exp":5000,"iat":1400,"sub":"x"}"#);
        check(
            &format!(r#"{{"access_token":"{token}"{expiry}}}"#),
            &token,
            until,
        );
    }
    check(r#"{"token":"t","expiresIn":2592000}"#, "t", secs(2_592_000));
}

#[test]
fn issue_time_is_read_whatever_states_the_lifetime() {
    let issued = |token: &str, expiry: &str| {
        parse(
            Oauth2,
            format!(r#"{{"access_token":"{token}"{expiry}}}"#).as_bytes(),
        )
        .unwrap()
        .issued
    };
    let token = jwt(r#"{"exp":5000,"iat":1400.5}"#);
    assert_eq!(
        issued(&token, ""),
        Some(at(1400) + Duration::from_millis(500))
    );
    assert_eq!(
        issued(&token, r#","expires_in":"60""#),
        Some(at(1400) + Duration::from_millis(500))
    );
    assert_eq!(issued(&jwt(r#"{"exp":5000}"#), ""), None);
    assert_eq!(
        issued(&jwt(r#"{"exp":1400,"iat":5000}"#), ""),
        None,
        "implausible times"
    );
    assert_eq!(issued("opaque", ""), None);
}

#[test]
fn jwt_with_implausible_times_is_an_opaque_token() {
    for token in [
        jwt(r#"{"iat":1}"#),
        jwt(r#"{"exp":"soon"}"#),
        jwt(r#"{"exp":-1}"#),
        jwt(r#"{"exp":10,"iat":20}"#),
        jwt(r#"{"exp":1e300}"#),
        jwt(r#"{"exp":9000000,"iat":0}"#),
        jwt("[]"),
        "a.b".into(),
        "..".into(),
        "a.!!.c".into(),
    ] {
        check(
            &format!(r#"{{"token":"{token}"}}"#),
            &token,
            Lifetime::Assumed,
        );
    }
}

#[test]
fn expiry_on_citrix_clock_is_corrected_by_the_skew() {
    let sent = at(10_000);
    let ahead = Skew::measure(at(9_000), sent, Duration::ZERO);
    assert_eq!(
        Lifetime::Until(at(13_000)).expires_at(sent, Some(ahead)),
        at(14_000)
    );
    assert_eq!(
        Lifetime::Until(at(13_000)).expires_at(sent, None),
        at(13_000)
    );
    assert_eq!(Lifetime::Until(at(9_000)).expires_at(sent, None), at(9_000));
    assert_eq!(
        Lifetime::Until(at(u64::from(u32::MAX))).expires_at(sent, None),
        at(13_600)
    );
    assert_eq!(Lifetime::Assumed.expires_at(sent, Some(ahead)), at(13_600));
    assert_eq!(
        secs(60).expires_at(sent, Some(ahead)),
        at(10_060),
        "a relative lifetime counts on the local clock"
    );
}

#[test]
fn invalid_body_returns_its_outcome() {
    rejects(b"", Outcome::Empty);
    rejects(b" \r\n\t", Outcome::Empty);
    rejects(b"<!DOCTYPE html><html></html>", Outcome::NotJson);
    rejects(b"Service Unavailable", Outcome::NotJson);
    rejects(b"[]", Outcome::NotJson);
    rejects(br#"{"access_token":"ey"#, Outcome::Truncated);
    rejects(br#"{"access_token":"ey","expires_in""#, Outcome::Truncated);
    rejects(br#"{"access_token":"ey"}}"#, Outcome::Malformed);
    rejects(br#"{"access_token":17}"#, Outcome::Malformed);
    rejects(b"{}", Outcome::Malformed);
    rejects(br#"{"access_token":null}"#, Outcome::Malformed);
    rejects(b"{\"access_token\":\"\xff\"}", Outcome::Malformed);
    rejects(br#"{"access_token":""}"#, Outcome::BadToken);
    rejects(br#"{"access_token":"a\r\nX-Evil: b"}"#, Outcome::BadToken);
    rejects(br#"{"access_token":"a b"}"#, Outcome::BadToken);
    rejects("{\"access_token\":\"é\"}".as_bytes(), Outcome::BadToken);
}

#[test]
fn rfc6749_7_1_token_of_an_unknown_type_is_not_used() {
    for known in [r#""bearer""#, r#""Bearer""#, "null"] {
        let body = format!(r#"{{"token_type":{known},"access_token":"t","expires_in":5}}"#);
        check(&body, "t", secs(5));
    }
    for unknown in [r#""mac""#, r#""bearer2""#, r#""""#, "1"] {
        let body = format!(r#"{{"Token_Type":{unknown},"access_token":"t","expires_in":5}}"#);
        rejects(body.as_bytes(), Outcome::Malformed);
    }
}

#[test]
fn error_field_in_a_200_is_an_error() {
    rejects(
        br#"{"error":"server_error","access_token":"t"}"#,
        Outcome::ErrorIn200,
    );
    rejects(br#"{"error":{"code":1},"token":"t"}"#, Outcome::ErrorIn200);
    rejects(
        br#"{"Error":"invalid_client","error_description":"no"}"#,
        Outcome::InvalidClient,
    );
    check(
        r#"{"error":"","access_token":"t","expires_in":5}"#,
        "t",
        secs(5),
    );
    check(
        r#"{"error":null,"access_token":"t","expires_in":5}"#,
        "t",
        secs(5),
    );
}

#[test]
fn byte_order_mark_is_skipped() {
    check(
        "\u{feff}{\"access_token\":\"t\",\"expires_in\":5}",
        "t",
        secs(5),
    );
}

#[test]
fn invalid_client_is_recognized_in_json_only() {
    assert!(is_invalid_client(
        br#" {"error":"invalid_client","error_description":"Invalid client id or client secret."} "#
    ));
    assert!(!is_invalid_client(br#"{"error":"invalid_request"}"#));
    assert!(!is_invalid_client(b"<html>invalid_client</html>"));
    assert!(!is_invalid_client(b""));
}

proptest! {
    #[test]
    fn any_body_is_rejected_or_yields_a_token_valid_in_a_header(body: Vec<u8>) {
        if let Ok(grant) = parse(Oauth2, &body) {
            prop_assert!(citrix_wire::citrix::AuthorizationScheme::Cws.header_value(grant.token.expose_secret()).is_ok());
        }
    }

    #[test]
    fn any_lifetime_is_capped(number: f64, exp: f64, iat: f64) {
        let body = format!(r#"{{"token":"{}","expiresIn":{number:e}}}"#, jwt(&format!(r#"{{"exp":{exp:e},"iat":{iat:e}}}"#)));
        if let Ok(grant) = parse(Trust, body.as_bytes()) {
            let sent = at(1_800_000_000);
            let lifetime = grant.lifetime.expires_at(sent, None).duration_since(sent).unwrap_or_default();
            prop_assert!(lifetime <= MAX_LIFETIME);
        }
    }
}
