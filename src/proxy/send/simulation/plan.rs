//! The choices of a seed: the setup, and the faults with their times.

use std::time::Duration;

/// Maximum number of replicas; each has a wall clock of its own.
pub(super) const MAX_REPLICAS: usize = 3;

/// A run. The same seed has the same plan.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Several share a store.
    pub(super) replicas: usize,
    /// Time after the last fault within which requests succeed again: the longest wait that a 429
    /// of the token service asks for, the longest backoff, and the suppression of forced logins.
    pub(super) recovery: Duration,
    /// Probability that a push of the store is lost.
    pub(super) lost_pushes: f64,
    /// Permits of the limited service.
    pub(super) permits: usize,
    /// Callers of each replica.
    pub(super) callers: usize,
    /// Time with faults.
    pub(super) length: Duration,
    /// Lifetime of tokens.
    pub(super) lifetime: Duration,
    /// The token states its expiry on Citrix's clock, not its lifetime.
    pub(super) states_expiry: bool,
    /// Mean time between a caller's requests.
    pub(super) think: Duration,
    /// Mean duration of a request at Citrix.
    pub(super) query: Duration,
    /// `limits.max_queued`.
    pub(super) max_queued: usize,
    pub(super) queue_timeout: Duration,
    /// The faults in their order.
    pub(super) faults: Vec<(Duration, Fault)>,
}

/// A fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The token service fails for a time.
    TokenService(Failure, Duration),
    /// Citrix revokes all tokens.
    Revoke,
    /// A replica's wall clock is set by this number of seconds.
    SetClock(usize, i64),
    /// The client secret is replaced; the configuration follows after the first time, and the old
    /// secret is invalid after the second.
    Rotate {
        reload_after: Duration,
        invalid_after: Duration,
    },
    /// A reload with other settings and the same secret.
    Reload(usize),
    /// An operator requests a login.
    RequestLogin(usize),
    /// A replica's process ends, and another one starts.
    Restart(usize),
    /// A replica's process stops and continues.
    Pause(usize, Duration),
    /// The service fails for a time.
    Service(Refusal, Duration),
    /// A replica passes on what it holds, and its process is replaced.
    Drain(usize),
    Store(StoreFault),
}

/// A fault of the store or of the way to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoreFault {
    /// All data is lost.
    Flush,
    Stop(Duration),
    /// It ends and comes back empty, with a clock that differs by milliseconds.
    Restart(Duration, i64),
    SetClock(i64),
    Slow(Duration, Duration),
    /// All connections end.
    Reset,
    CutOff(usize, Duration),
}

impl StoreFault {
    /// Returns the time until its end.
    pub(super) const fn length(self) -> Duration {
        match self {
            Self::Flush | Self::SetClock(_) | Self::Reset => Duration::ZERO,
            Self::Stop(length)
            | Self::Restart(length, _)
            | Self::Slow(length, _)
            | Self::CutOff(_, length) => length,
        }
    }
}

/// A failure of the token service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    /// No response within the timeout.
    Stalled,
    /// The secret is rejected although it is right.
    Rejected,
    Limited(Option<Duration>),
    ServerError(Option<Duration>),
    Malformed,
    Slow(Duration),
    /// Tokens have this lifetime.
    ShortLived(Duration),
}

/// A failure of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Busy(Option<Duration>),
    Unavailable(Option<Duration>),
    Slow(u32),
}

