//! Environment variables override the file.

use super::*;

fn with(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<ConfigProblem>> {
    let all: Vec<_> = LOGIN.iter().chain(env).copied().collect();
    from_toml(text, pairs(&all))
}

#[track_caller]
fn set(env: &[(&str, &str)]) -> Config {
    with("", env).unwrap_or_else(|problems| panic!("{env:?}\n{}", printed(&problems)))
}

#[test]
fn variable_overrides_file_and_file_overrides_default() {
    let text = "[citrix]\ncustomer_id = 'file'\ncloud = 'eu'\n[limits]\nmax_in_flight = 2\nmax_connections = 3";
    let config = with(text, &[("CITRIX_AUTH_PROXY_LIMITS__MAX_IN_FLIGHT", "1")]).unwrap();
    let limits = config.live.limits;
    assert_eq!((limits.max_in_flight, limits.max_connections), (1, 3));
    assert_eq!(limits.max_header_bytes, 64 << 10);
    assert_eq!(config.live.credentials[0].customer(), "acme");
    assert_eq!(
        config.live.credentials[0].api.url.authority,
        "api-eu.cloud.com"
    );
    let config = with(text, &[("CITRIX_CLOUD", "us")]).unwrap();
    assert_eq!(
        config.live.credentials[0].api.url.authority,
        "api-us.cloud.com"
    );
}

#[test]
fn text_is_parsed_as_the_type_of_the_key() {
    let config = set(&[
        (
            "CITRIX_AUTH_PROXY_LISTEN__ADDRESS",
            "127.0.0.1:1, [::1]:2,unix:/s",
        ),
        ("CITRIX_AUTH_PROXY_LISTEN__HOSTS", "[\"a\", \"B\"]"),
        ("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "007"),
        ("CITRIX_AUTH_PROXY_LOG__ACCESS", "false"),
        ("CITRIX_AUTH_PROXY_TOKEN__REFRESH_AT", "0.5"),
        ("CITRIX_AUTH_PROXY_TOKEN__STARTUP_WAIT", "1s"),
        ("CITRIX_AUTH_PROXY_LIMITS__MAX_BODY_BYTES", "5MiB"),
        ("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", ""),
    ]);
    let addresses: Vec<_> = config
        .boot
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:1", "[::1]:2", "unix:/s"]);
    assert_eq!(
        config.live.hosts,
        AllowedHosts::Only(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(config.boot.workers.get(), 7);
    assert!(!config.live.access_log);
    assert_eq!(config.live.token.refresh_at, 0.5);
    assert_eq!(config.live.limits.max_body_bytes, 5 << 20);
    assert_eq!(config.live.credentials[0].instance_id, InstanceId::None);

    let ipv6 = set(&[("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", "[::1]:2")]);
    assert_eq!(ipv6.boot.listeners[0].address.to_string(), "[::1]:2");
}

#[test]
fn number_in_a_string_key_is_unchanged() {
    let env = [
        ("CITRIX_CUSTOMER_ID", "007"),
        ("CITRIX_CLIENT_ID", "00123"),
        ("CITRIX_CLIENT_SECRET", "0e10"),
    ];
    let config = from_toml("", pairs(&env)).unwrap();
    let credential = &config.live.credentials[0];
    assert_eq!(
        (credential.customer(), credential.client_id.as_str()),
        ("007", "00123")
    );
    assert_eq!(
        credential.client_secret.read().unwrap().expose_secret(),
        "0e10"
    );
    assert!(
        config.warnings.is_empty(),
        "a secret in a variable logs no warning: {:?}",
        config.warnings
    );
}

#[test]
fn table_is_set_as_a_whole_or_by_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pem");
    std::fs::write(&path, "").unwrap();
    let path = path.to_str().unwrap();
    let certificate = |config: Config| {
        config
            .boot
            .certificate
            .unwrap()
            .certificate
            .display()
            .to_string()
    };
    let table = format!("{{ certificate = '{path}', key = '{path}' }}");
    assert_eq!(
        certificate(set(&[("CITRIX_AUTH_PROXY_LISTEN__TLS", &table)])),
        path
    );
    let parts = [
        ("CITRIX_AUTH_PROXY_LISTEN__TLS__CERTIFICATE", path),
        ("CITRIX_AUTH_PROXY_LISTEN__TLS__KEY", path),
    ];
    assert_eq!(certificate(set(&parts)), path);
    // One key of a table in the file.
    let text = format!("[listen]\ntls = {{ certificate = '/nowhere', key = '{path}' }}");
    assert_eq!(certificate(with(&text, &parts[..1]).unwrap()), path);

    let both = [("CITRIX_AUTH_PROXY_LISTEN__TLS", table.as_str()), parts[1]];
    let problems = printed(&with("", &both).unwrap_err());
    assert!(
        problems.contains("conflicts with CITRIX_AUTH_PROXY_LISTEN__TLS"),
        "{problems}"
    );
    let problems =
        printed(&with("", &[("CITRIX_AUTH_PROXY_LISTEN__TLS", "{ certificate = ")]).unwrap_err());
    assert_eq!(
        problems,
        "listen.tls: must be a table (from CITRIX_AUTH_PROXY_LISTEN__TLS)\n"
    );
}

#[test]
fn secret_in_a_variable_replaces_the_value_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "from file\n").unwrap();
    let path = path.to_str().unwrap();
    let table = format!("{{ file = '{path}' }}");
    let text = "[citrix]\nclient_secret = { env = 'UNSET' }";
    for (variable, value, secret) in [
        ("CITRIX_CLIENT_SECRET", "plain", "plain"),
        ("CITRIX_CLIENT_SECRET", "{ file = '/x' }", "{ file = '/x' }"),
        ("CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET", "plain", "plain"),
        (
            "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET",
            table.as_str(),
            "from file",
        ),
        (
            "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET__FILE",
            path,
            "from file",
        ),
    ] {
        let env = [LOGIN[0], LOGIN[1], (variable, value)];
        let config = from_toml(text, pairs(&env)).unwrap();
        let source = &config.live.credentials[0].client_secret;
        assert_eq!(
            source.read().unwrap().expose_secret(),
            secret,
            "{variable}={value}"
        );
    }
    let env = [
        ("CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET__ENV", "NAME"),
        ("NAME", "named\n"),
    ];
    let env: Vec<_> = LOGIN[..2].iter().chain(&env).copied().collect();
    let config = from_toml("", pairs(&env)).unwrap();
    assert_eq!(
        config.live.credentials[0]
            .client_secret
            .read()
            .unwrap()
            .expose_secret(),
        "named"
    );
}

#[test]
fn credentials_directory_is_the_default_source_of_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        LOGIN[0],
        LOGIN[1],
        ("CREDENTIALS_DIRECTORY", directory.path().to_str().unwrap()),
    ];
    assert!(
        from_toml("", pairs(&variables)).is_err(),
        "the directory is empty"
    );
    std::fs::write(directory.path().join("client_secret"), "first\n").unwrap();
    std::fs::write(directory.path().join("client_secret_next"), "second\n").unwrap();
    let config = from_toml("", pairs(&variables)).unwrap();
    let credential = &config.live.credentials[0];
    assert_eq!(
        credential.client_secret.read().unwrap().expose_secret(),
        "first"
    );
    assert_eq!(
        credential
            .client_secret_next
            .as_ref()
            .unwrap()
            .read()
            .unwrap()
            .expose_secret(),
        "second"
    );
    assert!(config.warnings.is_empty());

    let own = with("", &variables[2..]).unwrap();
    assert_eq!(
        own.live.credentials[0]
            .client_secret
            .read()
            .unwrap()
            .expose_secret(),
        "s3cret"
    );
}

