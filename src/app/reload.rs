//! Reads the configuration again: when its file has changed or one whose content is part of it, and when somebody asks.
//!
//! The files are polled, as secrets and certificates are: what a platform mounts changes by a symlink far above it. A
//! change counts when two looks in a row found the same, so that a file that is being written is not taken half.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};

use crate::app::Fresh;
use crate::config::{self, Config, ConfigProblem};
use crate::system::files::{FileDigest, FileKind};
use crate::upstream::tls::UpstreamTls;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// How often a configuration that was refused is checked again: what it lacked may be another file.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long the disk may take before that is told.
const DEADLINE: Duration = Duration::from_secs(5);

/// SHA-256.
type Hash = [u8; 32];

/// What the configuration's file held, and those whose content was part of the configuration.
#[derive(Clone, PartialEq, Eq)]
struct Held {
    text: Hash,
    contents: Vec<FileDigest>,
}

/// The configuration, read anew and checked as at the start.
pub enum Candidate {
    /// Without a mistake.
    Fresh(Box<Fresh>),
    /// With these.
    Refused(Vec<ConfigProblem>),
}

/// Looks after the configuration's files. At most one thread is at it, so a disk that hangs holds no more.
pub struct Watch {
    /// Without one, everything is from the environment.
    path: Option<PathBuf>,
    /// What can be read again and again, unlike a pipe.
    is_file: bool,
    /// Told when somebody wants the configuration read now.
    asked: Notify,
    next_look: Instant,
    look: Option<Look>,
    /// What the files held when they were last taken or refused.
    settled: Held,
    /// What the last look found, if it was something else.
    pending: Option<Held>,
    refused: Option<Refused>,
}

/// A look that is under way.
struct Look {
    thread: JoinHandle<Found>,
    asked: bool,
    slow: bool,
}

/// What was wrong when the configuration was last refused.
struct Refused {
    problems: Vec<ConfigProblem>,
    again: Instant,
}

/// What a look found.
enum Found {
    /// What is settled.
    Same,
    /// Something else, which may not be final yet.
    Changed(Held),
    /// Something else, or somebody asked.
    Checked(Held, Candidate),
}

/// What a look is to know.
struct Order {
    path: Option<PathBuf>,
    /// To be checked whatever it is.
    always: bool,
    settled: Held,
    pending: Option<Held>,
}

impl Watch {
    /// Reads the configuration for the first time.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load(path: Option<&Path>) -> Result<(Config, Self), Vec<ConfigProblem>> {
        // Once, anything can be read: a pipe as well.
        let read = path.map(std::fs::read);
        let text = hash(read.as_ref());
        let config = check(path, read)?;
        let settled = Held {
            text,
            contents: config.fingerprint.files().cloned().collect(),
        };
        let watch = Self {
            is_file: path.is_some_and(Path::is_file),
            path: path.map(Path::to_owned),
            asked: Notify::new(),
            next_look: Instant::now() + LOOK_INTERVAL,
            look: None,
            settled,
            pending: None,
            refused: None,
        };
        Ok((config, watch))
    }

    /// Has the configuration read now, and a change taken at once.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// The next configuration that is to be taken or to be told wrong. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Candidate {
        loop {
            let look = self.under_way().await;
            let asked = look.asked;
            let patience = if look.slow { Duration::MAX } else { DEADLINE };
            let Ok(found) = timeout(patience, &mut look.thread).await else {
                look.slow = true;
                tracing::warn!(
                    "the disk with the configuration does not answer; what was read before stays in force"
                );
                continue;
            };
            self.look = None;
            self.next_look = Instant::now() + LOOK_INTERVAL;
            // A thread that panicked ends the process in release builds.
            if let Ok(found) = found
                && let Some(candidate) = self.consider(found, asked)
            {
                return candidate;
            }
        }
    }

    /// The look that is under way; begins one when it is time.
    async fn under_way(&mut self) -> &mut Look {
        let look = match self.look.take() {
            Some(look) => look,
            None => self.begin().await,
        };
        self.look.insert(look)
    }

    /// Whether there is something that can be read again and again.
    fn follows(&self) -> bool {
        self.is_file || (self.path.is_none() && !self.settled.contents.is_empty())
    }

    async fn begin(&self) -> Look {
        let asked = if self.follows() {
            timeout_at(self.next_look, self.asked.notified())
                .await
                .is_ok()
        } else {
            self.asked.notified().await;
            true
        };
        let again = self
            .refused
            .as_ref()
            .is_some_and(|refused| Instant::now() >= refused.again);
        let order = Order {
            path: self.path.clone(),
            always: asked || again,
            settled: self.settled.clone(),
            pending: self.pending.clone(),
        };
        Look {
            thread: spawn_blocking(move || order.look()),
            asked,
            slow: false,
        }
    }

    fn consider(&mut self, found: Found, asked: bool) -> Option<Candidate> {
        let (held, candidate) = match found {
            Found::Same => {
                self.pending = None;
                return None;
            }
            Found::Changed(held) => {
                self.pending = Some(held);
                return None;
            }
            Found::Checked(held, candidate) => (held, candidate),
        };
        let is_news = self.settled != held || asked;
        (self.settled, self.pending) = (held, None);
        let before = self.refused.take();
        if let Candidate::Refused(problems) = &candidate {
            self.refused = Some(Refused {
                problems: problems.clone(),
                again: Instant::now() + RETRY_INTERVAL,
            });
            // The same again is not told again.
            if !is_news && before.is_some_and(|before| before.problems == *problems) {
                return None;
            }
        }
        Some(candidate)
    }
}

