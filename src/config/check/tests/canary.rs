//! No problem and no `Debug` output contains a secret, wherever it is written.

use super::*;

/// Similar to a Citrix secret, and a valid bare key of TOML.
const CANARY: &str = "c4naryZ0xYk";

#[track_caller]
fn assert_not_printed(text: &str, env: &[(&str, &str)]) {
    let shown = match from_toml(text, pairs(env)) {
        Ok(config) => format!("{config:?}\n{config:#?}\n{:?}", config.warnings),
        Err(problems) => format!("{}\n{problems:?}", printed(&problems)),
    };
    assert!(!shown.contains(CANARY), "{text}\n{env:?}\n{shown}");
}

#[test]
fn secret_in_the_configuration_is_not_printed() {
    let values = [
        format!("'{CANARY}'"),
        format!("\"{CANARY}"),
        format!("'{CANARY}' {CANARY}"),
        format!("\"\"\"{CANARY}"),
        format!("\"\\q{CANARY}\""),
        CANARY.to_owned(),
        format!("['{CANARY}']"),
        format!("[{{ file = '{CANARY}' }}]"),
        format!("{{ file = '{CANARY}' }}"),
        format!("{{ file = '{CANARY}/x==' }}"),
        format!("{{ file = ['{CANARY}'] }}"),
        format!("{{ env = '{CANARY}' }}"),
        format!("{{ env = '{CANARY}', file = '{CANARY}' }}"),
        format!("{{ value = '{CANARY}' }}"),
        format!("{{ {CANARY} = 1 }}"),
        format!("{{ '{CANARY}' }}"),
        format!("{{ file = {CANARY} }}"),
        format!("{{ a = {{ b = '{CANARY}' }} }}"),
    ];
    let keys = [
        ("[citrix]", "client_secret"),
        ("[citrix]", "client_secret_next"),
        ("[citrix]", "secret"),
        ("[citrix]", "client_secrte"),
        ("[citrix]", "client_id.x"),
        ("[token]", "cache_key"),
        ("[fleet]", "url"),
        ("[fleet]", "password"),
        ("[fleet]", "key"),
        ("[fleet]", "key_previous"),
        ("[fleet]", "sentinel_password"),
        ("[login]", "signing_key"),
        ("[admin]", "secret_sha256"),
        ("[[caller]]", "secret_sha256"),
        ("[[customer]]", "client_secret"),
        ("[caller]", "secret_sha256"),
        ("[citrix", "client_secret"),
        ("", "client_secret"),
        ("", "citrix"),
        ("", "caller"),
    ];
    for (table, key) in keys {
        for value in &values {
            if key == "citrix" && value.starts_with(&format!("{{ {CANARY} =")) {
                continue; // an unknown key of [citrix], which is reported by name
            }
            for line in [
                format!("{key} = {value}"),
                format!("{key} {value}"),
                format!("{key}: {value}"),
            ] {
                assert_not_printed(&format!("{table}\n{line}\n"), &[]);
                assert_not_printed(&format!("{table}\n{line}\n"), &LOGIN);
            }
        }
    }
}

#[test]
fn number_instead_of_a_secret_is_not_printed() {
    for number in [
        "8675309001",
        "86753090018675309001867530900",
        "8675309001.5",
        "86753-09-001",
    ] {
        for key in ["client_secret", "client_secret_next", "client_id", "secret"] {
            let text = format!("[citrix]\n{key} = {number}\n");
            let shown = printed(&from_toml(&text, []).unwrap_err());
            assert!(!shown.contains("8675309"), "{text}{shown}");
        }
    }
}

