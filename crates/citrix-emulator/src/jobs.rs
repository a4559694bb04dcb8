//! Async jobs of CVAD (contract §4, "Timing").

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// Maximum number of jobs; the oldest is dropped. (The real service drops jobs by age.)
const CAPACITY: usize = 1000;

/// The jobs started so far.
#[derive(Default)]
pub(super) struct Jobs(Mutex<VecDeque<Job>>);

#[derive(Clone)]
pub(super) struct Job {
    pub(super) id: Uuid,
    /// Action, such as `$reboot`.
    pub(super) kind: String,
    /// Path of the changed object, relative to the service.
    pub(super) subject: String,
    /// The client that started the job, and the only one that can see it (contract §4, "Timing").
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

    /// Advances the job by one step and returns it: tests need not wait.
    pub(super) fn poll(&self, owner: &str, id: Uuid) -> Option<Job> {
        let mut jobs = self.jobs();
        let job = jobs
            .iter_mut()
            .find(|job| job.id == id && &*job.owner == owner)?;
        job.polls = job.polls.saturating_add(1);
        Some(job.clone())
    }

    /// Returns the job without advancing it.
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
    /// Returns the status and the progress in percent.
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
