//! The async jobs of CVAD (contract §4, "Timing").

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// How many jobs are remembered; the oldest goes first. (The real service forgets by age.)
const CAPACITY: usize = 1000;

/// The jobs started so far.
#[derive(Default)]
pub(super) struct Jobs(Mutex<VecDeque<Job>>);

#[derive(Clone)]
pub(super) struct Job {
    pub(super) id: Uuid,
    /// What the job does, such as `$reboot`.
    pub(super) kind: String,
    /// The path below the service of the object that it works on.
    pub(super) subject: String,
    /// The client that started it, who alone may see it (contract §4, "Timing").
    owner: Arc<str>,
    polls: u32,
}

impl Jobs {
    pub(super) fn start(&self, owner: &str, kind: String, subject: String) -> Uuid {
        let mut jobs = self.jobs();
        if jobs.len() == CAPACITY {
            jobs.pop_front();
        }
        let id = Uuid::new_v4();
        jobs.push_back(Job {
            id,
            kind,
            subject,
            owner: owner.into(),
            polls: 0,
        });
        id
    }

    /// The job, one step further than at the last look: tests then need no waiting.
    pub(super) fn poll(&self, owner: &str, id: Uuid) -> Option<Job> {
        let mut jobs = self.jobs();
        let job = jobs
            .iter_mut()
            .find(|job| job.id == id && &*job.owner == owner)?;
        job.polls = job.polls.saturating_add(1);
        Some(job.clone())
    }

    /// The job as the last poll left it.
    pub(super) fn get(&self, owner: &str, id: Uuid) -> Option<Job> {
        self.jobs()
            .iter()
            .find(|job| job.id == id && &*job.owner == owner)
            .cloned()
    }

    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Its status, and how many percent are done.
    pub(super) fn status(&self) -> (&'static str, u8) {
        match self.polls {
            0 | 1 => ("NotStarted", 0),
            2 => ("InProgress", 50),
            _ => ("Complete", 100),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.status().1 == 100
    }
}
