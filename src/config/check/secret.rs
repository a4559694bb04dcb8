//! Secrets. Problems never quote the value, valid or not.

use std::io::ErrorKind;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};
use toml::{Table, Value};

use super::Report;
use crate::config::value::{Leaf, parse_table};
use crate::config::{SecretError, SecretSource, likely_mistake};
use crate::system::digest::Sha256;

/// An example of the API client's secret.
pub(super) const EXAMPLE: &str = "{ file = \"/run/secrets/citrix-client-secret\" }";

/// The minimum length in bytes of a key for HMAC-SHA256 (RFC 7518 section 3.2) or AES-256.
const MIN_KEY_BYTES: usize = 32;

/// Returns the source of the secret: the value of `leaf`, else the credential `name` of the service
/// manager. Reads the secret once.
pub(super) fn check_secret(
    leaf: &Leaf,
    name: Option<&str>,
    example: &str,
    report: &mut Report<'_>,
) -> Option<SecretSource> {
    let source = match &leaf.value {
        None => from_credentials_directory(name?, report)?,
        Some(_) => source_of(leaf, report)
            .map_err(|problem| report.invalid(leaf, problem, example))
            .ok()?,
    };
    match source.read() {
        Ok(secret) => warn_of_mistakes(leaf, &source, &secret, report),
        Err(error) => {
            report.invalid(leaf, read_problem(leaf, &source, &error), example);
            return None;
        }
    }
    if matches!(source, SecretSource::Plain(_)) {
        let key = leaf.path.rsplit('.').next().unwrap_or(&leaf.path);
        report.warn(format!(
            "{}: the configuration contains the secret; move it to a file: {key} = {example}",
            leaf.path
        ));
    }
    Some(source)
}

/// Reads a key from `source`, and reports one that is too short.
pub(super) fn check_key(
    leaf: &Leaf,
    source: &SecretSource,
    example: &str,
    report: &mut Report<'_>,
) -> Option<SecretString> {
    // An unreadable key is already reported.
    let key = source.read().ok()?;
    let length = key.expose_secret().len();
    if length < MIN_KEY_BYTES {
        let problem = format!("the key has {length} bytes; the minimum is {MIN_KEY_BYTES}");
        report.invalid(leaf, problem, example);
        return None;
    }
    Some(key)
}

/// Parses the SHA-256 of a secret in hex digits.
pub(super) fn sha256(value: Option<&Value>) -> Result<Sha256, String> {
    let digits = value.and_then(Value::as_str);
    digits.and_then(Sha256::from_hex).ok_or_else(|| {
        "must be the 64 hex digits of the secret's SHA-256, not the secret itself".to_owned()
    })
}

fn from_credentials_directory(name: &str, report: &Report<'_>) -> Option<SecretSource> {
    let directory = report
        .environment
        .get("CREDENTIALS_DIRECTORY")
        .filter(|directory| !directory.is_empty())?;
    let path = Path::new(directory).join(name);
    path.exists().then_some(SecretSource::Credential(path))
}

/// Returns the source of a secret as written, without reading it.
pub(super) fn source_of(leaf: &Leaf, report: &Report<'_>) -> Result<SecretSource, String> {
    match &leaf.value {
        Some(Value::Table(table)) => from_table(table, report),
        Some(Value::String(text)) if leaf.from_variable => from_variable(leaf, text, report),
        Some(Value::String(text)) => Ok(SecretSource::Plain(SecretString::from(text.as_str()))),
        _ => Err("must be a table with file or env, or a string".to_owned()),
    }
}

fn from_variable(leaf: &Leaf, text: &str, report: &Report<'_>) -> Result<SecretSource, String> {
    let name = report.variable(&leaf.path).unwrap_or_default();
    // The short variable always contains the secret itself.
    if name != "CITRIX_CLIENT_SECRET" && text.starts_with('{') && text.ends_with('}') {
        let table = parse_table(text).ok_or("invalid inline table")?;
        return from_table(&table, report);
    }
    Ok(SecretSource::Environment {
        name: name.to_owned(),
        value: SecretString::from(text),
    })
}

fn from_table(table: &Table, report: &Report<'_>) -> Result<SecretSource, String> {
    if table.keys().any(|key| key != "file" && key != "env") {
        // The key is not quoted: it may be a misplaced secret.
        return Err("unknown key in the table; use file or env".to_owned());
    }
    match (table.get("file"), table.get("env")) {
        (Some(_), Some(_)) => Err("file and env are mutually exclusive".to_owned()),
        (Some(Value::String(path)), None) if !path.is_empty() => {
            Ok(SecretSource::File(report.resolve(path)))
        }
        (None, Some(Value::String(name))) => {
            let value = report.environment.get(name);
            let value = value.ok_or("the environment variable named by env is not set")?;
            Ok(SecretSource::Environment {
                name: name.clone(),
                value: SecretString::from(value),
            })
        }
        (None, None) => Err("file or env is required".to_owned()),
        _ => Err("file and env must be non-empty strings".to_owned()),
    }
}

/// Describes why a secret cannot be read. The path of a missing file is not quoted if it may be a
/// misplaced secret.
pub(super) fn read_problem(leaf: &Leaf, source: &SecretSource, error: &SecretError) -> String {
    match error {
        SecretError::Unreadable {
            path,
            source: reason,
        } if reason.kind() != ErrorKind::PermissionDenied && !is_certainly_path(leaf, path) => {
            format!("cannot read the file: {reason}")
        }
        _ => source.problem(error),
    }
}

/// Returns `true` if `file` is written as a path, or is in an existing folder below that of the
/// configuration. A secret of letters, digits, `/`, `+` and `=` is neither.
fn is_certainly_path(leaf: &Leaf, path: &Path) -> bool {
    let in_variable = leaf.value.as_ref().and_then(Value::as_str);
    let parsed = in_variable.and_then(parse_table);
    let table = leaf.value.as_ref().and_then(Value::as_table);
    let file = parsed
        .as_ref()
        .or(table)
        .and_then(|table| table.get("file"));
    let is_written_as_path = file.and_then(Value::as_str).is_some_and(|written| {
        let in_folder = written.contains('/') && path.parent().is_some_and(Path::is_dir);
        written.starts_with('/') || written.contains(['.', '\\', ':']) || in_folder
    });
    is_written_as_path || path.exists()
}

/// Warns of a secret that was probably written by mistake, and of a file that all users can read.
fn warn_of_mistakes(
    leaf: &Leaf,
    source: &SecretSource,
    secret: &SecretString,
    report: &mut Report<'_>,
) {
    if let Some(mistake) = likely_mistake(secret) {
        report.warn(format!(
            "{}: the secret in {source} {mistake}; it is sent as it is",
            leaf.path
        ));
    }
    if let SecretSource::File(path) = source {
        report.check_mode(leaf, path);
    }
}
