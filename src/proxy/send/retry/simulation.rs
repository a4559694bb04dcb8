//! Ten minutes of several replicas that cannot ask each other, with pollers that repeat at once, in
//! front of a service that processes one request at a time and returns 429 to others.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::rc::Rc;
use std::time::Duration;

use fleet_protocol::spacing::Spacing;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use super::budget::RetryBudget;
use crate::config::Quota;
use crate::limit::owner::OwnerKey;
use crate::limit::{Admission, Limit, QueuePermit};

const DURATION: Duration = Duration::from_mins(10);
const QUEUE_TIMEOUT: Duration = Duration::from_mins(1);
const ROUND_TRIP: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
struct Setup {
    replicas: u32,
    /// Pollers of each replica.
    pollers: u8,
    query: Duration,
    /// `Retry-After` of a 429.
    hint: Option<Duration>,
    /// Replicas that each one knows of.
    known: u32,
    /// Waits for a 429 count against `queue_timeout`, else against five tries and 10 s.
    in_queue: bool,
}

/// The service, which is busy with at most one request.
#[derive(Default)]
struct Service {
    busy: Cell<bool>,
}

impl Service {
    /// Returns `false` for a 429.
    async fn query(&self, time: Duration) -> bool {
        sleep(ROUND_TRIP).await;
        if self.busy.replace(true) {
            return false;
        }
        sleep(time).await;
        self.busy.set(false);
        true
    }
}

struct Replica {
    setup: Setup,
    service: Rc<Service>,
    limit: Limit,
    gate_opens: Cell<Instant>,
    served: Cell<u64>,
    failed: Cell<u64>,
}

impl Replica {
    async fn poll(&self, number: u8, until: Instant) {
        let key = OwnerKey::at(Some(Ipv4Addr::new(10, 0, 0, number).into()));
        while Instant::now() < until {
            let count = if self.request(key).await {
                &self.served
            } else {
                &self.failed
            };
            count.set(count.get() + 1);
        }
    }

    /// Sends a request as `queue` and `send` do. Returns `false` if the caller gets 429 or 503.
    async fn request(&self, key: OwnerKey) -> bool {
        let deadline = Instant::now() + QUEUE_TIMEOUT;
        let known = NonZeroU32::new(self.setup.known).unwrap();
        let permit = match self.limit.acquire(key, 100, known).unwrap() {
            Admission::Immediate(admitted) => admitted.permit,
            Admission::Queued(request) => match request.wait(deadline).await {
                Ok(admitted) => admitted.permit,
                Err(_) => return false,
            },
        };
        let left = deadline - Instant::now();
        self.send(permit.unwrap(), left).await
    }

    async fn send(&self, mut permit: QueuePermit, left: Duration) -> bool {
        let known = NonZeroU32::new(self.setup.known).unwrap();
        let spacing = Spacing::new(known, QUEUE_TIMEOUT);
        let left = self.setup.in_queue.then_some(left);
        let mut budget = RetryBudget::new(Duration::from_secs(10), left);
        let allowance = budget.allowance(true);
        loop {
            sleep_until(self.gate_opens.get()).await;
            permit.begin_use(Some(spacing));
            if self.service.query(self.setup.query).await {
                return true;
            }
            let wait = budget.requested_wait(allowance, self.setup.hint, fastrand::f64());
            let opens = self.gate_opens.get().max(Instant::now() + wait);
            self.gate_opens.set(opens);
            if !budget.permits(allowance, wait) {
                return false;
            }
            budget.spend(allowance, wait);
        }
    }
}

#[derive(Debug)]
struct Outcome {
    failed: u64,
    /// Requests that each replica served.
    served: Vec<u64>,
}

impl Outcome {
    fn total(&self) -> u64 {
        self.served.iter().sum()
    }

    /// Returns the largest share of a replica as a multiple of the smallest.
    fn unevenness(&self) -> f64 {
        let most = *self.served.iter().max().unwrap() as f64;
        let least = *self.served.iter().min().unwrap() as f64;
        most / least.max(1.0)
    }
}

async fn run(setup: Setup) -> Outcome {
    fastrand::seed(7);
    let service = Rc::<Service>::default();
    let until = Instant::now() + DURATION;
    let replica = |_| {
        Rc::new(Replica {
            setup,
            service: Rc::clone(&service),
            limit: Limit::new(Quota::AtOnce(NonZeroUsize::MIN)),
            gate_opens: Cell::new(Instant::now()),
            served: Cell::default(),
            failed: Cell::default(),
        })
    };
    let replicas: Vec<_> = (0..setup.replicas).map(replica).collect();
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let mut pollers = Vec::new();
            for replica in &replicas {
                for number in 0..setup.pollers {
                    let replica = Rc::clone(replica);
                    pollers.push(spawn_local(async move {
                        replica.poll(number, until).await;
                    }));
                }
            }
            for poller in pollers {
                poller.await.unwrap();
            }
        })
        .await;
    Outcome {
        failed: replicas.iter().map(|it| it.failed.get()).sum(),
        served: replicas.iter().map(|it| it.served.get()).collect(),
    }
}

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

fn setup(replicas: u32, pollers: u8, query_ms: u64, hint: Option<Duration>) -> Setup {
    Setup {
        replicas,
        pollers,
        query: Duration::from_millis(query_ms),
        hint,
        known: replicas,
        in_queue: true,
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_that_know_of_each_other_fail_no_request_and_share_evenly() {
    for (setup, least_per_second) in [
        (setup(3, 7, 100, SECOND), 3.0),
        (setup(3, 7, 300, SECOND), 1.5),
        (setup(3, 7, 1_000, SECOND), 0.6),
        (setup(3, 7, 300, None), 1.5),
        (setup(10, 2, 300, SECOND), 1.5),
        (setup(50, 1, 300, SECOND), 1.5),
    ] {
        let outcome = run(setup).await;
        assert_eq!(outcome.failed, 0, "{setup:?}: {outcome:?}");
        let per_second = outcome.total() as f64 / DURATION.as_secs_f64();
        assert!(per_second >= least_per_second, "{setup:?}: {outcome:?}");
        assert!(outcome.unevenness() < 1.5, "{setup:?}: {outcome:?}");
    }
}

/// The simulation finds the faults that spacing and the longer wait are for.
#[tokio::test(start_paused = true)]
async fn replicas_unaware_of_each_other_fail_requests_and_share_unevenly() {
    let unaware = Setup {
        known: 1,
        ..setup(3, 7, 300, SECOND)
    };
    let unspaced = run(unaware).await;
    assert!(unspaced.failed > 0, "{unspaced:?}");
    let as_before = Setup {
        in_queue: false,
        ..unaware
    };
    let before = run(as_before).await;
    assert!(before.failed > unspaced.failed, "{before:?}");
    assert!(before.failed > before.total() / 20, "{before:?}");
    assert!(before.unevenness() > 2.0, "{before:?}");
}
