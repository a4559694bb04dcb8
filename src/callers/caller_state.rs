//! What is kept of the callers over all workers, and from one configuration to the next.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use crate::callers::observations::Observations;
use crate::config::{Caller, Mode};
use crate::limit::caller::CallerLimits;

/// What is kept of one caller.
#[derive(Debug)]
pub struct CallerState {
    name: String,
    /// Its own limits, and how far they are used up.
    pub limits: CallerLimits,
    /// What it was seen to do, in `mode = "observe"`.
    pub observations: Arc<Observations>,
}

impl CallerState {
    /// One for each caller, in their order. What was kept of a caller of the same name goes on: its requests that are
    /// being answered still count, and what it was seen to do is kept as long as it is observed.
    pub fn of(callers: &[Caller], before: &[Self]) -> Vec<Self> {
        let usage = |caller: &Caller| {
            let before = before.iter().find(|usage| usage.name == caller.name);
            let max_concurrent = caller.max_concurrent.map_or(0, NonZeroUsize::get);
            let max_per_second = caller.max_per_second.map_or(0, NonZeroU32::get);
            let observed = before.filter(|_| caller.mode == Mode::Observe);
            Self {
                name: caller.name.clone(),
                limits: match before {
                    Some(usage) => usage.limits.changed_to(max_concurrent, max_per_second),
                    None => CallerLimits::new(max_concurrent, max_per_second),
                },
                observations: observed
                    .map(|usage| Arc::clone(&usage.observations))
                    .unwrap_or_default(),
            }
        };
        callers.iter().map(usage).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use citrix_wire::policy::Rules;

    fn caller(name: &str, max_concurrent: usize, max_per_second: u32, mode: Mode) -> Caller {
        Caller {
            name: name.to_owned(),
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
    async fn what_is_known_of_a_caller_outlives_its_configuration() {
        let now = Instant::now();
        let first = CallerState::of(
            &[
                caller("a", 2, 2, Mode::Observe),
                caller("b", 2, 0, Mode::Enforce),
            ],
            &[],
        );
        let _place = first[0].limits.acquire(now).unwrap();
        first[0].observations.record("GET", "/seen", "acme");
        // In another place and with another limit.
        let second = CallerState::of(
            &[
                caller("c", 1, 0, Mode::Observe),
                caller("a", 3, 2, Mode::Observe),
            ],
            &first,
        );
        let _other = second[1].limits.acquire(now).unwrap();
        assert!(
            second[1].limits.acquire(now).is_err(),
            "two were a second's worth"
        );
        assert_eq!(second[1].observations.requests(), 1);
        assert!(second[0].limits.acquire(now).is_ok(), "somebody else");
        // Another rate begins anew; the two that are being answered still count.
        let third = CallerState::of(&[caller("a", 3, 5, Mode::Enforce)], &second);
        let _last = third[0].limits.acquire(now).unwrap();
        assert!(third[0].limits.acquire(now).is_err());
        assert_eq!(
            third[0].observations.requests(),
            0,
            "it is not observed any more"
        );
    }
}