impl Order {
    /// Blocks for as long as the disk does.
    fn look(self) -> Found {
        let read = self.path.as_deref().map(read);
        let contents = self
            .settled
            .contents
            .iter()
            .map(|file| FileDigest::of(file.path(), FileKind::Configuration))
            .collect();
        let mut found = Held {
            text: hash(read.as_ref()),
            contents,
        };
        if !self.always {
            if found == self.settled {
                return Found::Same;
            }
            if self.pending.as_ref() != Some(&found) {
                return Found::Changed(found);
            }
        }
        let checked = check(self.path.as_deref(), read).and_then(|config| {
            let tls = UpstreamTls::new(&config.live.upstream).map_err(|error| {
                vec![ConfigProblem {
                    key: "upstream".to_owned(),
                    variable: None,
                    what: error.to_string(),
                    example: None,
                }]
            })?;
            Ok(Fresh { config, tls })
        });
        let candidate = match checked {
            Ok(fresh) => {
                // As they were just before the check read them, and maybe others than before.
                found.contents = fresh.config.fingerprint.files().cloned().collect();
                Candidate::Fresh(Box::new(fresh))
            }
            Err(problems) => Candidate::Refused(problems),
        };
        Found::Checked(found, candidate)
    }
}

fn check(
    path: Option<&Path>,
    read: Option<io::Result<Vec<u8>>>,
) -> Result<Config, Vec<ConfigProblem>> {
    let environment = config::process_environment();
    match (path, read) {
        (Some(path), Some(read)) => config::from_bytes(path, read, environment),
        _ => config::load(None, environment),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before opening: opening a pipe would wait for somebody to write into it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other(
            "it is not a regular file, which could be read again",
        ));
    }
    std::fs::read(path)
}

