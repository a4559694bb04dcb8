//! `[fleet]`.

use std::fs;

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Returns a configuration with a store.
fn with_store(url: &str, more: &str) -> String {
    format!("[fleet]\nurl = '{url}'\nkey = {{ env = 'KEY' }}\n{more}")
}

/// Returns the problems of a configuration with a store.
fn problems(url: &str, more: &str) -> Vec<String> {
    let env = [&LOGIN[..], &[("KEY", KEY), ("SHORT", "short"), ("P", "p")]].concat();
    let found = from_toml(&with_store(url, more), pairs(&env)).err();
    found.iter().flatten().map(ToString::to_string).collect()
}

#[test]
fn replica_without_a_fleet_is_one_of_one() {
    let config = accept("");
    assert!(config.live.fleet.is_none());
    assert_eq!(config.live.replicas().get(), 1);
    assert_eq!(config.boot.replica, "");
    assert!(config.boot.fleet_store.is_none());
}

#[test]
fn replicas_without_a_store_divide_the_limits() {
    let config = accept("[fleet]\nreplicas = 3\nreplica = 'gateway-1'\ntimeout = '100ms'\n");
    let fleet = config.live.fleet.as_ref().unwrap();
    assert_eq!(fleet.replicas, std::num::NonZeroU32::new(3));
    assert_eq!(fleet.timeout, Duration::from_millis(100));
    assert_eq!(config.live.replicas().get(), 3);
    assert_eq!(config.boot.replica, "gateway-1");
    let variable = ("CITRIX_AUTH_PROXY_FLEET__REPLICAS", "2");
    let config = from_toml("", pairs(&[&LOGIN[..], &[variable]].concat())).unwrap();
    assert_eq!(config.live.replicas().get(), 2);
}

#[test]
fn fleet_without_a_store_requires_the_number_of_replicas() {
    let missing = "fleet.replicas: missing: the number of replicas; expected, for example, 3";
    rejects("[fleet]", missing);
    rejects("[fleet]\nreplicas = 0", missing);
    rejects_with(
        "[fleet]\nreplicas = 10001",
        "10001 is not between 0 and 10000",
    );
    rejects_with("fleet = 3", "fleet: must be a table");
}

#[test]
fn replica_is_named_after_its_pod_or_host() {
    let name = |env: &[(&str, &str)], text: &str| {
        let env = [&LOGIN[..], env].concat();
        from_toml(text, pairs(&env)).unwrap().boot.replica
    };
    let (pod, host) = (("POD_NAME", "gateway-7c9f"), ("HOSTNAME", "node-1"));
    assert_eq!(name(&[pod, host], ""), "gateway-7c9f");
    assert_eq!(name(&[host], ""), "node-1");
    assert_eq!(name(&[("HOSTNAME", "a host")], ""), "");
    assert_eq!(name(&[pod], "[fleet]\nreplicas = 2\nreplica = 'x'"), "x");
    for invalid in ["''", "'a b'", "3"] {
        rejects_with(
            &format!("[fleet]\nreplicas = 2\nreplica = {invalid}"),
            "fleet.replica: ",
        );
    }
}

#[test]
fn valid_store_is_accepted() {
    for (url, more) in [
        ("rediss://cap@h.example:6380/0", ""),
        (
            "redis://127.0.0.1:6379",
            "lease = '3s'\nname = 'a-1'\nlimits = false\n",
        ),
        ("redis+unix:///run/redis.sock", "password = { env = 'P' }\n"),
        ("redis://h", "[insecure]\nplain_fleet = true\n"),
        (
            "rediss://h",
            "sentinels = ['a', 'b:7']\nsentinel_master = 'm'\n",
        ),
        (
            "redis://h",
            "sentinels = ['localhost']\nsentinel_master = 'm'\nsentinel_password = { env = 'P' }\n",
        ),
    ] {
        assert_eq!(problems(url, more), [""; 0], "{url} {more}");
    }
}

/// Asserts that a configuration with a store has one more problem, which begins with `part`.
#[track_caller]
fn reports(url: &str, more: &str, part: &str) {
    let found = problems(url, more);
    let is_reported = found.len() == 1 && found[0].starts_with(part);
    assert!(is_reported, "{url} {more}: {found:?}");
}

