//! Token answers as they are documented, as they are met, and as they should not be.

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
fn refuse(body: &[u8], expected: Outcome) {
    for dialect in [Oauth2, Trust] {
        assert_eq!(parse(dialect, body).unwrap_err(), expected, "{dialect:?}");
    }
}

#[test]
fn the_documented_answers() {
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
fn lifetimes_as_string_or_number_in_either_dialect() {
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
fn the_names_of_the_dialect_win() {
    let body = br#"{"token":"a","expiresIn":1,"access_token":"b","expires_in":2}"#;
    assert_eq!(parse(Trust, body).unwrap().token.expose_secret(), "a");
    assert_eq!(parse(Trust, body).unwrap().lifetime, secs(1));
    assert_eq!(parse(Oauth2, body).unwrap().token.expose_secret(), "b");
    assert_eq!(parse(Oauth2, body).unwrap().lifetime, secs(2));
}

#[test]
fn a_lifetime_that_says_nothing_falls_back_to_the_token_and_then_to_an_hour() {
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
fn when_a_token_was_issued_is_read_whatever_tells_its_life() {
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
        "they make no sense"
    );
    assert_eq!(issued("opaque", ""), None);
}

#[test]
fn a_jwt_that_makes_no_sense_is_an_opaque_token() {
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
fn an_expiry_of_citrixs_clock_is_corrected() {
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
        "seconds are counted on our clock"
    );
}

#[test]
fn what_is_no_token_answer_says_what_it_is() {
    refuse(b"", Outcome::Empty);
    refuse(b" \r\n\t", Outcome::Empty);
    refuse(b"<!DOCTYPE html><html></html>", Outcome::NotJson);
    refuse(b"Service Unavailable", Outcome::NotJson);
    refuse(b"[]", Outcome::NotJson);
    refuse(br#"{"access_token":"ey"#, Outcome::Truncated);
    refuse(br#"{"access_token":"ey","expires_in""#, Outcome::Truncated);
    refuse(br#"{"access_token":"ey"}}"#, Outcome::Malformed);
    refuse(br#"{"access_token":17}"#, Outcome::Malformed);
    refuse(b"{}", Outcome::Malformed);
    refuse(br#"{"access_token":null}"#, Outcome::Malformed);
    refuse(b"{\"access_token\":\"\xff\"}", Outcome::Malformed);
    refuse(br#"{"access_token":""}"#, Outcome::BadToken);
    refuse(br#"{"access_token":"a\r\nX-Evil: b"}"#, Outcome::BadToken);
    refuse(br#"{"access_token":"a b"}"#, Outcome::BadToken);
    refuse("{\"access_token\":\"é\"}".as_bytes(), Outcome::BadToken);
}

#[test]
fn an_error_in_a_200_is_an_error() {
    refuse(
        br#"{"error":"server_error","access_token":"t"}"#,
        Outcome::ErrorIn200,
    );
    refuse(br#"{"error":{"code":1},"token":"t"}"#, Outcome::ErrorIn200);
    refuse(
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
fn a_byte_order_mark_is_passed_over() {
    check(
        "\u{feff}{\"access_token\":\"t\",\"expires_in\":5}",
        "t",
        secs(5),
    );
}

#[test]
fn invalid_client_is_recognised() {
    assert!(is_invalid_client(
        br#" {"error":"invalid_client","error_description":"Invalid client id or client secret."} "#
    ));
    assert!(!is_invalid_client(br#"{"error":"invalid_request"}"#));
    assert!(!is_invalid_client(b"<html>invalid_client</html>"));
    assert!(!is_invalid_client(b""));
}

proptest! {
    #[test]
    fn no_body_panics_and_every_grant_can_be_sent(body: Vec<u8>) {
        if let Ok(grant) = parse(Oauth2, &body) {
            prop_assert!(citrix_wire::citrix::AuthorizationScheme::Cws.header_value(grant.token.expose_secret()).is_ok());
        }
    }

    #[test]
    fn no_lifetime_is_absurd(number: f64, exp: f64, iat: f64) {
        let body = format!(r#"{{"token":"{}","expiresIn":{number:e}}}"#, jwt(&format!(r#"{{"exp":{exp:e},"iat":{iat:e}}}"#)));
        if let Ok(grant) = parse(Trust, body.as_bytes()) {
            let sent = at(1_800_000_000);
            let life = grant.lifetime.expires_at(sent, None).duration_since(sent).unwrap_or_default();
            prop_assert!(life <= MAX_LIFETIME);
        }
    }
}
