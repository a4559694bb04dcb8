//! When which fault was in force.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Faults kept: those of more than ten minutes.
const MAX_WINDOWS: usize = 1000;

/// Kinds of faults, by what they may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    TokenRevoked,
    TokenServiceFails,
    TokenServiceStalls,
    TokenServiceLimits,
    SecretRotated,
    SecretReplaced,
    ResetBefore,
    ResetAfter,
    CloseAfter,
    ResetMidBody,
    Stall,
    StallMidBody,
    Status429,
    Status503,
    Status503Bare,
    Status502,
    IdleClosed,
    StreamRefused,
    StreamReset,
    GoAway,
    ReloadChanged,
    ReloadInvalid,
    CertificateSwapped,
    SlowCallers,
    StalledCallers,
    CallersLeave,
    CallerClosesHttp2,
    ManyConnections,
    StoreStopped,
    StorePaused,
    StoreFlushed,
    StoreRestarted,
    /// Not injected: the machine gave the soak no time.
    Starvation,
}

impl Fault {
    pub(crate) const ALL: [Self; 32] = [
        Self::TokenRevoked,
        Self::TokenServiceFails,
        Self::TokenServiceStalls,
        Self::TokenServiceLimits,
        Self::SecretRotated,
        Self::SecretReplaced,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::CloseAfter,
        Self::ResetMidBody,
        Self::Stall,
        Self::StallMidBody,
        Self::Status429,
        Self::Status503,
        Self::Status503Bare,
        Self::Status502,
        Self::IdleClosed,
        Self::StreamRefused,
        Self::StreamReset,
        Self::GoAway,
        Self::ReloadChanged,
        Self::ReloadInvalid,
        Self::CertificateSwapped,
        Self::SlowCallers,
        Self::StalledCallers,
        Self::CallersLeave,
        Self::CallerClosesHttp2,
        Self::ManyConnections,
        Self::StoreStopped,
        Self::StorePaused,
        Self::StoreFlushed,
        Self::StoreRestarted,
    ];

    pub(crate) fn is_store(self) -> bool {
        matches!(
            self,
            Self::StoreStopped | Self::StorePaused | Self::StoreFlushed | Self::StoreRestarted
        )
    }

    pub(crate) fn is_token_service(self) -> bool {
        matches!(
            self,
            Self::TokenServiceFails
                | Self::TokenServiceStalls
                | Self::TokenServiceLimits
                | Self::SecretReplaced
        )
    }
}

/// The faults of the last minutes and the number of all of them.
#[derive(Default)]
pub(crate) struct Windows(Mutex<State>);

#[derive(Default)]
struct State {
    recent: VecDeque<(Fault, Instant, Instant)>,
    counts: BTreeMap<Fault, u64>,
}

impl Windows {
    /// Notes a fault.
    pub(crate) fn add(&self, fault: Fault, begin: Instant, time: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.recent.push_back((fault, begin, begin + time));
        if state.recent.len() > MAX_WINDOWS {
            state.recent.pop_front();
        }
        *state.counts.entry(fault).or_default() += 1;
    }

    /// Returns whether such a fault was in force in a period, or ended at most `effect` before.
    pub(crate) fn covers(
        &self,
        is_wanted: impl Fn(Fault) -> bool,
        effect: Duration,
        from: Instant,
        until: Instant,
    ) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = state.recent.iter().rev();
        recent
            .any(|&(fault, begin, end)| is_wanted(fault) && begin <= until && end + effect >= from)
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.clone()
    }
}