#[test]
fn secret_in_a_variable_is_not_printed() {
    let values = [
        CANARY.to_owned(),
        format!("{{ file = '{CANARY}' }}"),
        format!("{{ env = '{CANARY}' }}"),
        format!("{{ file = {CANARY} }}"),
        format!("{{{CANARY}}}"),
        format!("{CANARY}\n"),
    ];
    let variables = [
        "CITRIX_CLIENT_SECRET",
        "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET",
        "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET__FILE",
        "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET__ENV",
        "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET__VALUE",
        "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET_NEXT",
        "CITRIX_AUTH_PROXY_CITRIX__SECRET",
        "CITRIX_AUTH_PROXY_CITRIX",
        "CITRIX_AUTH_PROXY_CLIENT_SECRET",
        "CITRIX_AUTH_PROXY_ADMIN__SECRET_SHA256",
        "CITRIX_AUTH_PROXY_ADMIN__SECRET_SHA256__X",
        "CITRIX_AUTH_PROXY_TOKEN__CACHE_KEY",
        "CITRIX_AUTH_PROXY_FLEET__URL",
        "CITRIX_AUTH_PROXY_FLEET__PASSWORD",
        "CITRIX_AUTH_PROXY_FLEET__KEY",
        "CITRIX_AUTH_PROXY_FLEET__KEY__FILE",
        "CITRIX_AUTH_PROXY_LOGIN__SIGNING_KEY",
        "CITRIX_AUTH_PROXY_CALLER__SECRET_SHA256",
        "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL",
    ];
    for variable in variables {
        for value in &values {
            assert_not_printed("", &[LOGIN[0], LOGIN[1], (variable, value)]);
            assert_not_printed("", &[LOGIN[0], LOGIN[1], LOGIN[2], (variable, value)]);
            assert_not_printed(
                "[citrix]\nclient_secret = { env = 'X' }",
                &[LOGIN[0], ("X", CANARY), (variable, value)],
            );
        }
    }
}

#[test]
fn secret_in_a_file_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    for content in [
        CANARY.as_bytes().to_vec(),
        [CANARY.as_bytes(), b"\xff"].concat(),
        CANARY.repeat(9000).into(),
    ] {
        std::fs::write(&path, content).unwrap();
        let text = format!(
            "[citrix]\nclient_secret = {{ file = '{}' }}",
            path.display()
        );
        assert_not_printed(&text, &[LOGIN[0], LOGIN[1]]);
    }
}

#[test]
fn hash_of_a_secret_is_not_printed() {
    let hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2";
    let config = accept(&format!("[admin]\nsecret_sha256 = '{hash}'"));
    let shown = format!("{config:?}");
    assert!(
        shown.contains("secret_sha256: Some(\"[REDACTED]\")"),
        "{shown}"
    );
    assert!(!shown.contains("72, 19, 73"), "{shown}");
}

#[test]
fn secret_in_the_configuration_logs_a_warning() {
    let text = format!("[citrix]\nclient_secret = '{CANARY}'");
    let config = from_toml(&text, pairs(&LOGIN[..2])).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(
        config.warnings[0].starts_with("citrix.client_secret: "),
        "{:?}",
        config.warnings
    );
    assert_eq!(
        config.live.credentials[0]
            .client_secret
            .read()
            .unwrap()
            .expose_secret(),
        CANARY
    );
}

#[test]
fn invalid_secret_is_reported_without_its_value() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\r\n").unwrap();
    let (empty, directory) = (empty.display(), directory.path().display());
    for (value, problem) in [
        (
            "1".to_owned(),
            "must be a table with file or env, or a string".to_owned(),
        ),
        ("''".to_owned(), "the secret is empty".to_owned()),
        ("{}".to_owned(), "file or env is required".to_owned()),
        (
            "{ file = 'a', env = 'b' }".to_owned(),
            "file and env are mutually exclusive".to_owned(),
        ),
        (
            "{ path = 'a' }".to_owned(),
            "unknown key in the table; use file or env".to_owned(),
        ),
        (
            "{ env = 'UNSET' }".to_owned(),
            "the environment variable named by env is not set".to_owned(),
        ),
        (
            "{ file = '/nowhere' }".to_owned(),
            "cannot read /nowhere: No such file or directory (os error 2)".to_owned(),
        ),
        (
            format!("{{ file = '{empty}' }}"),
            format!("{empty}: the secret is empty"),
        ),
        (
            format!("{{ file = '{directory}' }}"),
            format!("{directory} is not a regular file"),
        ),
    ] {
        let text = format!("[citrix]\nclient_secret = {value}");
        let problems = from_toml(&text, pairs(&LOGIN[..2])).unwrap_err();
        let example = "{ file = \"/run/secrets/citrix-client-secret\" }";
        assert_eq!(
            printed(&problems),
            format!("citrix.client_secret: {problem}; expected, for example, {example}\n")
        );
    }
}
