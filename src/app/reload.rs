//! Reloads of the configuration: when its file or a file that it includes changes, and on request.
//!
//! Reading and checking run on a blocking thread. The previous configuration stays in force until
//! the check has succeeded.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};

use crate::app::NewConfig;
use crate::config::{self, Config, ConfigProblem};
use crate::system::descriptors;
use crate::system::files::{FileContent, FileDigest, FileKind, FileReader, Poller, Update};
use crate::upstream::tls::UpstreamTls;

/// Time between checks of a rejected configuration: its error may be in a file that is not polled.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Duration of a check after which a warning is logged.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a reload.
pub enum Candidate {
    Valid(Box<NewConfig>),
    /// The problems of an invalid one.
    Rejected(Vec<ConfigProblem>),
}

/// The source of a loaded configuration.
pub struct ConfigSource {
    path: Option<PathBuf>,
    /// The files as they were read.
    files: Vec<FileDigest>,
}

/// Polls the configuration's files.
pub struct ConfigWatcher {
    /// `None` if environment variables hold the whole configuration.
    path: Option<PathBuf>,
    poller: Poller,
    /// A reload was requested.
    requested: AtomicBool,
    check: Option<ConfigCheck>,
    rejected: Option<RejectedConfig>,
}

/// A check in progress.
struct ConfigCheck {
    thread: JoinHandle<Result<NewConfig, CheckError>>,
    /// The configuration file as it was read for this check.
    file: Option<FileDigest>,
    /// Requested, or for a change; otherwise a retry.
    is_new: bool,
    overdue: bool,
}

/// The reason why a check yields no configuration.
enum CheckError {
    Invalid(Vec<ConfigProblem>),
    /// No file descriptor was left, so the problems may not be the configuration's.
    Shortage,
}

struct RejectedConfig {
    problems: Vec<ConfigProblem>,
    retry_at: Instant,
}

impl ConfigSource {
    /// Returns the path of the file; `None` if environment variables hold the whole configuration.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Loads the configuration for the first time.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load(path: Option<&Path>) -> Result<(Config, Self), Vec<ConfigProblem>> {
        // The first read accepts any file, such as a pipe.
        let content = path.map(std::fs::read);
        let file = path
            .zip(content.as_ref())
            .map(|(path, content)| FileDigest::of_content(path, content));
        let config = check(path, content)?;
        let source = Self {
            path: path.map(Path::to_owned),
            files: digests(file, &config),
        };
        Ok((config, source))
    }

    /// Returns a watcher of the files.
    pub fn watch(self, reader: &FileReader) -> ConfigWatcher {
        let mut poller = Poller::new(FileKind::Configuration, self.files, reader);
        if self.path.as_ref().is_some_and(|path| !path.is_file()) {
            poller.read_on_request_only();
        }
        ConfigWatcher {
            path: self.path,
            poller,
            requested: AtomicBool::new(false),
            check: None,
            rejected: None,
        }
    }
}