impl Plan {
    /// Draws the run of a seed. Every eighth has several replicas, whose heartbeats make it shorter.
    pub(super) fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut draw = Draw {
            random: &mut random,
            is_fleet: seed % 8 == 7,
        };
        let (length, recovery) = match draw.is_fleet {
            true => (draw.seconds(20, 90), 90),
            false => (draw.seconds(600, 2 * 3600), 300),
        };
        let mut plan = Self {
            seed,
            replicas: if draw.is_fleet {
                draw.random.usize(2..=MAX_REPLICAS)
            } else {
                1
            },
            recovery: Duration::from_secs(recovery),
            lost_pushes: draw.one_of(&[0.0, 0.01, 0.3]),
            permits: draw.random.usize(1..4),
            callers: draw.random.usize(2..7),
            length,
            lifetime: Duration::from_secs(draw.one_of(&[600, 3600, 3600, 24 * 3600])),
            states_expiry: draw.random.bool(),
            think: length / draw.random.u32(10..50),
            query: draw.seconds(1, if draw.is_fleet { 5 } else { 20 }),
            max_queued: draw.random.usize(4..60),
            queue_timeout: draw.seconds(20, 90),
            faults: Vec::new(),
        };
        for _ in 0..draw.random.usize(2..12) {
            let at = draw.seconds(5, length.as_secs());
            let fault = draw.fault(&plan);
            plan.faults.push((at, fault));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    pub(super) const fn is_fleet(&self) -> bool {
        self.replicas > 1
    }
}

struct Draw<'r> {
    random: &'r mut fastrand::Rng,
    is_fleet: bool,
}

impl Draw<'_> {
    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.u64(from * 1000..to * 1000))
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.random.usize(..values.len())]
    }

    fn hint(&mut self, max_s: u64) -> Option<Duration> {
        self.random
            .bool()
            .then(|| Duration::from_secs(self.random.u64(0..=max_s)))
    }

    fn fault(&mut self, plan: &Plan) -> Fault {
        let replica = self.random.usize(..plan.replicas);
        let length = self.seconds(1, if self.is_fleet { 60 } else { 300 });
        let kinds = if self.is_fleet { 0..28 } else { 0..16 };
        match self.random.u32(kinds) {
            0..5 => Fault::TokenService(self.failure(), length),
            5..7 => Fault::Revoke,
            7 => {
                let most = self.one_of(&[5, 90, 7200]);
                Fault::SetClock(replica, self.random.i64(-most..=most))
            }
            8 => Fault::Rotate {
                reload_after: self.seconds(0, 60),
                invalid_after: self.seconds(0, 60),
            },
            9 => Fault::Reload(replica),
            10 => Fault::RequestLogin(replica),
            11 => Fault::Restart(replica),
            12 => Fault::Pause(replica, length.min(Duration::from_secs(90))),
            16..18 => Fault::Drain(replica),
            18.. => Fault::Store(self.store_fault(replica)),
            _ => Fault::Service(self.refusal(), length),
        }
    }

    fn failure(&mut self) -> Failure {
        match self.random.u32(0..8) {
            0 => Failure::Refused,
            1 => Failure::Stalled,
            2 => Failure::Rejected,
            3 => Failure::Limited(self.hint(if self.is_fleet { 20 } else { 120 })),
            4 => Failure::ServerError(self.hint(if self.is_fleet { 20 } else { 120 })),
            5 => Failure::Malformed,
            6 => Failure::Slow(self.seconds(1, 14)),
            _ => Failure::ShortLived(self.seconds(20, 300)),
        }
    }

    fn store_fault(&mut self, replica: usize) -> StoreFault {
        let length = self.seconds(0, 20);
        match self.random.u32(0..7) {
            0 => StoreFault::Flush,
            1 => StoreFault::Stop(length),
            2 => {
                let clock = self.one_of(&[0, 0, 5000, -5000]);
                StoreFault::Restart(length, clock)
            }
            3 => StoreFault::SetClock(self.one_of(&[3_600_000, -3_600_000, -4000, 700])),
            4 => StoreFault::Slow(length, self.seconds(0, 3)),
            5 => StoreFault::Reset,
            _ => StoreFault::CutOff(replica, length),
        }
    }

    fn refusal(&mut self) -> Refusal {
        match self.random.u32(0..3) {
            0 => Refusal::Busy(self.hint(30)),
            1 => Refusal::Unavailable(self.hint(30)),
            _ => Refusal::Slow(self.random.u32(2..20)),
        }
    }
}
