//! An hour of a credential's tokens: callers send requests, Citrix revokes all tokens every few
//! minutes, and one caller provokes 401s all the time.

use super::*;
use crate::limit::owner::OwnerKey;
use crate::token::ForcedRefresh;
use crate::token::rejections::{Reaction, Rejections};

const DURATION: Duration = Duration::from_hours(1);
/// The default of `token.min_forced_interval`.
const INTERVAL: Duration = Duration::from_secs(10);
const LOGIN_LATENCY: Duration = Duration::from_millis(300);
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// As for requests.
const MAX_REPLAYS: u32 = 3;
const MODEST_CALLERS: usize = 3;
/// The path that modest callers request, and which also has resources that Citrix never permits.
const SHARED_PATH: &str = "/machines/1";

/// The cloud, the gateway's state for one credential, and a record of what callers saw.
struct Simulation {
    keeper: TestKeeper,
    rejections: Rejections,
    began: Instant,
    /// The tokens up to this generation are revoked.
    revoked: Cell<u64>,
    revoked_at: Cell<Instant>,
    /// The longest time from a revocation to a 401 that a modest caller got.
    longest_outage: Cell<Duration>,
    /// 401 and other responses of modest callers.
    seen: Cell<(u64, u64)>,
    setup: Setup,
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    /// Suppression distinguishes callers.
    by_caller: bool,
    /// The greedy caller also provokes 401s below other paths, each of which may force a login.
    spread: bool,
}

impl Simulation {
    fn new(setup: Setup) -> Self {
        // No login is scheduled in this time: all but the first are forced.
        let keeper = TestKeeper::with(secret("s"), None, LOGIN_LATENCY, |_| granted(24 * 3600));
        Self {
            keeper,
            rejections: Rejections::default(),
            began: Instant::now(),
            revoked: Cell::new(0),
            revoked_at: Cell::new(Instant::now()),
            longest_outage: Cell::default(),
            seen: Cell::default(),
            setup,
        }
    }

    /// Sends a request as `proxy::send` does. Returns `false` if the caller gets a 401.
    async fn request(&self, caller: usize, path: &str, is_permitted: bool) -> bool {
        let key = OwnerKey::Caller(if self.setup.by_caller {
            caller as u64
        } else {
            0
        });
        let scope = self.rejections.scope(b"acme", "/", path);
        let scope = self.rejections.scope_of_caller(scope, key);
        for replays in 0..=MAX_REPLAYS {
            let generation = self.keeper.usable();
            tokio::time::sleep(ROUND_TRIP).await;
            if is_permitted && generation > self.revoked.get() {
                if replays > 0 {
                    self.rejections.accepted(scope);
                }
                return true;
            }
            if self.keeper.usable() > generation {
                continue;
            }
            let slot = &self.keeper.slot;
            match self.rejections.report(slot, scope, generation) {
                Reaction::Reported(ForcedRefresh::Replaced) => {}
                Reaction::Reported(ForcedRefresh::InProgress) => {
                    let timeout = Duration::from_secs(15);
                    let newer = slot.wait_newer(generation, self.keeper.clock, timeout);
                    if newer.await.is_err() {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        false
    }

    async fn modest_caller(&self, number: usize) {
        while self.began.elapsed() < DURATION {
            tokio::time::sleep(random(500, 1500)).await;
            let (rejected, accepted) = self.seen.get();
            if self.request(number, SHARED_PATH, true).await {
                self.seen.set((rejected, accepted + 1));
            } else {
                self.seen.set((rejected + 1, accepted));
                let outage = self.revoked_at.get().elapsed();
                self.longest_outage
                    .set(self.longest_outage.get().max(outage));
            }
        }
    }

    /// Requests what Citrix never permits.
    async fn greedy_caller(&self) {
        for number in 0_u64.. {
            if self.began.elapsed() >= DURATION {
                return;
            }
            tokio::time::sleep(random(50, 150)).await;
            let other = format!("/other-{}/x", number % 1500);
            let path = if self.setup.spread && number % 2 == 1 {
                &other
            } else {
                SHARED_PATH
            };
            self.request(MODEST_CALLERS, path, false).await;
        }
    }

    /// Revokes all tokens, and that of a login in progress.
    async fn cloud(&self) {
        while self.began.elapsed() < DURATION {
            // A second revocation within a minute looks like a lack of permission.
            tokio::time::sleep(random(90_000, 300_000)).await;
            self.revoked.set(self.keeper.logins() as u64);
            self.revoked_at.set(Instant::now());
        }
    }

    async fn run(&self) {
        seconds(1.0).await;
        let modest = (0..MODEST_CALLERS).map(|number| self.modest_caller(number));
        let modest = futures_util::future::join_all(modest);
        tokio::join!(modest, self.greedy_caller(), self.cloud());
    }
}

fn random(from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(fastrand::u64(from_ms..to_ms))
}

#[tokio::test(start_paused = true)]
async fn caller_that_provokes_401s_keeps_no_other_from_a_new_token() {
    for (seed, spread) in [(0, false), (1, false), (2, true), (3, true)] {
        fastrand::seed(seed);
        let by_caller = true;
        let simulation = Simulation::new(Setup { by_caller, spread });
        simulation.run().await;
        let (rejected, accepted) = simulation.seen.get();
        let outage = simulation.longest_outage.get();
        assert!(
            outage <= INTERVAL + 2 * LOGIN_LATENCY,
            "seed {seed}: 401 {outage:?} after a revocation"
        );
        assert!(
            accepted > 7_500 && rejected < accepted / 20,
            "seed {seed}: {rejected} of {accepted}"
        );
        let gaps = simulation.keeper.gaps();
        let too_early = gaps[1..].iter().find(|gap| **gap < INTERVAL.as_secs_f64());
        assert_eq!(too_early, None, "seed {seed}");
        assert!(simulation.rejections.len() <= 1024, "seed {seed}");
    }
}

/// The simulation finds the fault that it is for.
#[tokio::test(start_paused = true)]
async fn suppression_that_callers_share_leaves_them_without_a_token() {
    fastrand::seed(1);
    let (by_caller, spread) = (false, false);
    let simulation = Simulation::new(Setup { by_caller, spread });
    simulation.run().await;
    let outage = simulation.longest_outage.get();
    assert!(outage > Duration::from_secs(30), "{outage:?}");
}
