//! Files that change while the program runs: configuration, certificates, client secrets, the
//! egress proxy's URL.
//!
//! They are polled: volumes that a platform mounts are replaced through a symbolic link in a parent
//! directory, and network volumes report no changes at all. A [`Poller`] follows the files of one
//! use; all pollers read through one [`FileReader`], which bounds threads and spreads the reads
//! over the interval.

mod poller;
mod reader;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::zeroize::Zeroizing;

use super::descriptors;
use super::digest::{Sha256, Sha256Builder};

pub use poller::{Poller, ReadTrigger, Update};
pub use reader::FileReader;

/// Time between two reads of a file. A change that needs two reads takes effect within 10 s
/// (interface §3.2): two intervals and two [`READ_TIMEOUT`]s.
pub const READ_INTERVAL: Duration = Duration::from_secs(3);
/// Deadline of one read of a file.
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The use of a file, which determines its maximum size and the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The configuration file, and keys and roots that are part of the configuration.
    Configuration,
    /// Certificate, key and client authorities of `[listen.tls]`.
    Certificate,
    /// `client_secret` and `client_secret_next` of a credential.
    ClientSecret,
    /// `upstream.proxy_url`.
    EgressProxy,
}

impl FileKind {
    const ALL: [Self; 4] = [
        Self::Configuration,
        Self::Certificate,
        Self::ClientSecret,
        Self::EgressProxy,
    ];

    /// Returns the value of the label `kind`.
    const fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Certificate => "certificate",
            Self::ClientSecret => "client_secret",
            Self::EgressProxy => "egress_proxy",
        }
    }

    /// Returns the maximum size in bytes, far above any valid file of the kind.
    pub const fn max_bytes(self) -> usize {
        match self {
            Self::Configuration => 16 << 20,
            // Four times the size of all public roots together.
            Self::Certificate => 1 << 20,
            Self::ClientSecret | Self::EgressProxy => 64 << 10,
        }
    }

    /// Returns `true` if the poller logs failed reads; a keeper logs those of its secrets, with the
    /// customer.
    const fn is_logged(self) -> bool {
        !matches!(self, Self::ClientSecret)
    }

    /// Returns `true` if a change takes effect only when two consecutive reads agree, so that
    /// neither a half-written file nor a certificate without its key is used.
    const fn needs_two_reads(self) -> bool {
        matches!(self, Self::Configuration | Self::Certificate)
    }
}

/// The reason why a file has no content.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A directory, pipe, socket or device. Opening a pipe would block until another process writes
    /// to it.
    #[error("not a regular file")]
    NotRegular,
    /// Larger than this many bytes.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
    /// The volume did not respond within [`READ_TIMEOUT`].
    #[error("read timed out after {}", humantime::format_duration(READ_TIMEOUT))]
    TimedOut,
}

/// The bytes of a file, wiped when dropped, or the reason why there are none.
pub type FileContent = Result<Zeroizing<Vec<u8>>, ReadError>;

/// Reads a regular file. Blocks.
///
/// # Errors
/// See [`ReadError`].
pub fn read(path: &Path, kind: FileKind) -> FileContent {
    let max = kind.max_bytes();
    // Before `open`, which would block on a pipe.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ReadError::NotRegular);
    }
    let length = usize::try_from(metadata.len()).map_or(max, |length| length.min(max));
    // The whole capacity at once, since growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(ReadError::TooLarge(max));
    }
    Ok(bytes)
}

/// A path, and the digest of the file's content or of the error that reading it returned.
#[derive(Clone, PartialEq, Eq)]
pub struct FileDigest {
    path: PathBuf,
    digest: Sha256,
}

impl FileDigest {
    /// Reads the file at `path`. Blocks.
    pub fn of(path: &Path, kind: FileKind) -> Self {
        Self::of_content(path, &read(path, kind))
    }

    /// Returns the digest of content that has been read from `path`.
    pub fn of_content<B: AsRef<[u8]>, E: fmt::Display>(
        path: &Path,
        content: &Result<B, E>,
    ) -> Self {
        let mut digest = Sha256Builder::default();
        match content {
            Ok(bytes) => {
                digest.part(b"content");
                digest.bytes(bytes.as_ref());
            }
            Err(error) => {
                digest.part(b"error");
                digest.bytes(error.to_string().as_bytes());
            }
        }
        Self {
            path: path.to_owned(),
            digest: digest.finish(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// The result of one read of all files of a [`Poller`], in their order.
#[derive(Debug)]
pub struct FileSnapshot {
    digests: Vec<FileDigest>,
    contents: Vec<FileContent>,
}

impl FileSnapshot {
    /// Reads the files. Blocks.
    pub fn read(paths: &[PathBuf], kind: FileKind) -> Self {
        let contents = paths.iter().map(|path| read(path, kind)).collect();
        Self::new(paths.iter().map(PathBuf::as_path), contents)
    }

    fn new<'p>(paths: impl Iterator<Item = &'p Path>, contents: Vec<FileContent>) -> Self {
        Self {
            digests: paths
                .zip(&contents)
                .map(|(path, content)| FileDigest::of_content(path, content))
                .collect(),
            contents,
        }
    }

    /// Returns the digests of all files.
    pub fn digests(&self) -> &[FileDigest] {
        &self.digests
    }

    /// Returns the contents of all files.
    pub fn into_contents(self) -> Vec<FileContent> {
        self.contents
    }

    /// Returns `true` if a file was not read for lack of file descriptors, which says nothing about
    /// its content.
    fn lacks_descriptors(&self) -> bool {
        let is_shortage = |content: &FileContent| matches!(content, Err(ReadError::Io(error)) if descriptors::is_shortage(error));
        self.contents.iter().any(is_shortage)
    }

    fn timed_out(&self) -> bool {
        let timed_out = |content: &FileContent| matches!(content, Err(ReadError::TimedOut));
        self.contents.iter().any(timed_out)
    }

    /// Returns `true` if every file was read.
    pub fn is_complete(&self) -> bool {
        self.contents.iter().all(Result::is_ok)
    }
}

#[cfg(test)]
mod tests;