/// The same as long as nothing changes; so is the lack of a file.
fn hash(read: Option<&io::Result<Vec<u8>>>) -> Hash {
    let text = match read {
        None => Vec::new(),
        Some(Ok(bytes)) => [b"+", bytes.as_slice()].concat(),
        Some(Err(error)) => format!("-{error}").into_bytes(),
    };
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &text).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const CITRIX: &str = "[citrix]\ncustomer_id = 'acme'\nclient_id = 'c'\nclient_secret = 's'\n";

    fn scene(text: &str) -> (tempfile::NamedTempFile, Watch) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (_, watch) = Watch::load(Some(file.path())).unwrap();
        (file, watch)
    }

    /// The next candidate, on a clock that moves while nobody works: its problems, and when it came.
    async fn next(watch: &mut Watch) -> (Option<usize>, Duration) {
        let began = Instant::now();
        let problems = match watch.next().await {
            Candidate::Fresh(_) => None,
            Candidate::Refused(problems) => Some(problems.len()),
        };
        (problems, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_when_two_looks_found_the_same() {
        let (file, mut watch) = scene(CITRIX);
        assert!(
            timeout(LOOK_INTERVAL * 10, watch.next()).await.is_err(),
            "nothing changed"
        );
        std::fs::write(file.path(), format!("{CITRIX}[limits]\n")).unwrap();
        assert!(
            timeout(LOOK_INTERVAL * 3 / 2, watch.next()).await.is_err(),
            "one look"
        );
        std::fs::write(
            file.path(),
            format!("{CITRIX}[limits]\nmax_in_flight = 2\n"),
        )
        .unwrap();
        let (problems, after) = next(&mut watch).await;
        assert!(
            problems.is_none() && after > LOOK_INTERVAL,
            "{after:?}: the last look found another text"
        );
        assert!(
            timeout(LOOK_INTERVAL * 10, watch.next()).await.is_err(),
            "it is told once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_is_told_at_once_and_always() {
        let (_file, mut watch) = scene(CITRIX);
        for _ in 0..2 {
            watch.ask();
            let (problems, after) = next(&mut watch).await;
            assert!(problems.is_none() && after < LOOK_INTERVAL, "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_tried_again_and_told_again_only_when_it_is_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        let (file, mut watch) = scene(CITRIX);
        let text = CITRIX.replace("'s'", &format!("{{ file = '{}' }}", secret.display()));
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(next(&mut watch).await.0, Some(1));
        assert!(
            timeout(RETRY_INTERVAL * 3, watch.next()).await.is_err(),
            "the same is not told again"
        );
        // As when two volumes are mounted one after the other.
        std::fs::write(&secret, "s3cret").unwrap();
        let (problems, after) = next(&mut watch).await;
        assert!(
            problems.is_none() && after <= RETRY_INTERVAL + LOOK_INTERVAL,
            "{after:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_whose_content_is_part_of_the_configuration_is_followed_as_well() {
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
        let (file, mut watch) = scene(CITRIX);
        let more = format!(
            "[login]\nsigning_key = {{ file = '{}' }}\n[upstream]\nca_file = '{}'\n",
            key.display(),
            roots.display()
        );
        std::fs::write(&roots, &root).unwrap();
        std::fs::write(file.path(), format!("{CITRIX}{more}")).unwrap();
        assert_eq!(next(&mut watch).await.0, None, "it names them");
        std::fs::write(&key, &keys[1]).unwrap();
        let (problems, after) = next(&mut watch).await;
        assert!(
            problems.is_none() && after <= LOOK_INTERVAL * 3,
            "{after:?}"
        );
        std::fs::write(&key, "short").unwrap();
        assert_eq!(next(&mut watch).await.0, Some(1));
        std::fs::write(&key, &keys[2]).unwrap();
        assert_eq!(next(&mut watch).await.0, None);
        std::fs::write(&roots, "no certificate").unwrap();
        assert_eq!(next(&mut watch).await.0, Some(1));
        std::fs::write(&roots, &root).unwrap();
        assert_eq!(next(&mut watch).await.0, None);
        assert!(
            timeout(LOOK_INTERVAL * 10, watch.next()).await.is_err(),
            "each is told once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_it_waits_until_it_is_asked() {
        let (_file, mut watch) = scene(CITRIX);
        (watch.path, watch.is_file) = (None, false);
        assert!(timeout(LOOK_INTERVAL * 10, watch.next()).await.is_err());
        watch.ask();
        assert!(
            next(&mut watch).await.0.is_some(),
            "the test's environment has no customer"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_file_is_not_read_again() {
        let (_file, mut watch) = scene(CITRIX);
        (watch.path, watch.is_file) = (Some("/dev/null".into()), false);
        watch.ask();
        assert_eq!(next(&mut watch).await.0, Some(1));
    }
}
