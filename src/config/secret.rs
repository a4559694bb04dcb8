//! Secrets: where one comes from, and reading it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::system::files::{self, FileContent, FileKind, ReadError};

const MAX_BYTES: usize = FileKind::ClientSecret.max_bytes();

/// Where a secret comes from. Printing it never shows the secret.
#[derive(Clone)]
pub enum SecretSource {
    /// A file, read anew each time.
    File(PathBuf),
    /// A file in `$CREDENTIALS_DIRECTORY`, where a service manager puts secrets; read anew each time.
    Credential(PathBuf),
    /// An environment variable, as it was when the configuration was read.
    Environment {
        /// The variable's name.
        name: String,
        /// What it held.
        value: SecretString,
    },
    /// The text of the configuration itself.
    Plain(SecretString),
}

impl SecretSource {
    /// The secret as it is now, without line ends behind it (nor the byte order mark of a Windows editor before
    /// it). Reads a file, so it blocks for a moment.
    ///
    /// # Errors
    /// When there is no secret to be had: see [`SecretError`].
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::File(path) | Self::Credential(path) => {
                Self::from_content(path, files::read(path, FileKind::ClientSecret))
            }
            Self::Environment { value, .. } | Self::Plain(value) => trimmed(value.expose_secret()),
        }
    }

    /// Returns the secret in the content of the file at `path`.
    ///
    /// # Errors
    /// When the file was not read, is empty or is not text.
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
        trimmed(std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText)?)
    }

    /// The file to watch for a new secret, if it comes from one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::Credential(path) => Some(path),
            Self::Environment { .. } | Self::Plain(_) => None,
        }
    }
}

impl PartialEq for SecretSource {
    /// Whether both come from the same place and, where that place never changes, are the same.
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
    /// Where it comes from, for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Credential(path) => write!(f, "file {}", path.display()),
            Self::Environment { name, .. } => write!(f, "variable {name}"),
            Self::Plain(_) => f.write_str("the configuration itself"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSource({self})")
    }
}

/// Why there is no secret. Printing it may show a file's path, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The path leads to a directory, a pipe or a device; those cannot be read again and again.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The volume did not respond in time.
    #[error("read of {} timed out", .0.display())]
    TimedOut(PathBuf),
    /// Nothing but line ends.
    #[error("the secret is empty")]
    Empty,
    /// More than 64 KiB.
    #[error("the secret is longer than 64 KiB")]
    TooLong,
    /// Not UTF-8.
    #[error("the secret is not UTF-8 text")]
    NotText,
}

fn trimmed(text: &str) -> Result<SecretString, SecretError> {
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
    fn line_ends_behind_a_secret_are_not_part_of_it() {
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
    fn an_empty_or_endless_secret_is_refused() {
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
    fn a_file_is_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read(), Err(SecretError::Unreadable { .. })));
        for secret in ["first", "second"] {
            fs::write(&path, format!("{secret}\r\n")).unwrap();
            assert_eq!(source.read().unwrap().expose_secret(), secret);
        }
        fs::write(&path, [0xff, 0xfe, b'a', 0]).unwrap();
        assert!(matches!(source.read(), Err(SecretError::NotText)));
        fs::write(&path, vec![b'x'; MAX_BYTES + 1]).unwrap();
        assert!(matches!(source.read(), Err(SecretError::TooLong)));
        assert!(matches!(
            SecretSource::File(folder.path().into()).read(),
            Err(SecretError::NotAFile(_))
        ));
    }

    #[test]
    fn printing_a_source_says_where_it_is_and_not_what() {
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
                "SecretSource(the configuration itself)",
            ),
        ] {
            assert_eq!(format!("{source:?}"), printed);
        }
    }
}
