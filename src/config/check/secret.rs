//! Values that are secrets. Nothing here repeats what was written, right or wrong.

use std::io::ErrorKind;
use std::path::Path;

use secrecy::SecretString;
use toml::{Table, Value};

use super::{Report, syntax};
use crate::config::secret::{SecretError, SecretSource};
use crate::config::value::Leaf;
use crate::system::digest::Sha256;

/// How the API client's secret is written.
pub(super) const EXAMPLE: &str = "{ file = \"/run/secrets/citrix-client-secret\" }";

/// Where the secret of `leaf` comes from; without one, the credential `name` if the service manager gave it. It
/// has been read once. `example` is how it is written.
pub(super) fn check_secret(
    leaf: &Leaf,
    name: Option<&str>,
    example: &str,
    report: &mut Report<'_>,
) -> Option<SecretSource> {
    let source = match &leaf.value {
        None => from_credentials_directory(name?, report)?,
        Some(_) => match written(leaf, report) {
            Ok(source) => source,
            Err(what) => {
                report.wrong(leaf, what, example);
                return None;
            }
        },
    };
    if let Err(error) = source.read() {
        report.wrong(leaf, told(&source, &error), example);
        return None;
    }
    if matches!(source, SecretSource::Plain(_)) {
        report.warn(format!(
            "{}: the secret is written in the file itself, where whoever reads the file has it; move it to a \
             file of its own: {} = {example}",
            leaf.path,
            leaf.path.rsplit('.').next().unwrap_or(&leaf.path),
        ));
    }
    Some(source)
}

/// The SHA-256 of a secret, as hex digits.
pub(super) fn sha256(leaf: &Leaf) -> Result<Sha256, String> {
    let digits = leaf.value.as_ref().and_then(Value::as_str);
    digits.and_then(Sha256::from_hex).ok_or_else(|| {
        "must be 64 hex digits, the SHA-256 of the secret and not the secret itself".to_owned()
    })
}

fn from_credentials_directory(name: &str, report: &Report<'_>) -> Option<SecretSource> {
    let folder = report
        .environment
        .get("CREDENTIALS_DIRECTORY")
        .filter(|folder| !folder.is_empty())?;
    let path = Path::new(folder).join(name);
    path.exists().then_some(SecretSource::Credential(path))
}

pub(super) fn written(leaf: &Leaf, report: &Report<'_>) -> Result<SecretSource, String> {
    match &leaf.value {
        Some(Value::Table(table)) => from_table(table, report),
        Some(Value::String(text)) if leaf.from_variable => from_variable(leaf, text, report),
        Some(Value::String(text)) => Ok(SecretSource::Plain(SecretString::from(text.as_str()))),
        _ => Err("must be a table with file or env, or a string in quotes".to_owned()),
    }
}

fn from_variable(leaf: &Leaf, text: &str, report: &Report<'_>) -> Result<SecretSource, String> {
    let name = report.variable(&leaf.path).unwrap_or_default();
    // The short variable is always the secret itself, whatever it looks like.
    if name != "CITRIX_CLIENT_SECRET" && text.starts_with('{') && text.ends_with('}') {
        let table = syntax::parse_table(text);
        return from_table(
            &table.ok_or("looks like a table and is not one in TOML")?,
            report,
        );
    }
    Ok(SecretSource::Environment {
        name: name.to_owned(),
        value: SecretString::from(text),
    })
}

fn from_table(table: &Table, report: &Report<'_>) -> Result<SecretSource, String> {
    if table.keys().any(|key| key != "file" && key != "env") {
        // Not which: the secret may stand where a key should.
        return Err("has a key that is neither file nor env".to_owned());
    }
    match (table.get("file"), table.get("env")) {
        (Some(_), Some(_)) => Err("has both file and env; keep one of them".to_owned()),
        (Some(Value::String(path)), None) if !path.is_empty() => {
            Ok(SecretSource::File(path.into()))
        }
        (None, Some(Value::String(name))) => {
            let value = report.environment.get(name);
            let value = value.ok_or("the environment variable that env names is not set")?;
            Ok(SecretSource::Environment {
                name: name.clone(),
                value: SecretString::from(value),
            })
        }
        (None, None) => Err("has neither file nor env".to_owned()),
        _ => Err("must name a file or an environment variable by a string in quotes".to_owned()),
    }
}

/// Why a secret cannot be read. A path is repeated only if there is something: else it may be no path, but the
/// secret itself.
pub(super) fn told(source: &SecretSource, error: &SecretError) -> String {
    let known = match error {
        SecretError::Unreadable { source, .. } => source.kind() == ErrorKind::PermissionDenied,
        _ => true,
    };
    let place = match source.path() {
        Some(path) if known => path.display().to_string(),
        Some(_) => "the file it names".to_owned(),
        None => return error.to_string(),
    };
    match error {
        SecretError::Unreadable { source, .. } => format!("{place} cannot be read: {source}"),
        SecretError::NotAFile(_) | SecretError::TimedOut(_) => error.to_string(),
        SecretError::Empty | SecretError::TooLong | SecretError::NotText => {
            format!("{place}: {error}")
        }
    }
}
