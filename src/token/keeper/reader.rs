//! Reads of a credential's secrets.

use secrecy::SecretString;
use tracing::{info, warn};

use crate::config::{Credential, SecretSource, likely_mistake};
use crate::system::files::{FileContent, FileKind, FileReader, FileSnapshot, Poller};
use crate::token::status::WhichSecret;

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
    fn poller(&self, files: &FileReader) -> Poller {
        let sources = [Some(&self.current), self.next.as_ref()];
        let paths = sources
            .into_iter()
            .flatten()
            .filter_map(SecretSource::path)
            .map(ToOwned::to_owned);
        Poller::unread(FileKind::ClientSecret, paths, files)
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
    secret.map_err(|error| source.problem(&error))
}

/// The result of reading a secret, for the log.
#[derive(Debug, Default, PartialEq, Eq)]
enum Finding {
    #[default]
    Unknown,
    Good,
    /// Readable, but probably written by mistake.
    Mistake(&'static str),
    /// With the cause.
    Unreadable(String),
}

impl Finding {
    fn of(secret: &ReadSecret) -> Self {
        match secret {
            Err(cause) => Self::Unreadable(cause.clone()),
            Ok(secret) => likely_mistake(secret).map_or(Self::Good, Self::Mistake),
        }
    }

    fn log(&self, last: &Self, customer: &str, secret: &str) {
        match self {
            Self::Unreadable(error) => warn!(
                customer,
                secret,
                error,
                "client secret unreadable; last accepted secret and token stay in use"
            ),
            // The configuration check has warned of the first one.
            Self::Mistake(mistake) if *last != Self::Unknown => warn!(
                customer,
                secret, mistake, "client secret probably has a mistake; it is sent as it is"
            ),
            _ => {}
        }
        let readable = !matches!(self, Self::Unreadable(_));
        if readable && matches!(last, Self::Unreadable(_)) {
            info!(customer, secret, "client secret readable again");
        }
    }
}

/// Reads the secrets, and polls those that are files. A file that is not read in time counts as
/// unreadable. Logs a secret that becomes unreadable, and its recovery.
#[derive(Debug)]
pub(super) struct SecretReader {
    customer: String,
    sources: SecretSources,
    /// The findings of the last read, for `client_secret` and `client_secret_next`.
    findings: [Finding; 2],
    poller: Poller,
    files: FileReader,
}

impl SecretReader {
    pub(super) fn new(customer: &str, sources: SecretSources, files: &FileReader) -> Self {
        Self {
            customer: customer.to_owned(),
            poller: sources.poller(files),
            sources,
            findings: Default::default(),
            files: files.clone(),
        }
    }

    /// Reads the secrets now. A change is reported relative to this read.
    pub(super) async fn read(&mut self) -> SecretSnapshot {
        let files = self.poller.read().await;
        self.poller.follow(files.digests().to_vec());
        self.snapshot(files)
    }

    /// Waits until the content of a file changes. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) -> SecretSnapshot {
        let files = self.poller.next().await.snapshot;
        self.snapshot(files)
    }

    /// Returns the cause if a secret was unreadable at the last read.
    pub(super) fn problem(&self) -> Option<&str> {
        let problems = self.findings.iter().map(|finding| match finding {
            Finding::Unreadable(cause) => Some(cause.as_str()),
            Finding::Unknown | Finding::Good | Finding::Mistake(_) => None,
        });
        problems.flatten().next()
    }

    fn snapshot(&mut self, files: FileSnapshot) -> SecretSnapshot {
        let snapshot = SecretSnapshot::new(&self.sources, files);
        let secrets = [
            (WhichSecret::Current, Some(&snapshot.current)),
            (WhichSecret::Next, snapshot.next.as_ref()),
        ];
        for ((which, secret), last) in secrets.into_iter().zip(&mut self.findings) {
            let finding = secret.map_or(Finding::Unknown, Finding::of);
            if finding != *last {
                finding.log(last, &self.customer, which.key());
                *last = finding;
            }
        }
        snapshot
    }

    /// Replaces the sources. Returns `true` if they differ.
    pub(super) fn set_sources(&mut self, sources: SecretSources) -> bool {
        let differ = self.sources != sources;
        if differ {
            self.poller = sources.poller(&self.files);
            self.sources = sources;
            self.findings = Default::default();
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
        let files = FileReader::register(&Registry::new()).unwrap();
        let snapshot = SecretReader::new("acme", sources, &files).read().await;
        let cause = snapshot.current.unwrap_err();
        assert!(cause.contains("/no/such/secret: No such file"), "{cause}");
        assert!(snapshot.next.unwrap().is_ok());
    }
}
