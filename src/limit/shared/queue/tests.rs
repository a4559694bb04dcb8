//! Events of requests that queue, leave, and return their permits.

use std::time::Duration;

use super::*;
use crate::limit::shared::SharedLimits;

const NAME: Name = Name([1; 16]);
const CALLERS: [Name; 2] = [Name([2; 16]), Name([3; 16])];
const PERMIT: PermitId = PermitId::new(7);

struct Scene {
    queue: Arc<SharedQueue>,
    limits: Arc<SharedLimits>,
    events: mpsc::Receiver<Event>,
}

fn scene(max_events: usize) -> Scene {
    let (sender, events) = mpsc::channel(max_events);
    let limits = SharedLimits::new(sender, Instant::now());
    let queue = SharedQueue::new(1, sharing(&limits, NAME));
    Scene {
        queue,
        limits,
        events,
    }
}

fn sharing(limits: &Arc<SharedLimits>, name: Name) -> Sharing<'_> {
    Sharing {
        limits,
        name,
        timeout: Duration::from_secs(60),
    }
}

impl Scene {
    fn wait(&self, caller: usize) -> SharedWaiter {
        self.queue.acquire(CALLERS[caller], 100).unwrap()
    }

    /// Returns the events since the last call, in short.
    fn events(&mut self) -> Vec<String> {
        let index = |name| CALLERS.iter().position(|caller| *caller == name).unwrap();
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        let short = |event| match event {
            Event::Wanted { queue, caller, .. } => {
                format!("{} wanted {}", queue.0[0], index(caller))
            }
            Event::Unwanted { queue, caller } => {
                format!("{} unwanted {}", queue.0[0], index(caller))
            }
            Event::Used(_) => "used".to_owned(),
            Event::Released(_) => "released".to_owned(),
            other => format!("{other:?}"),
        };
        events.map(short).collect()
    }

    fn grant(&self, caller: usize) -> bool {
        let next = self
            .limits
            .granted(NAME, CALLERS[caller], PERMIT, State::Joined);
        matches!(next, Some(Event::Wanted { .. }))
    }
}

fn received(waiter: &mut SharedWaiter) -> Option<SharedPermit> {
    waiter.permit.try_recv().ok()
}

#[tokio::test]
async fn each_caller_wants_one_permit_while_it_waits() {
    let mut scene = scene(100);
    let [mut first, mut second, mut other] = [0, 0, 1].map(|caller| scene.wait(caller));
    assert_eq!(scene.events(), ["1 wanted 0", "1 wanted 1"]);
    assert!(scene.grant(0), "it still waits");
    let permit = received(&mut first).unwrap();
    assert!(received(&mut second).is_none() && received(&mut other).is_none());
    assert!(scene.queue.is_contended());
    assert!(!scene.grant(0), "none waits any more");
    drop((permit, received(&mut second).unwrap()));
    assert_eq!(scene.events(), ["released"; 2]);
    drop((first, second));
    assert_eq!(scene.events(), [""; 0]);
    drop(other);
    assert_eq!(scene.events(), ["1 unwanted 1"]);
    assert!(!scene.queue.is_contended());
}

#[tokio::test]
async fn permit_for_a_request_that_left_is_returned() {
    let mut scene = scene(100);
    let (leaves, mut stays) = (scene.wait(0), scene.wait(0));
    drop(leaves);
    assert!(!scene.grant(0));
    assert!(received(&mut stays).is_some());
    assert_eq!(scene.events(), ["1 wanted 0", "released"]);
    let late = scene
        .limits
        .granted(NAME, CALLERS[1], PERMIT, State::Joined);
    assert!(matches!(late, Some(Event::Released(PERMIT))));
    let unknown = scene
        .limits
        .granted(CALLERS[0], CALLERS[1], PERMIT, State::Joined);
    assert!(matches!(unknown, Some(Event::Released(PERMIT))));
}

#[tokio::test]
async fn permit_that_other_replicas_wait_for_is_contended_until_it_is_returned() {
    let scene = scene(100);
    assert!(scene.limits.held().is_empty());
    for is_awaited in [true, false] {
        let mut waiter = scene.wait(0);
        scene.grant(0);
        let permit = received(&mut waiter).unwrap();
        assert!(!scene.queue.is_contended());
        let held = scene.limits.held();
        assert_eq!(held[0].0, NAME);
        held[0].1.set_awaited(is_awaited);
        assert_eq!(scene.queue.is_contended(), is_awaited);
        drop(permit);
        assert!(scene.limits.held().is_empty());
    }
}

#[tokio::test]
async fn only_the_repeated_use_of_a_permit_is_reported() {
    let mut scene = scene(100);
    let mut waiter = scene.wait(0);
    scene.grant(0);
    let mut permit = received(&mut waiter).unwrap();
    permit.begin_use();
    assert_eq!(scene.events(), ["1 wanted 0"]);
    permit.begin_use();
    drop(permit);
    assert_eq!(scene.events(), ["used", "released"]);
}

#[tokio::test]
async fn queue_under_a_new_name_wants_there_what_it_wanted() {
    let mut scene = scene(100);
    let mut waiter = scene.wait(0);
    let name = Name([9; 16]);
    scene.queue.configure(sharing(&scene.limits, name));
    scene.queue.configure(sharing(&scene.limits, name));
    assert_eq!(scene.events(), ["1 wanted 0", "1 unwanted 0", "9 wanted 0"]);
    let old = scene
        .limits
        .granted(NAME, CALLERS[0], PERMIT, State::Joined);
    assert!(matches!(old, Some(Event::Released(PERMIT))));
    let new = scene
        .limits
        .granted(name, CALLERS[0], PERMIT, State::Joined);
    assert!(new.is_none() && received(&mut waiter).is_some());
}

#[tokio::test]
async fn request_that_could_not_report_its_end_is_rejected() {
    let mut scene = scene(4);
    // Two events each.
    let waiters = [scene.wait(0), scene.wait(1)];
    let rejected = scene.queue.acquire(CALLERS[0], 100);
    assert_eq!(rejected.unwrap_err(), Exceeded::Limit);
    drop(waiters);
    assert_eq!(scene.events().len(), 4);
    drop(scene.wait(0));
}

#[tokio::test]
async fn queue_admits_one_request_and_then_up_to_its_limit() {
    let scene = scene(100);
    let waiting = [(); 2].map(|()| scene.queue.acquire(CALLERS[0], 2).unwrap());
    let rejected = scene.queue.acquire(CALLERS[0], 2);
    assert_eq!(rejected.unwrap_err(), Exceeded::Limit);
    drop(waiting);
}
