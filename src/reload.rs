//! Reads the configuration again: when its file has changed, and when somebody asks.
//!
//! The file is polled, as secrets and certificates are: what a platform mounts changes by a symlink far above it. A
//! change counts when two looks in a row found the same, so that a file that is being written is not taken half.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};

use crate::app::Fresh;
use crate::config::{self, Config, Problem};
use crate::tls::UpstreamTls;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// How often a configuration that was refused is checked again: what it lacked may be another file.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long the disk may take before that is told.
const DEADLINE: Duration = Duration::from_secs(5);

/// SHA-256.
type Hash = [u8; 32];

/// The configuration, read anew and checked as at the start.
pub enum Candidate {
    /// Without a mistake.
    Fresh(Box<Fresh>),
    /// With these.
    Refused(Vec<Problem>),
}

/// Looks after the configuration's file. At most one thread is at it, so a disk that hangs holds no more.
pub struct Watch {
    /// Without one, everything is from the environment.
    path: Option<PathBuf>,
    /// Told when somebody wants the configuration read now.
    asked: Notify,
    next_look: Instant,
    look: Option<Look>,
    /// What the file held when it was last taken or refused.
    settled: Hash,
    /// What the last look found, if it was something else.
    pending: Option<Hash>,
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
    problems: Vec<Problem>,
    again: Instant,
}

/// What a look found.
enum Found {
    /// What is settled.
    Same,
    /// Something else, which may not be final yet.
    Changed(Hash),
    /// Something else, or somebody asked.
    Checked(Hash, Candidate),
}

/// What a look is to know.
struct Order {
    path: Option<PathBuf>,
    /// To be checked whatever it is.
    always: bool,
    settled: Hash,
    pending: Option<Hash>,
}

impl Watch {
    /// Reads the configuration for the first time.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load(path: Option<&Path>) -> Result<(Config, Self), Vec<Problem>> {
        let read = path.map(std::fs::read);
        let settled = hash(read.as_ref());
        let config = check(path, read)?;
        let watch = Self {
            path: path.map(Path::to_owned),
            asked: Notify::new(),
            // Not the time of the start: there may be no runtime yet.
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
            let found = match timeout(patience, &mut look.thread).await {
                Ok(found) => found,
                Err(_) => {
                    look.slow = true;
                    tracing::warn!(
                        "the disk with the configuration does not answer; what was read before stays in force"
                    );
                    continue;
                }
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

    async fn begin(&self) -> Look {
        let asked = match self.path {
            Some(_) => timeout_at(self.next_look, self.asked.notified()).await.is_ok(),
            None => {
                self.asked.notified().await;
                true
            }
        };
        let again = self.refused.as_ref().is_some_and(|refused| Instant::now() >= refused.again);
        let order = Order {
            path: self.path.clone(),
            always: asked || again,
            settled: self.settled,
            pending: self.pending,
        };
        Look { thread: spawn_blocking(move || order.look()), asked, slow: false }
    }

    fn consider(&mut self, found: Found, asked: bool) -> Option<Candidate> {
        let (hash, candidate) = match found {
            Found::Same => {
                self.pending = None;
                return None;
            }
            Found::Changed(hash) => {
                self.pending = Some(hash);
                return None;
            }
            Found::Checked(hash, candidate) => (hash, candidate),
        };
        let is_news = self.settled != hash || asked;
        (self.settled, self.pending) = (hash, None);
        let before = self.refused.take();
        if let Candidate::Refused(problems) = &candidate {
            self.refused =
                Some(Refused { problems: problems.clone(), again: Instant::now() + RETRY_INTERVAL });
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
        let read = self.path.as_ref().map(std::fs::read);
        let found = hash(read.as_ref());
        if !self.always {
            if found == self.settled {
                return Found::Same;
            }
            if self.pending != Some(found) {
                return Found::Changed(found);
            }
        }
        let checked = check(self.path.as_deref(), read).and_then(|config| {
            let tls = UpstreamTls::new(&config.live.upstream).map_err(|error| {
                vec![Problem {
                    key: "upstream".to_owned(),
                    variable: None,
                    what: error.to_string(),
                    example: None,
                }]
            })?;
            Ok(Fresh { config, tls })
        });
        let candidate = checked.map_or_else(Candidate::Refused, |fresh| Candidate::Fresh(Box::new(fresh)));
        Found::Checked(found, candidate)
    }
}

fn check(path: Option<&Path>, read: Option<io::Result<Vec<u8>>>) -> Result<Config, Vec<Problem>> {
    let environment = config::process_environment();
    match (path, read) {
        (Some(path), Some(read)) => config::from_bytes(path, read, environment),
        _ => config::load(None, environment),
    }
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
