//! Valid and invalid configurations.

mod callers;
mod canary;
mod customers;
mod egress;
mod environment;
mod example;
mod fleet;
mod routes;
mod schema;
mod sections;

use std::time::Duration;

use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};
use tracing::level_filters::LevelFilter;

use super::*;
use crate::config::{
    AllowedHosts, BindAddress, Http2Mode, InstanceId, Limits, LogFormat, Quota, RouteLimit,
    RouteSettings, RouteTarget, SecretSource, TokenSettings, UpstreamEndpoint,
};
use citrix_wire::citrix::{AuthorizationScheme, TokenDialect};

/// The required keys.
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

/// Reads a configuration with [`LOGIN`].
fn read(text: &str) -> Result<Config, Vec<ConfigProblem>> {
    from_toml(text, pairs(&LOGIN))
}

#[track_caller]
fn accept(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{text}\n{}", printed(&problems)))
}

fn printed(problems: &[ConfigProblem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// Asserts that `text` has one problem, printed as `problem`.
#[track_caller]
fn rejects(text: &str, problem: &str) {
    assert_eq!(
        printed(&read(text).expect_err(text)),
        format!("{problem}\n"),
        "{text}"
    );
}

/// Asserts that `text` has one problem, which contains `part`.
#[track_caller]
fn rejects_with(text: &str, part: &str) {
    let problems = read(text).expect_err(text);
    assert!(
        problems.len() == 1 && problems[0].to_string().contains(part),
        "{text}\n{}",
        printed(&problems)
    );
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn boot_defaults_are_those_documented() {
    let config = accept("");
    let boot = &config.boot;
    assert!(config.warnings.is_empty());
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
    assert_eq!((boot.log.format, boot.log.level), (None, LevelFilter::INFO));
}

#[test]
fn customer_and_route_defaults_are_those_documented() {
    let live = accept("").live;
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
    assert_eq!(credential.api.url.to_string(), "https://api.cloud.com");
    assert_eq!(credential.api.authorization, AuthorizationScheme::Cws);
    let configured = |route: &&Arc<RouteSettings>| !route.built_in || route.prefix.is_empty();
    assert_eq!(live.routes.iter().filter(configured).count(), 1);
    assert_eq!(
        (live.routes[0].name(), live.routes[0].strip_prefix),
        ("/", false)
    );
    assert_eq!(live.routes[0].target, RouteTarget::CustomerApi);
    assert_eq!(live.hosts, AllowedHosts::Only(Vec::new()));
    assert!(live.access_log);
}

#[test]
fn timeout_and_limit_defaults_are_those_documented() {
    let live = accept("").live;
    assert_eq!(live.drain_timeout, secs(30));
    let upstream = &live.upstream;
    assert_eq!(
        (upstream.http2, &upstream.ca_file),
        (Http2Mode::Auto, &None)
    );
    let timeouts = [
        upstream.connect_timeout,
        upstream.response_timeout,
        upstream.idle_timeout,
        upstream.pool_idle_timeout,
        upstream.max_connection_age,
        upstream.retry_budget,
    ];
    assert_eq!(timeouts, [5, 100, 60, 60, 600, 10].map(secs));
    let token = TokenSettings {
        refresh_at: 0.75,
        startup_wait: secs(5),
        request_timeout: secs(15),
        min_forced_interval: secs(10),
    };
    assert_eq!(live.token, token);
    let limits = Limits {
        max_connections: 10_000,
        max_connections_per_address: 0,
        max_in_flight: 1024,
        max_queued: 1000,
        header_read_timeout: secs(10),
        body_idle_timeout: secs(60),
        keep_alive_timeout: secs(600),
        max_header_bytes: 64 << 10,
        max_body_bytes: 1 << 30,
        replay_buffer_bytes: 64 << 10,
    };
    assert_eq!(live.limits, limits);
}

fn limit(route: &str, max_concurrent: usize, seconds: u64) -> RouteLimit {
    RouteLimit {
        shared_as: route.to_owned(),
        quota: Quota::AtOnce(max_concurrent.try_into().unwrap()),
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

/// Reads a file that sets every key to a value other than its default.
fn full() -> Config {
    let text = include_str!("../../../tests/fixtures/config/full.toml");
    let [key, previous] = ["k", "p"].map(|letter| letter.repeat(32));
    let variables = [
        ("FIRST", "one"),
        ("SECOND", "two"),
        ("KEY", &*key),
        ("PREVIOUS", &*previous),
    ];
    from_toml(text, pairs(&variables)).unwrap()
}

#[test]
fn boot_keys_are_applied() {
    let boot = full().boot;
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
        (Some(LogFormat::Text), LevelFilter::DEBUG)
    );
}

#[test]
fn fleet_keys_are_applied() {
    let config = full();
    let fleet = config.live.fleet.as_ref().unwrap();
    assert_eq!(fleet.replicas_alone().get(), 3);
    assert_eq!(fleet.timeout, Duration::from_millis(100));
    assert_eq!(config.boot.replica, "gateway-0");
    let secrets = fleet.secrets.as_ref().unwrap();
    assert_eq!(secrets.key.expose_secret(), "k".repeat(32));
    let previous = secrets.key_previous.as_ref().unwrap();
    assert_eq!(previous.expose_secret(), "p".repeat(32));
    let password = |source: &Option<SecretSource>| source.as_ref().unwrap().read().unwrap();
    assert_eq!(password(&secrets.password).expose_secret(), "one");
    let store = config.boot.fleet_store.unwrap();
    assert_eq!((store.name.as_str(), store.database), ("test", 3));
    assert_eq!(store.user.as_deref(), Some("user"));
    assert!(store.tls.is_some() && !store.tokens && !store.limits);
    assert_eq!(store.lease, Duration::from_secs(3));
    let sentinels = store.sentinels.unwrap();
    let addresses: Vec<_> = sentinels
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["s1.example.net:26379", "s2.example.net:7"]);
    assert_eq!(sentinels.master, "main");
    assert_eq!(password(&sentinels.password).expose_secret(), "two");
}

#[test]
fn citrix_keys_are_applied() {
    let live = full().live;
    let credential = &live.credentials[0];
    assert_eq!(credential.client_id, "00123");
    let next = credential.client_secret_next.as_ref().unwrap();
    let secrets = [&credential.client_secret, next].map(|source| source.read().unwrap());
    assert_eq!(
        secrets.each_ref().map(SecretString::expose_secret),
        ["one", "two"]
    );
    let InstanceId::Fixed(site) = &credential.instance_id else {
        panic!("{:?}", credential.instance_id)
    };
    assert_eq!(site, "61603f15-cdf9-4c7f-99ff-91636601a795");
    assert_eq!(credential.token_url, "http://localhost:9/login");
    assert_eq!(credential.token_dialect, TokenDialect::Oauth2);
    assert_eq!(
        (credential.api.url.to_string(), credential.api.authorization),
        (
            "https://gateway.example.com/base".to_owned(),
            AuthorizationScheme::Bearer
        )
    );
}

#[test]
fn route_keys_are_applied() {
    let live = full().live;
    let (cws, bearer) = (AuthorizationScheme::Cws, AuthorizationScheme::Bearer);
    let routes: Vec<_> = live
        .routes
        .iter()
        .filter(|route| !route.built_in || route.prefix.is_empty())
        .map(|route| match &route.target {
            RouteTarget::Fixed(endpoint) => (
                route.name(),
                endpoint.url.to_string(),
                route.strip_prefix,
                Some(endpoint.authorization),
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
    assert_eq!(
        configured_limits(&live),
        [&None, &Some(limit("/a", 17, 18))]
    );
    let collapse = live.routes.iter().filter(|route| !route.built_in);
    let collapse: Vec<bool> = collapse.map(|route| route.collapse).collect();
    assert_eq!(collapse, [false, true]);
    assert_eq!(
        live.hosts,
        AllowedHosts::Only(vec!["gateway.example.net".to_owned()])
    );
}

#[test]
fn timeout_and_limit_keys_are_applied() {
    let live = full().live;
    assert!(!live.access_log);
    assert_eq!(live.drain_timeout, secs(16));
    let upstream = &live.upstream;
    assert_eq!(upstream.http2, Http2Mode::Never);
    let timeouts = [
        upstream.connect_timeout,
        upstream.response_timeout,
        upstream.idle_timeout,
        upstream.pool_idle_timeout,
        upstream.max_connection_age,
        upstream.retry_budget,
    ];
    assert_eq!(timeouts, [1, 2, 3, 4, 5400, 5].map(secs));
    let token = TokenSettings {
        refresh_at: 0.5,
        startup_wait: secs(0),
        request_timeout: secs(6),
        min_forced_interval: secs(7),
    };
    assert_eq!(live.token, token);
    let limits = Limits {
        max_connections: 11,
        max_connections_per_address: 0,
        max_in_flight: 12,
        max_queued: 13,
        header_read_timeout: Duration::from_millis(500),
        body_idle_timeout: secs(14),
        keep_alive_timeout: secs(15),
        max_header_bytes: 8192,
        max_body_bytes: 4096,
        replay_buffer_bytes: 1024,
    };
    assert_eq!(live.limits, limits);
}

#[test]
fn all_problems_are_reported() {
    let text = include_str!("../../../tests/fixtures/config/five-mistakes.toml");
    let problems = printed(&from_toml(text, pairs(&[("SECRET", "s3cret")])).unwrap_err());
    let expected = "\
citrix.custmer_id: unknown key; did you mean customer_id?
listen.address: 0.0.0.0:8080 is not a loopback address, and without [[caller]] blocks every client that can connect \
acts with the API client's permissions; add [[caller]] blocks (citrix-auth-proxy caller new NAME), listen on loopback \
or a unix socket, or set allow_anonymous = true in [insecure]
upstream.connect_timeout: invalid duration 5; expected, for example, \"5s\"
limits.max_header_bytes: \"1KiB\" is not between 8KiB and 1MiB; expected, for example, \"64KiB\"
limits.max_in_flight: invalid integer \"many\"; expected, for example, 1024
";
    assert_eq!(problems, expected);
}

#[test]
fn syntax_error_is_the_only_problem() {
    let text = include_str!("../../../tests/fixtures/config/syntax-error.toml");
    let problems = printed(&from_toml(text, []).unwrap_err());
    assert_eq!(
        problems,
        "line 4, column 15: key with no value, expected `=`\n"
    );
}

#[test]
fn missing_required_keys_are_reported() {
    let problems = printed(&from_toml("", []).unwrap_err());
    assert_eq!(
        problems,
        "\
citrix.customer_id: missing: the customer id in Citrix Cloud; expected, for example, \"acme\" (or \
CITRIX_CUSTOMER_ID=acme)
citrix.client_id: missing: the API client's id; expected, for example, \"6e4f0b2a-…\" (or \
CITRIX_CLIENT_ID=6e4f0b2a-…)
citrix.client_secret: missing: the API client's secret; expected, for example, { file = \
\"/run/secrets/citrix-client-secret\" } (or CITRIX_CLIENT_SECRET=…)
"
    );
}

#[test]
fn unknown_key_suggests_a_similar_one() {
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
            "citrix.customer: unknown key; did you mean customer_id?",
        ),
        (
            "[citrix]\nsecret = 's3cret'",
            "citrix.secret: unknown key; did you mean client_secret?",
        ),
    ] {
        rejects(text, problem);
    }
    // An unknown key that explains a missing one is the only problem.
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

/// Invalid values, each with a part of the problem.
const INVALID_VALUES: [(&str, &str); 31] = [
    ("citrix = 1", "citrix: must be a table"),
    (
        "[limits]\nmax_in_flight = '1024'",
        "invalid integer \"1024\"",
    ),
    ("[limits]\nmax_in_flight = 1.5", "invalid integer 1.5"),
    ("[limits]\nmax_in_flight = [1]", "invalid integer […]"),
    ("[limits]\nmax_in_flight = {a=1}", "invalid integer {…}"),
    (
        "[limits]\nmax_in_flight = 1979-05-27",
        "invalid integer 1979-05-27",
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
    ("[limits]\nmax_body_bytes = -1", "invalid size -1"),
    (
        "[limits]\nmax_body_bytes = '1 parsec'",
        "invalid size \"1 parsec\"",
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
        "invalid duration \"10\"",
    ),
    (
        "[limits]\nbody_idle_timeout = '5 sec.'",
        "limits.body_idle_timeout: invalid duration \"5 sec.\"; expected, for example, \"1m\"",
    ),
    (
        "[token]\nrefresh_at = 0.05",
        "0.05 is not between 0.1 and 0.95",
    ),
    ("[token]\nrefresh_at = 1", "1 is not between 0.1 and 0.95"),
    ("[token]\nrefresh_at = nan", "NaN is not between"),
    ("[token]\nrefresh_at = 'half'", "invalid fraction \"half\""),
    ("[upstream]\nhttp2 = true", "invalid string true"),
    (
        "[upstream]\nhttp2 = 'always'",
        "\"always\" is not one of auto, never",
    ),
    (
        "[upstream]\nca_file = '/nowhere/ca.pem'",
        "cannot read \"/nowhere/ca.pem\": No such file",
    ),
    ("[upstream]\nca_file = '/'", "\"/\" is a directory"),
    (
        "[log]\nlevel = 'verbose'",
        "is not one of info, off, error, warn, debug, trace",
    ),
    ("[log]\naccess = 'yes'", "invalid boolean \"yes\""),
    ("[lifecycle]\ndrain_timeout = '0s'", "is not between"),
    (
        "[route]\nprefix = '/a'",
        "route: must be an array of tables: [[route]]",
    ),
    ("route = [1]", "route[0]: must be a table"),
    (
        "[limits]\nmax_queued = 0",
        "0 is not between 1 and 4294967295",
    ),
    (
        "[login]\ntoken_lifetime = '0s'",
        "is not between 1s and 24h",
    ),
];

#[test]
fn invalid_value_is_rejected() {
    for (text, part) in INVALID_VALUES {
        rejects_with(text, part);
    }
}

#[test]
fn unreadable_file_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let load = || load(Some(&path), pairs(&LOGIN));
    let place = path.display().to_string();
    assert!(printed(&load().unwrap_err()).starts_with(&format!("{place}: cannot read the file: ")));
    std::fs::write(&path, b"\xff").unwrap();
    assert_eq!(
        printed(&load().unwrap_err()),
        format!("{place}: not valid UTF-8\n")
    );
    for utf16 in [&b"\xff\xfe[\0"[..], b"\xfe\xff\0["] {
        std::fs::write(&path, utf16).unwrap();
        assert!(
            printed(&load().unwrap_err()).starts_with(&format!("{place}: is UTF-16, not UTF-8;"))
        );
    }
    std::fs::write(&path, "[listen]\naddress 1").unwrap();
    assert!(printed(&load().unwrap_err()).starts_with(&format!("{place}, line 2, column 9: ")));
    std::fs::write(&path, "\u{feff}[listen]\r\naddress = 'unix:/s'\r\n").unwrap();
    assert_eq!(
        load().unwrap().boot.listeners[0].address,
        BindAddress::Unix("/s".into())
    );
    assert!(super::load(None, pairs(&LOGIN)).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".*") {
        if let Err(problems) = from_toml(&text, []) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn nearly_valid_lines_never_panic(
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