#[test]
fn problems_name_the_variable() {
    for (variable, value, problem) in [
        (
            "CITRIX_AUTH_PROXY_LIMITS__MAX_IN_FLIGHT",
            "many",
            "limits.max_in_flight: invalid integer \"many\" (from CITRIX_AUTH_PROXY_LIMITS__MAX_IN_FLIGHT); expected, \
             for example, 1024",
        ),
        (
            "CITRIX_AUTH_PROXY_LIMITS__MAX_INFLIGHT",
            "1",
            "limits.max_inflight: unknown key; did you mean max_in_flight? (from \
             CITRIX_AUTH_PROXY_LIMITS__MAX_INFLIGHT)",
        ),
        (
            "CITRIX_AUTH_PROXY_LIMTS__MAX_IN_FLIGHT",
            "1",
            "limts: unknown key; did you mean limits? (from CITRIX_AUTH_PROXY_LIMTS__MAX_IN_FLIGHT)",
        ),
        (
            "CITRIX_AUTH_PROXY_ROUTE__PREFIX",
            "/a",
            "CITRIX_AUTH_PROXY_ROUTE__PREFIX: [[route]] blocks are read from the file only",
        ),
        (
            "CITRIX_AUTH_PROXY_LEVEL",
            "debug",
            "CITRIX_AUTH_PROXY_LEVEL: unknown variable; expected CITRIX_AUTH_PROXY_<TABLE>__<KEY>",
        ),
        (
            "CITRIX_AUTH_PROXY_CITRIX__CLIENT_ID",
            "other",
            "CITRIX_AUTH_PROXY_CITRIX__CLIENT_ID: conflicts with CITRIX_CLIENT_ID, which also sets citrix.client_id; \
             remove one of them",
        ),
    ] {
        assert_eq!(
            printed(&with("", &[(variable, value)]).unwrap_err()),
            format!("{problem}\n")
        );
    }
    for name in [
        "CITRIX_AUTH_PROXY_",
        "CITRIX_AUTH_PROXY___A",
        "CITRIX_AUTH_PROXY_LOG__",
        "CITRIX_AUTH_PROXY_A____B",
    ] {
        let problems = printed(&with("", &[(name, "x")]).unwrap_err());
        assert!(problems.contains("unknown variable"), "{name}: {problems}");
    }
}

#[test]
fn kubernetes_service_variables_are_ignored() {
    for name in [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP_METRICS",
        "PORT",
        "PORT_8080_TCP",
        "PORT_8080_TCP_ADDR",
        "PORT_8080_TCP_PORT",
        "PORT_8080_TCP_PROTO",
        "ADMIN_SERVICE_HOST",
        "ADMIN_PORT_9090_TCP_ADDR",
    ] {
        set(&[(&format!("CITRIX_AUTH_PROXY_{name}"), "tcp://10.0.0.1:8080")]);
    }
    assert!(with("", &[("CITRIX_AUTH_PROXY_PORT_HTTP", "x")]).is_err());
    assert!(with("", &[("CITRIX_AUTH_PROXY_SERVICE", "x")]).is_err());
}

#[test]
fn empty_short_variable_is_unset() {
    let text = "[citrix]\ncloud = 'eu'\nclient_id = 'file'\n";
    let env = [
        LOGIN[0],
        ("CITRIX_CLIENT_ID", ""),
        LOGIN[2],
        ("CITRIX_CLOUD", ""),
    ];
    let config = from_toml(text, pairs(&env)).unwrap();
    assert_eq!(config.live.credentials[0].client_id, "file");
    assert_eq!(
        config.live.credentials[0].api.url.authority,
        "api-eu.cloud.com"
    );
}
