//! `upstream.proxy_url` and the environment.

use super::*;

fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<ConfigProblem>> {
    let all: Vec<_> = LOGIN.iter().chain(env).copied().collect();
    from_toml(text, pairs(&all))
}

/// Returns the proxy for a host; `-`: none.
#[track_caller]
fn proxy_for(text: &str, env: &[(&str, &str)], host: &str) -> String {
    let config =
        with(text, env).unwrap_or_else(|problems| panic!("{text}\n{}", printed(&problems)));
    config
        .live
        .upstream
        .egress
        .proxy_for(host)
        .map_or("-".to_owned(), |proxy| proxy.to_string())
}

const KEY: &str = "[upstream]\nproxy_url = 'http://key:1'";

#[test]
fn key_overrides_the_environment() {
    for (text, env, proxy) in [
        ("", &[][..], "-"),
        (
            "",
            &[
                ("HTTPS_PROXY", "http://upper:1"),
                ("https_proxy", "http://lower:1"),
            ],
            "upper:1",
        ),
        (
            "",
            &[("HTTPS_PROXY", ""), ("https_proxy", "http://lower:1")],
            "lower:1",
        ),
        ("", &[("HTTPS_PROXY", "bare:8080")], "bare:8080"),
        ("", &[("HTTP_PROXY", "http://other:1")], "-"),
        (KEY, &[("HTTPS_PROXY", "http://upper:1")], "key:1"),
        (
            "",
            &[("CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL", "http://variable:1")],
            "variable:1",
        ),
        (
            KEY,
            &[("CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL", "http://variable:1")],
            "variable:1",
        ),
        (
            "[upstream]\nproxy_url = ''",
            &[("HTTPS_PROXY", "http://upper:1")],
            "-",
        ),
        (KEY, &[("CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL", "")], "-"),
    ] {
        assert_eq!(
            proxy_for(text, env, "api.cloud.com"),
            proxy,
            "{text} {env:?}"
        );
    }
}

#[test]
fn no_proxy_applies_to_the_key() {
    for (name, text) in [
        ("NO_PROXY", KEY),
        ("no_proxy", KEY),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
    ] {
        let env = [
            ("HTTPS_PROXY", "http://upper:1"),
            (name, "a.example,.cloud.com,10.0.0.0/8"),
        ];
        for (host, direct) in [
            ("api.cloud.com", true),
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("api.citrixcloud.jp", false),
        ] {
            assert_eq!(
                proxy_for(text, &env, host) == "-",
                direct,
                "{name} {text} {host}"
            );
        }
    }
}

#[test]
fn url_is_read_from_a_file_or_variable() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy");
    std::fs::write(&file, "http://user:c4nary@file:1\r\n").unwrap();
    let from_file = format!("[upstream]\nproxy_url = {{ file = '{}' }}", file.display());
    let from_env = "[upstream]\nproxy_url = { env = 'PROXY' }";
    for (text, proxy) in [(from_file.as_str(), "file:1"), (from_env, "env:1")] {
        let config = with(text, &[("PROXY", "http://user:c4nary@env:1")]).unwrap();
        let egress = &config.live.upstream.egress;
        let found = egress.proxy().unwrap();
        assert_eq!(
            (found.to_string().as_str(), found.authorization().is_some()),
            (proxy, true)
        );
        assert!(
            config.warnings.is_empty() && !format!("{config:?}").contains("c4nary"),
            "{config:?}"
        );
        // Only a file can change.
        assert_eq!(egress.file_source().is_some(), proxy == "file:1");
    }
}

#[test]
fn password_in_the_configuration_logs_a_warning_without_it() {
    let config = accept("[upstream]\nproxy_url = 'http://user:c4nary@key:1'");
    assert!(
        config.warnings[0].starts_with("upstream.proxy_url: the configuration contains a password"),
        "{:?}",
        config.warnings
    );
    assert!(!format!("{config:?} {:?}", config.warnings).contains("c4nary"));
    assert!(accept(KEY).warnings.is_empty());
}

#[test]
fn invalid_url_is_reported_without_the_url() {
    for (value, start) in [
        (
            "'https://u:c4nary@p:1'",
            "upstream.proxy_url: invalid proxy URL: the scheme must be http",
        ),
        (
            "'http://u:c4nary@p:1/x'",
            "upstream.proxy_url: invalid proxy URL: path, query",
        ),
        (
            "'http://u:c4nary@p:0'",
            "upstream.proxy_url: invalid proxy URL: the port",
        ),
        (
            "7",
            "upstream.proxy_url: must be a table with file or env, or a string",
        ),
        (
            "{ file = 'c4nary' }",
            "upstream.proxy_url: cannot read the file",
        ),
        (
            "{ url = 'c4nary' }",
            "upstream.proxy_url: unknown key in the table",
        ),
    ] {
        let problems = printed(&read(&format!("[upstream]\nproxy_url = {value}")).unwrap_err());
        assert!(
            problems.starts_with(start) && !problems.contains("c4nary"),
            "{value}\n{problems}"
        );
    }
    let problems = printed(&with("", &[("https_proxy", "socks5://u:c4nary@p:1")]).unwrap_err());
    assert!(
        problems.starts_with("https_proxy: invalid proxy URL: the scheme must be http"),
        "{problems}"
    );
    assert!(
        problems.contains("upstream.proxy_url") && !problems.contains("c4nary"),
        "{problems}"
    );
    // The key overrides the invalid variable.
    assert_eq!(
        proxy_for(KEY, &[("HTTPS_PROXY", "socks5://p:1")], "api.cloud.com"),
        "key:1"
    );
}
