//! Sources of secrets.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::system::files::{self, FileContent, FileKind, ReadError};

const MAX_BYTES: usize = FileKind::ClientSecret.max_bytes();

/// The source of a secret. `Display` and `Debug` never show the secret.
#[derive(Clone)]
pub enum SecretSource {
    /// A file; read for each use.
    File(PathBuf),
    /// A file in the service manager's `$CREDENTIALS_DIRECTORY`; read for each use.
    Credential(PathBuf),
    /// An environment variable, with its value at the time the configuration was read.
    Environment { name: String, value: SecretString },
    /// A string in the configuration.
    Plain(SecretString),
}

impl SecretSource {
    /// Reads the secret, and strips trailing line ends and a leading byte order mark. Blocks if it
    /// reads a file.
    ///
    /// # Errors
    /// If the secret cannot be read, or is empty, too long or not UTF-8.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::File(path) | Self::Credential(path) => {
                Self::from_content(path, files::read(path, FileKind::ClientSecret))
            }
            Self::Environment { value, .. } | Self::Plain(value) => trim(value.expose_secret()),
        }
    }

    /// Extracts the secret from the content of the file at `path`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_content(path: &Path, content: FileContent) -> Result<SecretString, SecretError> {
        let bytes = content.map_err(|error| match error {
            ReadError::Io(source) => SecretError::Unreadable {
                path: path.to_owned(),
                source,
            },
            ReadError::NotRegular => SecretError::NotAFile(path.to_owned()),
            ReadError::TooLarge(_) => SecretError::TooLong,
            ReadError::TimedOut => SecretError::TimedOut(path.to_owned()),
        })?;
        if is_utf16(&bytes) {
            return Err(SecretError::Utf16);
        }
        trim(std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText)?)
    }

    /// Describes why the secret is unusable: the file, and the error of the system.
    pub fn problem(&self, error: &SecretError) -> String {
        match (error, self.path()) {
            (SecretError::Unreadable { source, .. }, _) => format!("{error}: {source}"),
            (
                SecretError::Empty
                | SecretError::TooLong
                | SecretError::Utf16
                | SecretError::NotText,
                Some(path),
            ) => format!("{}: {error}", path.display()),
            _ => error.to_string(),
        }
    }

    /// Returns the file to watch for changes.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Credential(path) => Some(path),
            Self::Environment { .. } | Self::Plain(_) => None,
        }
    }
}

impl PartialEq for SecretSource {
    /// Compares sources, and the secrets of sources that never change.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File(one) | Self::Credential(one),
                Self::File(other) | Self::Credential(other),
            ) => one == other,
            (
                Self::Environment { name: one, value },
                Self::Environment {
                    name: other,
                    value: another,
                },
            ) => one == other && value.expose_secret() == another.expose_secret(),
            (Self::Plain(one), Self::Plain(other)) => one.expose_secret() == other.expose_secret(),
            _ => false,
        }
    }
}

impl Eq for SecretSource {}

impl fmt::Display for SecretSource {
    /// Formats the source for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Credential(path) => write!(f, "file {}", path.display()),
            Self::Environment { name, .. } => write!(f, "variable {name}"),
            Self::Plain(_) => f.write_str("the configuration"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSource({self})")
    }
}

/// An unusable secret. The message may contain a path, never the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The path is a directory, pipe or device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The volume did not respond in time.
    #[error("read of {} timed out", .0.display())]
    TimedOut(PathBuf),
    /// The secret is empty, or has line ends only.
    #[error("the secret is empty")]
    Empty,
    /// The secret is longer than 64 KiB.
    #[error("the secret is longer than 64 KiB")]
    TooLong,
    /// The secret is UTF-16, which PowerShell's `>` and `Out-File` write.
    #[error(
        "the secret is UTF-16; write it in PowerShell with Set-Content -Encoding ascii -NoNewline"
    )]
    Utf16,
    /// The secret is not UTF-8.
    #[error("the secret is not valid UTF-8")]
    NotText,
}

