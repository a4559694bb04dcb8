//! Reads of a credential's secrets.

use std::error::Error as _;

use secrecy::SecretString;

use crate::config::{Credential, SecretSource};
use crate::system::files::{FileContent, FileKind, FileSnapshot, Poller, ReadFailures};

/// Sources of a credential's one or two secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretSources {
    pub(super) current: SecretSource,
    pub(super) next: Option<SecretSource>,
}

impl SecretSources {
    pub(super) fn of(credential: &Credential) -> Self {
        Self {
            current: credential.client_secret.clone(),
            next: credential.client_secret_next.clone(),
        }
    }

    /// Returns a poller of those sources that are files.
    fn poller(&self, failures: &ReadFailures) -> Poller {
        let sources = [Some(&self.current), self.next.as_ref()];
        let paths = sources
            .into_iter()
            .flatten()
            .filter_map(SecretSource::path)
            .map(ToOwned::to_owned);
        Poller::unread(FileKind::ClientSecret, paths).counted_by(failures)
    }
}

/// A secret, or the cause for the log if it is unreadable.
pub(super) type ReadSecret = Result<SecretString, String>;

/// The secrets at one moment.
#[derive(Debug)]
pub(super) struct SecretSnapshot {
    pub(super) current: ReadSecret,
    pub(super) next: Option<ReadSecret>,
}

impl SecretSnapshot {
    fn new(sources: &SecretSources, files: FileSnapshot) -> Self {
        let mut contents = files.into_contents().into_iter();
        let mut read = |source| read(source, &mut contents);
        Self {
            current: read(&sources.current),
            next: sources.next.as_ref().map(read),
        }
    }
}

/// Returns a secret, in the next of `contents` if its source is a file.
fn read(source: &SecretSource, contents: &mut impl Iterator<Item = FileContent>) -> ReadSecret {
    let file = source
        .path()
        .and_then(|path| Some((path, contents.next()?)));
    let secret = match file {
        Some((path, content)) => SecretSource::from_content(path, content),
        None => source.read(),
    };
    secret.map_err(|error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// Reads the secrets, and polls those that are files. A file that is not read in time counts as
/// unreadable.
#[derive(Debug)]
pub(super) struct SecretReader {
    sources: SecretSources,
    poller: Poller,
    failures: ReadFailures,
}

impl SecretReader {
    pub(super) fn new(sources: SecretSources, failures: &ReadFailures) -> Self {
        Self {
            poller: sources.poller(failures),
            sources,
            failures: failures.clone(),
        }
    }

    /// Reads the secrets now. A change is reported relative to this read.
    pub(super) async fn read(&mut self) -> SecretSnapshot {
        let files = self.poller.read().await;
        self.poller.follow(files.digests().to_vec());
        SecretSnapshot::new(&self.sources, files)
    }

    /// Waits until the content of a file changes. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) -> SecretSnapshot {
        let files = self.poller.next().await.snapshot;
        SecretSnapshot::new(&self.sources, files)
    }

    /// Replaces the sources. Returns `true` if they differ.
    pub(super) fn set_sources(&mut self, sources: SecretSources) -> bool {
        let differ = self.sources != sources;
        if differ {
            self.poller = sources.poller(&self.failures);
            self.sources = sources;
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[tokio::test]
    async fn unreadable_file_has_a_cause_and_leaves_the_other_secret() {
        let sources = SecretSources {
            current: SecretSource::File("/no/such/secret".into()),
            next: Some(SecretSource::Plain(SecretString::from("plain"))),
        };
        let failures = ReadFailures::register(&Registry::new()).unwrap();
        let snapshot = SecretReader::new(sources, &failures).read().await;
        let cause = snapshot.current.unwrap_err();
        assert!(cause.contains("/no/such/secret: No such file"), "{cause}");
        assert!(snapshot.next.unwrap().is_ok());
    }
}
