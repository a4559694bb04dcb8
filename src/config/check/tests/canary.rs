//! No secret is ever printed: not by a problem, not by `Debug`, whatever stands where.

use super::*;

/// Looks like what a Citrix secret is, and works as a TOML bare key.
const CANARY: &str = "c4naryZ0xYk";

#[track_caller]
fn nothing_shows(text: &str, env: &[(&str, &str)]) {
    let shown = match from_toml(text, pairs(env)) {
        Ok(config) => format!("{config:?}\n{config:#?}\n{:?}", config.warnings),
        Err(problems) => format!("{}\n{problems:?}", printed(&problems)),
    };
    assert!(!shown.contains(CANARY), "{text}\n{env:?}\n{shown}");
}

#[test]
fn a_secret_in_the_file_is_never_printed() {
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
        format!("{{ file = '/{CANARY}/x' }}"),
        format!("{{ file = '/etc/hosts/{CANARY}' }}"),
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
                continue; // a plain unknown key of [citrix], which is named
            }
            for line in [
                format!("{key} = {value}"),
                format!("{key} {value}"),
                format!("{key}: {value}"),
            ] {
                nothing_shows(&format!("{table}\n{line}\n"), &[]);
                nothing_shows(&format!("{table}\n{line}\n"), &LOGIN);
            }
        }
    }
}

#[test]
fn a_number_where_a_secret_belongs_is_never_printed() {
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
fn a_secret_in_a_variable_is_never_printed() {
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
        "CITRIX_AUTH_PROXY_LOGIN__SIGNING_KEY",
        "CITRIX_AUTH_PROXY_CALLER__SECRET_SHA256",
        "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL",
    ];
    for variable in variables {
        for value in &values {
            nothing_shows("", &[LOGIN[0], LOGIN[1], (variable, value)]);
            nothing_shows("", &[LOGIN[0], LOGIN[1], LOGIN[2], (variable, value)]);
            nothing_shows(
                "[citrix]\nclient_secret = { env = 'X' }",
                &[LOGIN[0], ("X", CANARY), (variable, value)],
            );
        }
    }
}

#[test]
fn a_secret_in_a_file_of_its_own_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
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
        nothing_shows(&text, &[LOGIN[0], LOGIN[1]]);
    }
}

#[test]
fn a_hash_is_not_printed_either() {
    let hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2";
    let config = good(&format!("[admin]\nsecret_sha256 = '{hash}'"));
    let shown = format!("{config:?}");
    assert!(
        shown.contains("secret_sha256: Some(\"[REDACTED]\")"),
        "{shown}"
    );
    assert!(!shown.contains("72, 19, 73"), "{shown}");
}

#[test]
fn a_secret_in_the_file_itself_is_warned_about() {
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
fn what_is_wrong_with_a_secret_is_said_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\r\n").unwrap();
    let (empty, folder) = (empty.display(), folder.path().display());
    for (value, what) in [
        (
            "1".to_owned(),
            "must be a table with file or env, or a string in quotes".to_owned(),
        ),
        ("''".to_owned(), "the secret is empty".to_owned()),
        ("{}".to_owned(), "has neither file nor env".to_owned()),
        (
            "{ file = 'a', env = 'b' }".to_owned(),
            "has both file and env; keep one of them".to_owned(),
        ),
        (
            "{ path = 'a' }".to_owned(),
            "has a key that is neither file nor env".to_owned(),
        ),
        (
            "{ env = 'NOBODY' }".to_owned(),
            "the environment variable that env names is not set".to_owned(),
        ),
        (
            "{ file = '/nowhere' }".to_owned(),
            "the file it names cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (
            format!("{{ file = '{empty}' }}"),
            format!("{empty}: the secret is empty"),
        ),
        (
            format!("{{ file = '{folder}' }}"),
            format!("{folder} is not a regular file"),
        ),
    ] {
        let text = format!("[citrix]\nclient_secret = {value}");
        let problems = from_toml(&text, pairs(&LOGIN[..2])).unwrap_err();
        let example = "client_secret = { file = \"/run/secrets/citrix-client-secret\" }";
        assert_eq!(
            printed(&problems),
            format!("citrix.client_secret: {what}; for example: {example}\n")
        );
    }
}
