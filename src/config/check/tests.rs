//! What is accepted, what is not, and what is said about it.

mod callers;
mod canary;
mod customers;
mod egress;
mod environment;
mod example;
mod routes;
mod sections;

use std::time::Duration;

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use tracing::level_filters::LevelFilter;

use super::*;
use crate::config::{
    AllowedHosts, BindAddress, Http2Mode, InstanceId, LogFormat, Quota, Route, RouteLimit,
    RouteTarget, UpstreamEndpoint,
};
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};

/// What every configuration needs.
const LOGIN: [(&str, &str); 3] = [
    ("CITRIX_CUSTOMER_ID", "acme"),
    ("CITRIX_CLIENT_ID", "id"),
    ("CITRIX_CLIENT_SECRET", "s3cret"),
];

fn pairs(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A configuration with a login from the environment.
fn read(text: &str) -> Result<Config, Vec<ConfigProblem>> {
    from_toml(text, pairs(&LOGIN))
}

#[track_caller]
fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{text}\n{}", printed(&problems)))
}

fn printed(problems: &[ConfigProblem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// `text` has one problem, printed like this.
#[track_caller]
fn refused(text: &str, problem: &str) {
    assert_eq!(
        printed(&read(text).expect_err(text)),
        format!("{problem}\n"),
        "{text}"
    );
}

/// `text` has one problem, with this in it.
#[track_caller]
fn refused_since(text: &str, why: &str) {
    let problems = read(text).expect_err(text);
    assert!(
        problems.len() == 1 && problems[0].to_string().contains(why),
        "{text}\n{}",
        printed(&problems)
    );
}

#[test]
fn without_a_word_everything_has_the_documented_default() {
    let config = good("");
    let (boot, live) = (&config.boot, &config.live);
    assert_eq!(boot.listeners.len(), 1);
    assert_eq!(boot.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert!(!boot.listeners[0].tls && boot.certificate.is_none());
    assert_eq!(boot.unix_mode, 0o660);
    assert_eq!(
        Some(boot.workers),
        std::thread::available_parallelism().ok()
    );
    assert_eq!(boot.admin.address.to_string(), "127.0.0.1:9090");
    assert_eq!(boot.admin.secret_sha256, None);
    assert_eq!(
        (boot.log.format, boot.log.level),
        (LogFormat::Json, LevelFilter::INFO)
    );

    let credential = &live.credentials[0];
    assert_eq!(
        (credential.customer(), credential.client_id.as_str()),
        ("acme", "id")
    );
    assert_eq!(
        credential.client_secret.read().unwrap().expose_secret(),
        "s3cret"
    );
    assert!(credential.client_secret_next.is_none());
    assert_eq!(credential.instance_id, InstanceId::Auto);
    assert_eq!(
        credential.token_url,
        "https://api.cloud.com/cctrustoauth2/acme/tokens/clients"
    );
    assert_eq!(credential.token_dialect, TokenDialect::Oauth2);
    let configured = |route: &&Arc<Route>| !route.built_in || route.prefix.is_empty();
    assert_eq!(live.routes.iter().filter(configured).count(), 1);
    assert_eq!(
        (live.routes[0].name(), live.routes[0].strip_prefix),
        ("/", false)
    );
    assert_eq!(live.routes[0].target, RouteTarget::CustomerApi);
    assert_eq!(credential.api.url.to_string(), "https://api.cloud.com");
    assert_eq!(credential.api.authorization, AuthorizationScheme::Cws);
    assert_eq!(live.hosts, AllowedHosts::Only(Vec::new()));
    assert!(live.access_log && config.warnings.is_empty());
    assert_eq!(live.drain_timeout, Duration::from_secs(30));

    let upstream = &live.upstream;
    assert_eq!(
        (upstream.http2, &upstream.ca_file),
        (Http2Mode::Auto, &None)
    );
    let seconds = |duration: Duration| duration.as_secs_f64();
    let timeouts = [
        upstream.connect_timeout,
        upstream.response_timeout,
        upstream.idle_timeout,
        upstream.pool_idle_timeout,
    ];
    assert_eq!(timeouts.map(seconds), [5.0, 100.0, 60.0, 60.0]);
    assert_eq!(
        [upstream.max_connection_age, upstream.retry_budget].map(seconds),
        [600.0, 10.0]
    );
    assert_eq!(live.token.refresh_at, 0.75);
    let waits = [
        live.token.startup_wait,
        live.token.request_timeout,
        live.token.min_forced_interval,
    ];
    assert_eq!(waits.map(seconds), [5.0, 15.0, 10.0]);
    let limits = live.limits;
    let timeouts = [
        limits.header_read_timeout,
        limits.body_idle_timeout,
        limits.keep_alive_timeout,
    ];
    assert_eq!(timeouts.map(seconds), [10.0, 60.0, 600.0]);
    assert_eq!(
        (
            limits.max_connections,
            limits.max_in_flight,
            limits.max_queued
        ),
        (10_000, 1024, 1000)
    );
    let sizes = (
        limits.max_header_bytes,
        limits.max_body_bytes,
        limits.replay_buffer_bytes,
    );
    assert_eq!(sizes, (64 << 10, 1 << 30, 64 << 10));
}

/// So many at a time; the others wait for so many seconds.
fn limit(route: &str, at_once: usize, seconds: u64) -> RouteLimit {
    RouteLimit {
        shared_as: route.to_owned(),
        quota: Quota::AtOnce(at_once.try_into().unwrap()),
        queue_timeout: Duration::from_secs(seconds),
    }
}

fn configured_limits(live: &Live) -> Vec<&Option<RouteLimit>> {
    live.routes
        .iter()
        .filter(|route| !route.built_in)
        .map(|route| &route.limit)
        .collect()
}

#[test]
fn every_built_key_does_what_it_says() {
    let text = include_str!("../../../tests/fixtures/config/full.toml");
    let config = from_toml(text, pairs(&[("FIRST", "one"), ("SECOND", "two")])).unwrap();
    let (boot, live) = (&config.boot, &config.live);
    let addresses: Vec<String> = boot
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        ["127.0.0.1:8081", "[::1]:8081", "unix:/run/gateway.sock"]
    );
    assert_eq!((boot.unix_mode, boot.workers.get()), (0o600, 3));
    assert_eq!(boot.admin.address.to_string(), "0.0.0.0:9091");
    assert_eq!(
        boot.admin
            .secret_sha256
            .map(|hash| (hash.as_bytes()[0], hash.as_bytes()[31])),
        Some((0x48, 0xb2))
    );
    assert_eq!(
        (boot.log.format, boot.log.level),
        (LogFormat::Text, LevelFilter::DEBUG)
    );
    assert!(!live.access_log);

    let credential = &live.credentials[0];
    assert_eq!(credential.client_id, "00123");
    assert_eq!(
        credential.client_secret.read().unwrap().expose_secret(),
        "one"
    );
    assert_eq!(
        credential
            .client_secret_next
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose_secret(),
        "two"
    );
    let InstanceId::Fixed(site) = &credential.instance_id else {
        panic!("{:?}", credential.instance_id)
    };
    assert_eq!(site, "61603f15-cdf9-4c7f-99ff-91636601a795");
    assert_eq!(credential.token_url, "http://localhost:9/login");
    assert_eq!(credential.token_dialect, TokenDialect::Oauth2);

    let (cws, bearer) = (AuthorizationScheme::Cws, AuthorizationScheme::Bearer);
    let api = &credential.api;
    assert_eq!(
        (api.url.to_string(), api.authorization),
        ("https://gateway.example.com/base".to_owned(), bearer)
    );
    let routes: Vec<_> = live
        .routes
        .iter()
        .filter(|route| !route.built_in || route.prefix.is_empty())
        .map(|route| match &route.target {
            RouteTarget::Fixed(to) => (
                route.name(),
                to.url.to_string(),
                route.strip_prefix,
                Some(to.authorization),
            ),
            _ => (route.name(), "the API".to_owned(), route.strip_prefix, None),
        })
        .collect();
    assert_eq!(
        routes,
        [
            (
                "/a/deeper",
                "http://127.0.0.1:7".to_owned(),
                false,
                Some(bearer)
            ),
            ("/a", "https://a.example.com/x".to_owned(), true, Some(cws)),
            ("/", "the API".to_owned(), false, None),
        ]
    );
    assert_eq!(configured_limits(live), [&None, &Some(limit("/a", 17, 18))]);
    assert_eq!(
        live.hosts,
        AllowedHosts::Only(vec!["gateway.example.net".to_owned()])
    );
    assert_eq!(live.upstream.http2, Http2Mode::Never);
    let ms = |duration: Duration| duration.as_millis();
    let upstream = &live.upstream;
    assert_eq!(
        [upstream.connect_timeout, upstream.response_timeout].map(ms),
        [1000, 2000]
    );
    assert_eq!(
        [upstream.idle_timeout, upstream.pool_idle_timeout].map(ms),
        [3000, 4000]
    );
    assert_eq!(
        [upstream.max_connection_age, upstream.retry_budget].map(ms),
        [5_400_000, 5000]
    );
    let token = live.token;
    assert_eq!(token.refresh_at, 0.5);
    assert_eq!(
        [
            token.startup_wait,
            token.request_timeout,
            token.min_forced_interval
        ]
        .map(ms),
        [0, 6000, 7000]
    );
    let limits = live.limits;
    assert_eq!(
        (
            limits.max_connections,
            limits.max_in_flight,
            limits.max_queued
        ),
        (11, 12, 13)
    );
    let timeouts = [
        limits.header_read_timeout,
        limits.body_idle_timeout,
        limits.keep_alive_timeout,
    ];
    assert_eq!(timeouts.map(ms), [500, 14_000, 15_000]);
    let sizes = (
        limits.max_header_bytes,
        limits.max_body_bytes,
        limits.replay_buffer_bytes,
    );
    assert_eq!(sizes, (8192, 4096, 1024));
    assert_eq!(ms(live.drain_timeout), 16_000);
}

#[test]
fn five_mistakes_are_five_problems() {
    let text = include_str!("../../../tests/fixtures/config/five-mistakes.toml");
    let problems = printed(&from_toml(text, pairs(&[("SECRET", "s3cret")])).unwrap_err());
    let expected = "\
citrix.custmer_id: unknown key; did you mean customer_id?
listen.address: 0.0.0.0:8080 can be reached from other machines, and whoever reaches it acts with this API \
client's rights; say who may by [[caller]] blocks (citrix-auth-proxy caller new NAME), listen on loopback or a \
unix socket, or serve anyone by allow_anonymous = true in [insecure]; for example: address = \"127.0.0.1:8080\"
upstream.connect_timeout: 5 is not a duration, which is a number with a unit: ms, s, m or h; for example: \
connect_timeout = \"5s\"
limits.max_header_bytes: \"1KiB\" is not between 8KiB and 1MiB; for example: max_header_bytes = \"64KiB\"
limits.max_in_flight: \"many\" is not a whole number; for example: max_in_flight = 1024
";
    assert_eq!(problems, expected);
}

#[test]
fn syntax_errors_do_not_hide_the_mistakes_beside_them() {
    let text = include_str!("../../../tests/fixtures/config/broken-lines.toml");
    let problems = printed(&from_toml(text, []).unwrap_err());
    assert!(!problems.contains("c4nary"), "{problems}");
    let expected = "\
line 3, column 20: invalid basic string, expected `\"`
line 4, column 13: invalid float, expected `inf`
line 5, column 15: key with no value, expected `=`
line 10, column 18: string values must be quoted, expected literal string
line 12, column 5: unclosed table, expected `]`
line 16, column 11: a number that TOML cannot hold
limits.max_conections: unknown key; did you mean max_connections?
limits.max_in_flight: 0 is not between 1 and 4294967295; for example: max_in_flight = 1024
";
    assert_eq!(problems, expected);
}

#[test]
fn what_is_required_is_missed_by_name() {
    let problems = printed(&from_toml("", []).unwrap_err());
    assert_eq!(
        problems,
        "\
citrix.customer_id: missing: the customer id that Citrix Cloud shows for its API clients; for example: \
customer_id = \"acme\" (or CITRIX_CUSTOMER_ID=acme)
citrix.client_id: missing: the id of an API client of Citrix Cloud; for example: client_id = \"6e4f0b2a-…\" (or \
CITRIX_CLIENT_ID=6e4f0b2a-…)
citrix.client_secret: missing: the API client's secret; for example: client_secret = { file = \
\"/run/secrets/citrix-client-secret\" } (or CITRIX_CLIENT_SECRET=…)
"
    );
}

#[test]
fn unknown_keys_are_told_with_what_was_probably_meant() {
    for (text, problem) in [
        (
            "[limits]\nmax_inflight = 1",
            "limits.max_inflight: unknown key; did you mean max_in_flight?",
        ),
        (
            "[limits]\ndrain_timeout = 1",
            "limits.drain_timeout: unknown key; did you mean lifecycle.drain_timeout?",
        ),
        ("[limts]\nx = 1", "limts: unknown key; did you mean limits?"),
        (
            "[listen]\nTLS = {}",
            "listen.TLS: unknown key; did you mean tls?",
        ),
        ("zzz = 1", "zzz: unknown key"),
        ("\"a.b\\n\" = 1", "\"a.b\\n\": unknown key"),
        (
            "[citrix]\ncustomer = 'acme'",
            "citrix.customer: this key is called citrix.customer_id",
        ),
        (
            "[citrix]\nsecret = 's3cret'",
            "citrix.secret: this key is called citrix.client_secret",
        ),
    ] {
        refused(text, problem);
    }
    // The wrong name explains why the right one is missing.
    for text in [
        "[citrix]\ncustomer = 1\nclientid = 1\nsecret = 1",
        "[citirx]\ncustomer_id = 'a'",
    ] {
        let problems = from_toml(text, []).unwrap_err();
        assert!(
            !printed(&problems).contains("missing"),
            "{text}\n{}",
            printed(&problems)
        );
    }
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    for (text, why) in [
        ("citrix = 1", "citrix: must be a table"),
        (
            "[limits]\nmax_in_flight = '1024'",
            "\"1024\" is not a whole number",
        ),
        ("[limits]\nmax_in_flight = 1.5", "1.5 is not a whole number"),
        (
            "[limits]\nmax_in_flight = [1]",
            "this list is not a whole number",
        ),
        (
            "[limits]\nmax_in_flight = {a=1}",
            "a table is not a whole number",
        ),
        (
            "[limits]\nmax_in_flight = 1979-05-27",
            "a date is not a whole number",
        ),
        (
            "[limits]\nmax_connections = 4294967296",
            "is not between 1 and",
        ),
        (
            "[limits]\nmax_header_bytes = '8191'",
            "is not between 8KiB and 1MiB",
        ),
        (
            "[limits]\nmax_header_bytes = '2MiB'",
            "is not between 8KiB and 1MiB",
        ),
        ("[limits]\nmax_body_bytes = 0", "0 is not between 1B and"),
        ("[limits]\nmax_body_bytes = -1", "-1 is not a size"),
        (
            "[limits]\nmax_body_bytes = '1 parsec'",
            "\"1 parsec\" is not a size",
        ),
        (
            "[limits]\nbody_idle_timeout = '0s'",
            "is not between 1ms and 24h",
        ),
        (
            "[limits]\nbody_idle_timeout = '25h'",
            "is not between 1ms and 24h",
        ),
        (
            "[limits]\nbody_idle_timeout = '10'",
            "\"10\" is not a duration",
        ),
        (
            "[limits]\nbody_idle_timeout = '10 parsecs'",
            "is not a duration",
        ),
        (
            "[token]\nrefresh_at = 0.05",
            "0.05 is not between 0.1 and 0.95",
        ),
        ("[token]\nrefresh_at = 1", "1 is not between 0.1 and 0.95"),
        ("[token]\nrefresh_at = nan", "NaN is not between"),
        ("[token]\nrefresh_at = 'half'", "\"half\" is not a fraction"),
        ("[upstream]\nhttp2 = true", "true is not a string in quotes"),
        (
            "[upstream]\nhttp2 = 'always'",
            "\"always\" is none of auto, never",
        ),
        (
            "[upstream]\nca_file = '/nowhere/ca.pem'",
            "\"/nowhere/ca.pem\" cannot be read: No such file",
        ),
        ("[upstream]\nca_file = '/'", "is a directory"),
        (
            "[log]\nlevel = 'verbose'",
            "is none of info, off, error, warn, debug, trace",
        ),
        ("[log]\naccess = 'yes'", "\"yes\" is neither true nor false"),
        ("[lifecycle]\ndrain_timeout = '0s'", "is not between"),
        (
            "[route]\nprefix = '/a'",
            "route: must be a list of blocks, each below a line [[route]]",
        ),
        ("route = [1]", "route[0]: must be a table"),
    ] {
        refused_since(text, why);
    }
}

#[test]
fn load_reads_a_file_and_says_when_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let load = || load(Some(&path), pairs(&LOGIN));
    let place = path.display().to_string();
    assert!(printed(&load().unwrap_err()).starts_with(&format!("{place}: cannot be read: ")));
    std::fs::write(&path, b"\xff").unwrap();
    assert_eq!(
        printed(&load().unwrap_err()),
        format!("{place}: is not UTF-8 text\n")
    );
    std::fs::write(&path, "\u{feff}[listen]\r\naddress = 'unix:/s'\r\n").unwrap();
    assert_eq!(
        load().unwrap().boot.listeners[0].address,
        BindAddress::Unix("/s".into())
    );
    assert!(super::load(None, pairs(&LOGIN)).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_errors_have_a_reason(text in ".*") {
        if let Err(problems) = from_toml(&text, []) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn lines_that_are_nearly_right_never_panic(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "[citrix]", "[listen]", "[[route]]", "[[customer]]", "default =", "[limits", "[listen.tls]", "prefix =", "address =",
                    "client_secret =", "customer_id =", "hosts =", "tls =", "max_in_flight =", "x",
                ]),
                prop::sample::select(vec![
                    "", "1", "'a'", "\"a", "{ file = '/' }", "{ env = 'X' }", "[", "['*']", "{", "0.1", "/a",
                    "99999999999999999999", "1979-05-27", "\"\"\"", "'/a'", "'https://a'",
                ]),
            ),
            0..12,
        ),
        value in ".*",
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let env = [("X", value.as_str()), ("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", value.as_str()),
            ("CITRIX_AUTH_PROXY_LISTEN__TLS", value.as_str()), ("CITRIX_CUSTOMER_ID", value.as_str())];
        if let Err(problems) = from_toml(&text, pairs(&env)) {
            prop_assert!(!problems.is_empty());
        }
    }
}