#[test]
fn invalid_store_is_reported() {
    let url = "rediss://h";
    reports(
        "rediss://u:p@h",
        "",
        "fleet.url: the URL contains a password",
    );
    reports(
        "redis://h",
        "",
        "fleet.url: h:6379 is not a loopback address",
    );
    reports(url, "name = 'A'\n", "fleet.name: invalid name \"A\"");
    let short = "fleet.lease: 2s is less than 6 times fleet.timeout";
    reports(url, "lease = '2s'\n", short);
    let range = "fleet.timeout: \"1ms\" is not between 10ms and 10s";
    reports(url, "timeout = '1ms'\n", range);
    let previous = "key_previous = { env = 'SHORT' }\n";
    reports(url, previous, "fleet.key_previous: the key has 5 bytes");
}

#[test]
fn invalid_sentinels_are_reported() {
    let url = "rediss://h";
    let (one, master) = ("sentinels = ['h']\n", "sentinel_master = 'm'\n");
    reports(url, one, "fleet.sentinel_master: missing");
    reports(
        url,
        master,
        "fleet.sentinels: missing: required by sentinel_master",
    );
    let none = format!("sentinels = []\n{master}");
    reports(url, &none, "fleet.sentinels: must not be an empty list");
    let valid = format!("{one}{master}");
    let plain = "fleet.sentinels: h:26379 is not a loopback address";
    reports("redis://h", &valid, plain);
    let insecure = format!("{valid}[insecure]\nplain_fleet = true\n");
    let excluded = "fleet.url: the scheme redis+unix excludes sentinels";
    reports("redis+unix:///r", &insecure, excluded);
}

#[test]
fn invalid_tls_of_a_store_is_reported() {
    let scheme = "fleet.tls: requires a url with the scheme rediss";
    reports("redis://[::1]", "[fleet.tls]\n", scheme);
    let key = "[fleet.tls]\nkey = 'Cargo.toml'\n";
    reports(
        "rediss://h",
        key,
        "fleet.tls.certificate: missing: required by key",
    );
    let ca = "[fleet.tls]\nca_file = '/no/such'\n";
    reports("rediss://h", ca, "fleet.tls.ca_file: cannot read");
}

#[test]
fn every_problem_of_a_fleet_is_reported_at_once() {
    let found = problems(
        "http://h",
        "name = ''\nlease = '1s'\nreplicas = -1\ntokens = 1\n",
    );
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn keys_of_a_store_require_its_url() {
    let text = "[fleet]\nreplicas = 2\nkey = { env = 'CITRIX_CLIENT_SECRET' }\n[fleet.tls]\n";
    let found = read(text).unwrap_err();
    assert_eq!(found.len(), 2, "{}", printed(&found));
    let printed = printed(&found);
    assert!(
        printed.contains("fleet.url: missing: required by key, tls; "),
        "{printed}"
    );
    assert!(
        printed.contains("fleet.key: the key has 6 bytes"),
        "{printed}"
    );
    let found = super::printed(&read("[fleet]\nurl = 'rediss://h'").unwrap_err());
    let missing = "fleet.key: missing: the key that seals what replicas share";
    assert!(found.contains(missing), "{found}");
}

#[test]
fn key_of_the_service_manager_is_used_with_a_store() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("fleet_key"), "short").unwrap();
    let directory = directory.path().to_str().unwrap().to_owned();
    let env = [&LOGIN[..], &[("CREDENTIALS_DIRECTORY", &*directory)]].concat();
    let with = |text: &str| from_toml(text, pairs(&env));
    let found = with("[fleet]\nurl = 'rediss://h'").unwrap_err();
    assert!(
        printed(&found).contains("fleet.key: the key has 5 bytes"),
        "{found:?}"
    );
    assert!(with("[fleet]\nreplicas = 2").is_ok());
}

#[test]
fn unencrypted_store_logs_a_warning() {
    let warnings = accept("[insecure]\nplain_fleet = true").warnings;
    assert_eq!(
        warnings,
        ["insecure.plain_fleet: connections to the fleet's store may be unencrypted"]
    );
}