impl ConfigWatcher {
    /// Requests an immediate reload.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Relaxed);
        self.poller.trigger().request();
    }

    /// Waits for the next changed or requested configuration. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Candidate {
        loop {
            let check = match self.check.take() {
                Some(check) => check,
                None => self.start_check().await,
            };
            let check = self.check.insert(check);
            let limit = if check.overdue {
                Duration::MAX
            } else {
                CHECK_TIMEOUT
            };
            let Ok(result) = timeout(limit, &mut check.thread).await else {
                check.overdue = true;
                tracing::warn!(
                    "configuration check is slow; the previous configuration stays in force"
                );
                continue;
            };
            // A thread that panicked ends the process in release builds.
            if let (Some(check), Ok(result)) = (self.check.take(), result)
                && let Some(candidate) = self.conclude(check, result)
            {
                return candidate;
            }
        }
    }

    async fn start_check(&mut self) -> ConfigCheck {
        let update = self.next_update().await;
        let is_new = update.changed || self.requested.swap(false, Ordering::Relaxed);
        let path = self.path.clone();
        let file = path
            .as_ref()
            .and_then(|_| update.snapshot.digests().first().cloned());
        let content = path
            .as_ref()
            .and_then(|_| update.snapshot.into_contents().into_iter().next());
        ConfigCheck {
            thread: spawn_blocking(move || check_again(path.as_deref(), content)),
            file,
            is_new,
            overdue: false,
        }
    }

    /// Waits for a change, for a request, or until a rejected configuration is due for another
    /// check.
    async fn next_update(&mut self) -> Update {
        loop {
            let Some(rejected) = &mut self.rejected else {
                return self.poller.next().await;
            };
            match timeout_at(rejected.retry_at, self.poller.next()).await {
                Ok(update) => return update,
                Err(_) => {
                    rejected.retry_at += RETRY_INTERVAL;
                    self.poller.trigger().request();
                }
            }
        }
    }

    fn conclude(
        &mut self,
        check: ConfigCheck,
        result: Result<NewConfig, CheckError>,
    ) -> Option<Candidate> {
        let before = self.rejected.take();
        let retry_at = Instant::now() + RETRY_INTERVAL;
        match result {
            Ok(new) => {
                self.poller.follow(digests(check.file, &new.config));
                Some(Candidate::Valid(Box::new(new)))
            }
            Err(CheckError::Shortage) => {
                tracing::warn!(
                    "configuration not checked for lack of file descriptors; the previous configuration stays in force"
                );
                let problems = before.map(|before| before.problems).unwrap_or_default();
                self.rejected = Some(RejectedConfig { problems, retry_at });
                None
            }
            Err(CheckError::Invalid(problems)) => {
                self.rejected = Some(RejectedConfig {
                    problems: problems.clone(),
                    retry_at,
                });
                let is_known = before.is_some_and(|before| before.problems == problems);
                (check.is_new || !is_known).then_some(Candidate::Rejected(problems))
            }
        }
    }
}

/// Returns the configuration file and the files that it includes, as they were read.
fn digests(file: Option<FileDigest>, config: &Config) -> Vec<FileDigest> {
    file.into_iter()
        .chain(config.fingerprint.files().cloned())
        .collect()
}

/// Checks the configuration and reads the roots for upstreams. Blocks.
fn check_again(path: Option<&Path>, content: Option<FileContent>) -> Result<NewConfig, CheckError> {
    read_and_check(path, content).map_err(|problems| {
        if descriptors::are_exhausted() {
            CheckError::Shortage
        } else {
            CheckError::Invalid(problems)
        }
    })
}

fn read_and_check(
    path: Option<&Path>,
    content: Option<FileContent>,
) -> Result<NewConfig, Vec<ConfigProblem>> {
    let content = content.map(|content| match content {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(io::Error::other(error)),
    });
    let mut config = check(path, content)?;
    let tls = UpstreamTls::new(&config.live.upstream).map_err(|e| vec![e.config_problem()])?;
    config.warnings.extend(tls.warning.clone());
    Ok(NewConfig { config, tls })
}

