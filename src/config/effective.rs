//! The configuration in effect, key by key, for people (`config show`). No value is a secret.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;

use super::reference;
use super::report::ConfigProblem;
use super::value::{Leaf, parse_table};

/// A key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The header of its table, in TOML: `[listen]`, or `[[route]]` with a number.
    pub table: String,
    pub key: String,
    /// The value in TOML; `None` if it is not set and has no default.
    pub value: Option<String>,
    pub origin: Origin,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    /// The environment variable with this name.
    Variable(String),
}

/// Shown in place of a secret.
const REDACTED: &str = "\"[redacted]\"";

/// Keys whose value is a secret, or a table that names where it is. `listen.tls.key`, `fleet.tls.key`
/// and `intercept.ca.key` are names of files.
const SECRETS: [&str; 10] = [
    "cache_key",
    "client_secret",
    "client_secret_next",
    "fleet.key",
    "key_previous",
    "password",
    "proxy_url",
    "secret_sha256",
    "sentinel_password",
    "signing_key",
];

/// Reads a configuration like [`super::load`], and returns all its keys in the order of the
/// reference, or those that are set and have a default where a table is optional.
///
/// # Errors
/// As [`super::load`].
pub fn effective(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Setting>, Vec<ConfigProblem>> {
    let defaults: BTreeMap<String, Value> = reference::keys()
        .into_iter()
        .filter(|key| key.has_default)
        .map(|key| (key.path, key.value))
        .collect();
    let mut settings = Vec::new();
    super::check::load_with(file, env, |leaf, variable| {
        let (table, key) = leaf.path.rsplit_once('.').unwrap_or(("", &leaf.path));
        let default = defaults.get(&without_numbers(&leaf.path));
        let (value, origin) = match (&leaf.value, variable) {
            (None, _) => (default.map(toml), Origin::Default),
            (Some(_), Some(variable)) => (Some(shown(leaf)), Origin::Variable(variable.to_owned())),
            (Some(_), None) => (Some(shown(leaf)), Origin::File),
        };
        settings.push(Setting {
            table: header(table),
            key: key.to_owned(),
            value,
            origin,
        });
    })?;
    Ok(settings)
}

/// Formats a value that is set, unless it is a secret.
fn shown(leaf: &Leaf) -> String {
    let Some(value) = &leaf.value else {
        return String::new();
    };
    let path = without_numbers(&leaf.path);
    let is_named = |name: &str| path == name || path.ends_with(&format!(".{name}"));
    if SECRETS.iter().any(|name| is_named(name)) {
        return source(value).unwrap_or_else(|| REDACTED.to_owned());
    }
    match value {
        Value::String(text) if has_credentials(text) => REDACTED.to_owned(),
        value => toml(value),
    }
}

/// Formats a value in TOML.
fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Datetime(date) => date.to_string(),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let entries = table.iter();
            let entries: Vec<String> = entries
                .map(|(key, value)| format!("{} = {}", quoted(key), toml(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// Quotes text. The escapes of JSON are those of TOML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns the reference to a secret: the file or variable that contains it.
fn source(value: &Value) -> Option<String> {
    let table = match value {
        Value::Table(table) => table.clone(),
        Value::String(text) => parse_table(text)?,
        _ => return None,
    };
    let mut entries = table.iter();
    let (Some((kind, Value::String(name))), None) = (entries.next(), entries.next()) else {
        return None;
    };
    let is_source = matches!(kind.as_str(), "file" | "env");
    is_source.then(|| format!("{{ {kind} = {} }}", quoted(name)))
}

/// Returns `true` for a URL with a password.
fn has_credentials(text: &str) -> bool {
    text.split_once("://")
        .and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'))
        .is_some_and(|(user, _)| user.contains(':'))
}

/// Returns the path without the numbers of blocks: `route.prefix` for `route[0].prefix`.
fn without_numbers(path: &str) -> String {
    let mut parts = path.split(['[', ']']);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    // Numbers are every second part.
    parts
        .skip(1)
        .step_by(2)
        .for_each(|part| plain.push_str(part));
    plain
}

/// Returns the header of the table at `path`.
fn header(path: &str) -> String {
    match path.split_once('[') {
        Some((block, number)) => {
            format!("[[{block}]] # {}", number.trim_end_matches(']'))
        }
        None => format!("[{path}]"),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const CANARY: &str = "c4naryZ0xYk-with-more-than-32-bytes-of-it";

    fn of(text: &str, env: &[(&str, &str)]) -> Vec<Setting> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        effective(Some(&file), env).unwrap_or_else(|found| panic!("{found:?}"))
    }

    fn find<'s>(settings: &'s [Setting], table: &str, key: &str) -> &'s Setting {
        let found = settings
            .iter()
            .find(|it| it.table == table && it.key == key);
        found.unwrap_or_else(|| panic!("{table} {key}"))
    }

    const LOGIN: &str = "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\n";

    #[test]
    fn each_key_has_its_origin() {
        let text = format!(
            "{LOGIN}client_secret = {{ env = 'SECRET' }}\n[limits]\nmax_queued = 5\n\
             [[route]]\nprefix = '/a'\nupstream = 'https://a'\n"
        );
        let env = [
            ("SECRET", "s"),
            ("CITRIX_AUTH_PROXY_LIMITS__MAX_IN_FLIGHT", "7"),
        ];
        let settings = of(&text, &env);
        let variable = "CITRIX_AUTH_PROXY_LIMITS__MAX_IN_FLIGHT".to_owned();
        let expected = [
            (
                "[citrix]",
                "client_secret",
                Some("{ env = \"SECRET\" }"),
                Origin::File,
            ),
            ("[citrix]", "cloud", Some("\"commercial\""), Origin::Default),
            ("[citrix]", "token_url", None, Origin::Default),
            ("[limits]", "max_queued", Some("5"), Origin::File),
            (
                "[limits]",
                "max_in_flight",
                Some("\"7\""),
                Origin::Variable(variable),
            ),
            ("[[route]] # 0", "prefix", Some("\"/a\""), Origin::File),
            ("[[route]] # 0", "collapse", Some("false"), Origin::Default),
            ("[listen]", "hosts", None, Origin::Default),
        ];
        for (table, key, value, origin) in expected {
            let found = find(&settings, table, key);
            assert_eq!(found.value.as_deref(), value, "{table} {key}");
            assert_eq!(found.origin, origin, "{table} {key}");
        }
        assert!(
            settings.iter().all(|it| it.table != "[fleet]"),
            "it is absent"
        );
    }

    #[test]
    fn secrets_are_redacted_wherever_they_are_written() {
        let digest = crate::system::digest::Sha256::of(CANARY.as_bytes()).to_hex();
        let text = format!(
            "{LOGIN}client_secret = '{CANARY}'\nclient_secret_next = '{CANARY}'\n\
             [upstream]\nproxy_url = 'http://u:{CANARY}@p:1'\n\
             [token]\ncache_file = '/tmp/x'\ncache_key = '{CANARY}'\n\
             [admin]\nsecret_sha256 = '{digest}'\n[login]\nsigning_key = '{CANARY}'\n\
             [fleet]\nurl = 'redis://u@127.0.0.1:1/0'\npassword = '{CANARY}'\nkey = '{CANARY}'\n\
             key_previous = '{CANARY}'\n\
             [[caller]]\nname = 'a'\nsecret_sha256 = ['{digest}']\n"
        );
        for env in [
            vec![],
            vec![
                ("CITRIX_CLIENT_SECRET", CANARY),
                ("CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET_NEXT", CANARY),
                ("CITRIX_AUTH_PROXY_FLEET__PASSWORD", CANARY),
                (
                    "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL",
                    "http://u:c4naryZ0xYk@p:1",
                ),
                ("CITRIX_AUTH_PROXY_LOGIN__SIGNING_KEY", CANARY),
            ],
        ] {
            let settings = of(&text, &env);
            let mut shown = String::new();
            for setting in &settings {
                writeln!(shown, "{setting:?}").unwrap();
            }
            assert!(
                !shown.contains("c4nary") && !shown.contains(&digest),
                "{shown}"
            );
            assert_eq!(shown.matches("[redacted]").count(), 10, "{shown}");
        }
    }

    #[test]
    fn invalid_configuration_is_not_shown() {
        let problems = effective(None, []).unwrap_err();
        assert!(
            problems
                .iter()
                .any(|problem| problem.key == "citrix.client_id")
        );
    }
}
