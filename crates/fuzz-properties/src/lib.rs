//! Properties that hold for any input. Fuzz targets check them on generated input,
//! `tests/it/corpus.rs` on the corpus.

#![allow(clippy::expect_used, reason = "a violated property panics")]

mod addresses;
mod batch;
mod content;
mod fields;
mod inbound;
mod links;
mod odata;
mod responses;
mod settings;
mod store;

pub use addresses::{hosts, proxy_header};
pub use batch::batch_body;
pub use fields::{request_fields, response_fields};
pub use inbound::frames::inbound_frames;
pub use inbound::http1::inbound_connection;
pub use links::link_rewrite;
pub use odata::odata_query;
pub use responses::upstream_response;
pub use settings::configuration;
pub use store::store_replies;

use std::time::{Duration, SystemTime};

use citrix_auth_proxy::system::clock::Clock;
use citrix_auth_proxy::system::moment::Moment;
use citrix_auth_proxy::token::response::{self, MAX_LIFETIME};
use citrix_auth_proxy::token::schedule::{self, Failures};
use citrix_auth_proxy::token::status::Skew;
use citrix_auth_proxy::token::{Outcome, Token};
use citrix_wire::citrix::batch::BatchPath;
use citrix_wire::citrix::login::endpoint_in;
use citrix_wire::citrix::login::request::{self, Credentials};
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};
use citrix_wire::path_readings::PathReadings;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Rules};
use citrix_wire::retry_after;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use testkit::servers;

/// 2026-01-01T00:00:00Z
const NOW: Duration = Duration::from_secs(1_767_225_600);

/// Checks a token response body: a granted token is a valid field value with a plausible lifetime;
/// anything else is an [`Outcome`] that a body can have.
pub fn token_response(body: &[u8]) {
    let sent = SystemTime::UNIX_EPOCH + NOW;
    let ahead = Skew::measure(sent - Duration::from_secs(300), sent, Duration::ZERO);
    for dialect in [TokenDialect::Oauth2, TokenDialect::Trust] {
        match response::parse(dialect, body) {
            Ok(grant) => {
                for skew in [None, Some(ahead)] {
                    let expires_at = grant.lifetime.expires_at(sent, skew);
                    let lifetime = expires_at.duration_since(sent).unwrap_or_default();
                    assert!(lifetime <= MAX_LIFETIME);
                    assert!(schedule::usable_lifetime(lifetime) <= lifetime);
                }
                let token = Token::new(1, &grant.token, Moment::now(Clock::SYSTEM))
                    .expect("an accepted token is a valid field value");
                for scheme in [AuthorizationScheme::Cws, AuthorizationScheme::Bearer] {
                    assert!(token.authorization(scheme).is_sensitive());
                }
            }
            Err(
                Outcome::Empty
                | Outcome::NotJson
                | Outcome::Truncated
                | Outcome::Malformed
                | Outcome::ErrorIn200
                | Outcome::InvalidClient
                | Outcome::BadToken,
            ) => {}
            Err(other) => panic!("{other} is no outcome of a body"),
        }
    }
    // Must not panic for any body of an error response.
    response::is_invalid_client(body);
}

/// Checks a token request body: credentials parsed from it are parsed again from equivalent JSON.
pub fn login_request(body: &[u8]) {
    let parse = |dialect, content_type, body: &[u8]| {
        request::parse(dialect, Some(&HeaderValue::from_static(content_type)), body)
    };
    let text = |credentials: Credentials| {
        let secret = credentials
            .secret
            .map(|secret| secret.expose_secret().to_owned());
        (credentials.id.map(|id| id.to_string()), secret)
    };
    let json = "application/json; charset=utf-8";
    let form = parse(
        TokenDialect::Oauth2,
        "application/x-www-form-urlencoded",
        body,
    );
    for found in [form, parse(TokenDialect::Trust, json, body)]
        .into_iter()
        .flatten()
    {
        let (id, secret) = text(found);
        let mut same = serde_json::Map::new();
        same.extend(id.clone().map(|id| ("ClientId".to_owned(), id.into())));
        same.extend(
            secret
                .clone()
                .map(|secret| ("clientSecret".to_owned(), secret.into())),
        );
        let same = serde_json::Value::Object(same).to_string();
        let parsed_again =
            parse(TokenDialect::Trust, json, same.as_bytes()).expect("JSON generated here");
        assert_eq!(text(parsed_again), (id, secret));
    }
}

/// Checks a 429, whose first line is the value of `Retry-After` and the rest its body: the
/// resulting backoff is at least one second and at most two hours.
pub fn retry_after(input: &[u8]) {
    let (header, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[][..]),
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(header) {
        headers.insert(RETRY_AFTER, value);
    }
    let wait = retry_after::from_response(&headers, body, SystemTime::UNIX_EPOCH + NOW);
    let failures = Failures::default().with(Outcome::RateLimited);
    for chance in [0.0, 1.0] {
        let backoff = failures.backoff(None, wait, chance);
        assert!((Duration::from_secs(1)..=Duration::from_secs(2 * 3600)).contains(&backoff));
        if let Some(wait) = wait.filter(|wait| *wait <= Duration::from_secs(3600)) {
            assert!(backoff >= wait);
        }
    }
}

/// Checks a pattern in the first line against a path in the rest: an allowed path is within the
/// pattern at every kind of server, and a login or batch at any of them is found.
pub fn path_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let Some((pattern, path)) = text.split_once('\n') else {
        return;
    };
    path_readings(path.split('?').next().unwrap_or_default());
    let Ok(paths) = PathRules::new([pattern]) else {
        return;
    };
    // The reference backtracks exhaustively.
    if pattern.matches('*').count() > 4 || path.len() > 200 {
        return;
    }
    let rules = Rules::new(Vec::new(), paths, Vec::new());
    // A server that form-decodes paths finds no plus sign in any.
    if rules.evaluate("GET", path, "acme") == Decision::Allowed && !pattern.contains('+') {
        assert_eq!(
            servers::first_outside(&[pattern], path),
            None,
            "{path:?} is not within {pattern:?}"
        );
    }
}

/// Checks that the path of a login or a batch at any kind of server is treated as such.
fn path_readings(path: &str) {
    // Rejected otherwise.
    let Ok(readings) = PathReadings::of(path) else {
        return;
    };
    if let Some(server) = servers::first_reading(path, servers::is_login) {
        let found = endpoint_in(path, &readings);
        assert!(found.is_some(), "{path:?} is a login at {server}");
    }
    if let Some(server) = servers::first_reading(path, servers::is_batch) {
        let found = BatchPath::of(path, &readings);
        assert_ne!(found, BatchPath::Other, "{path:?} is a batch at {server}");
    }
}