/// Returns what a secret begins or ends with, or contains, that is rarely part of one. It is sent as
/// it is.
pub fn likely_mistake(secret: &SecretString) -> Option<&'static str> {
    let secret = secret.expose_secret();
    let quoted = |quote| secret.len() > 1 && secret.starts_with(quote) && secret.ends_with(quote);
    if secret.trim() != secret {
        Some("begins or ends with white space")
    } else if secret.contains(['\r', '\n']) {
        Some("has several lines")
    } else if quoted('"') || quoted('\'') {
        Some("is in quotes")
    } else {
        None
    }
}

/// Returns `true` for a byte order mark of UTF-16, or for its zero bytes.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.contains(&0)
}

fn trim(text: &str) -> Result<SecretString, SecretError> {
    let secret = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .trim_end_matches(['\r', '\n']);
    match secret.len() {
        0 => Err(SecretError::Empty),
        length if length > MAX_BYTES => Err(SecretError::TooLong),
        _ => Ok(SecretString::from(secret)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn plain(text: &str) -> SecretSource {
        SecretSource::Plain(SecretString::from(text))
    }

    #[test]
    fn trailing_line_ends_and_byte_order_mark_are_stripped() {
        for (written, secret) in [
            ("s3cret==", "s3cret=="),
            ("s3cret==\n", "s3cret=="),
            ("s3cret==\r\n", "s3cret=="),
            ("s3cret==\n\r\n\n", "s3cret=="),
            ("\u{feff}s3cret==\r\n", "s3cret=="),
            (" two\nlines \n", " two\nlines "),
        ] {
            assert_eq!(
                plain(written).read().unwrap().expose_secret(),
                secret,
                "{written:?}"
            );
        }
    }

    #[test]
    fn empty_or_too_long_secret_is_rejected() {
        for written in ["", "\n", "\r\n\r\n", "\u{feff}\n"] {
            assert!(
                matches!(plain(written).read(), Err(SecretError::Empty)),
                "{written:?}"
            );
        }
        assert!(plain(&"x".repeat(MAX_BYTES)).read().is_ok());
        assert!(matches!(
            plain(&"x".repeat(MAX_BYTES + 1)).read(),
            Err(SecretError::TooLong)
        ));
    }

    #[test]
    fn changed_file_yields_the_new_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read(), Err(SecretError::Unreadable { .. })));
        for secret in ["first", "second"] {
            fs::write(&path, format!("{secret}\r\n")).unwrap();
            assert_eq!(source.read().unwrap().expose_secret(), secret);
        }
        for utf16 in [
            &[0xff, 0xfe, b'a', 0][..],
            &[0xfe, 0xff, 0, b'a'],
            &[b'a', 0],
        ] {
            fs::write(&path, utf16).unwrap();
            let error = source.read().unwrap_err();
            let problem = source.problem(&error);
            assert!(problem.contains("Set-Content"), "{problem}");
            assert!(
                problem.starts_with(&path.display().to_string()),
                "{problem}"
            );
        }
        fs::write(&path, [0xff, b'a']).unwrap();
        assert!(matches!(source.read(), Err(SecretError::NotText)));
        fs::write(&path, vec![b'x'; MAX_BYTES + 1]).unwrap();
        assert!(matches!(source.read(), Err(SecretError::TooLong)));
        assert!(matches!(
            SecretSource::File(directory.path().into()).read(),
            Err(SecretError::NotAFile(_))
        ));
    }

    #[test]
    fn printed_source_does_not_contain_the_secret() {
        let secret = SecretString::from("c4nary");
        for (source, printed) in [
            (
                SecretSource::File("/run/s".into()),
                "SecretSource(file /run/s)",
            ),
            (
                SecretSource::Credential("/c/s".into()),
                "SecretSource(file /c/s)",
            ),
            (
                SecretSource::Environment {
                    name: "NAME".to_owned(),
                    value: secret.clone(),
                },
                "SecretSource(variable NAME)",
            ),
            (
                SecretSource::Plain(secret),
                "SecretSource(the configuration)",
            ),
        ] {
            assert_eq!(format!("{source:?}"), printed);
        }
    }
}