fn check(
    path: Option<&Path>,
    content: Option<io::Result<Vec<u8>>>,
) -> Result<Config, Vec<ConfigProblem>> {
    let environment = config::process_environment();
    match (path, content) {
        (Some(path), Some(content)) => config::from_bytes(path, content, environment),
        _ => config::load(None, environment),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::system::files::READ_INTERVAL;

    const CITRIX: &str = "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\nclient_secret = 's'\n";

    fn scene(text: &str) -> (tempfile::NamedTempFile, ConfigWatcher) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (_, source) = ConfigSource::load(Some(file.path())).unwrap();
        (file, source.watch(&reader()))
    }

    fn reader() -> FileReader {
        FileReader::register(&Registry::new()).unwrap()
    }

    /// Returns the number of problems of the next candidate, and the wait for it. Time passes only
    /// while no file is read.
    async fn next(watcher: &mut ConfigWatcher) -> (Option<usize>, Duration) {
        let began = Instant::now();
        let problems = match watcher.next().await {
            Candidate::Valid(_) => None,
            Candidate::Rejected(problems) => Some(problems.len()),
        };
        (problems, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn change_is_reloaded_after_two_equal_reads() {
        let (file, mut watcher) = scene(CITRIX);
        // Ends between two reads: a read at the deadline could see either content.
        assert!(
            timeout(READ_INTERVAL * 21 / 2, watcher.next())
                .await
                .is_err(),
            "nothing changed"
        );
        std::fs::write(file.path(), format!("{CITRIX}[limits]\n")).unwrap();
        assert!(
            timeout(READ_INTERVAL, watcher.next()).await.is_err(),
            "one read"
        );
        std::fs::write(
            file.path(),
            format!("{CITRIX}[limits]\nmax_in_flight = 2\n"),
        )
        .unwrap();
        let (problems, after) = next(&mut watcher).await;
        assert!(
            problems.is_none() && after > READ_INTERVAL,
            "{after:?}: the reads differ"
        );
        assert!(
            timeout(READ_INTERVAL * 10, watcher.next()).await.is_err(),
            "already reported"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn request_reloads_at_once_without_a_change() {
        let (_file, mut watcher) = scene(CITRIX);
        for _ in 0..2 {
            watcher.request();
            let (problems, after) = next(&mut watcher).await;
            assert!(problems.is_none() && after < READ_INTERVAL, "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rejected_configuration_is_retried_and_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        let (file, mut watcher) = scene(CITRIX);
        let text = CITRIX.replace("'s'", &format!("{{ file = '{}' }}", secret.display()));
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(next(&mut watcher).await.0, Some(1));
        // Ends between two retries: one at the deadline could see either content.
        assert!(
            timeout(RETRY_INTERVAL * 5 / 2, watcher.next())
                .await
                .is_err(),
            "the same problems"
        );
        // For example, two volumes are mounted one after the other.
        std::fs::write(&secret, "s3cret").unwrap();
        let (problems, after) = next(&mut watcher).await;
        assert!(
            problems.is_none() && after <= RETRY_INTERVAL + READ_INTERVAL,
            "{after:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn included_file_is_polled() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, roots) = (
            ["a", "b", "c"].map(|letter| letter.repeat(32)),
            folder.path().join("roots.pem"),
        );
        let root = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .unwrap()
            .cert
            .pem();
        let key = folder.path().join("key");
        std::fs::write(&key, &keys[0]).unwrap();
        let (file, mut watcher) = scene(CITRIX);
        let more = format!(
            "[login]\nsigning_key = {{ file = '{}' }}\n[upstream]\nca_file = '{}'\n",
            key.display(),
            roots.display()
        );
        std::fs::write(&roots, &root).unwrap();
        std::fs::write(file.path(), format!("{CITRIX}{more}")).unwrap();
        assert_eq!(next(&mut watcher).await.0, None, "the new file names");
        std::fs::write(&key, &keys[1]).unwrap();
        let (problems, after) = next(&mut watcher).await;
        assert!(
            problems.is_none() && after <= READ_INTERVAL * 3,
            "{after:?}"
        );
        std::fs::write(&key, "short").unwrap();
        assert_eq!(next(&mut watcher).await.0, Some(1));
        std::fs::write(&key, &keys[2]).unwrap();
        assert_eq!(next(&mut watcher).await.0, None);
        std::fs::write(&roots, "no certificate").unwrap();
        assert_eq!(next(&mut watcher).await.0, Some(1));
        std::fs::write(&roots, &root).unwrap();
        assert_eq!(next(&mut watcher).await.0, None);
        assert!(
            timeout(READ_INTERVAL * 10, watcher.next()).await.is_err(),
            "already reported"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn configuration_without_files_is_read_on_request() {
        let (_file, mut watcher) = scene(CITRIX);
        watcher.path = None;
        watcher.poller = Poller::new(FileKind::Configuration, Vec::new(), &reader());
        assert!(timeout(READ_INTERVAL * 10, watcher.next()).await.is_err());
        watcher.request();
        assert!(
            next(&mut watcher).await.0.is_some(),
            "the test's environment has no customer"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn irregular_file_is_not_read_again() {
        let (_file, mut watcher) = scene(CITRIX);
        let path = PathBuf::from("/dev/null");
        watcher.poller = Poller::unread(FileKind::Configuration, [path.clone()], &reader());
        watcher.poller.read_on_request_only();
        watcher.path = Some(path);
        watcher.request();
        assert_eq!(next(&mut watcher).await.0, Some(1));
    }
}
