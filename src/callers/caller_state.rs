//! The state of a caller, over all workers and from one configuration to the next.

use std::sync::Arc;

use crate::callers::observations::Observations;
use crate::config::{Caller, Mode};
use crate::limit::caller::CallerLimits;

/// The state of one caller.
#[derive(Debug)]
pub struct CallerState {
    /// The caller's own limits and their use.
    pub limits: CallerLimits,
    /// The caller's requests while its mode is `observe`.
    pub observations: Arc<Observations>,
}

impl CallerState {
    /// Creates the state of a new caller.
    pub fn new(caller: &Caller) -> Self {
        Self {
            limits: CallerLimits::new(caller.max_concurrent, caller.max_per_second),
            observations: Arc::default(),
        }
    }

    /// Creates the state of the same caller under its next configuration. Its requests in flight
    /// still count, and its observations are kept as long as its mode is `observe`.
    pub fn successor(&self, caller: &Caller) -> Self {
        Self {
            limits: self
                .limits
                .changed_to(caller.max_concurrent, caller.max_per_second),
            observations: match caller.mode {
                Mode::Observe => Arc::clone(&self.observations),
                Mode::Enforce => Arc::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use tokio::time::Instant;

    use super::*;
    use citrix_wire::policy::Rules;

    fn caller(max_concurrent: usize, max_per_second: u32, mode: Mode) -> Caller {
        Caller {
            name: "a".to_owned(),
            secret: None,
            networks: Vec::new(),
            certificate: None,
            rules: Rules::default(),
            max_concurrent: NonZeroUsize::new(max_concurrent),
            max_per_second: NonZeroU32::new(max_per_second),
            mode,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn state_of_a_caller_outlives_its_configuration() {
        let now = Instant::now();
        let first = CallerState::new(&caller(2, 2, Mode::Observe));
        let _permit = first.limits.acquire(now).unwrap();
        first.observations.record("GET", "/seen", "acme");
        let second = first.successor(&caller(3, 2, Mode::Observe));
        let _other = second.limits.acquire(now).unwrap();
        assert!(
            second.limits.acquire(now).is_err(),
            "two were a second's worth"
        );
        assert_eq!(second.observations.requests(), 1);
        // Another rate starts with a full burst; the two requests in flight still count.
        let third = second.successor(&caller(3, 5, Mode::Enforce));
        let _last = third.limits.acquire(now).unwrap();
        assert!(third.limits.acquire(now).is_err());
        assert_eq!(
            third.observations.requests(),
            0,
            "it is not observed any more"
        );
    }
}
