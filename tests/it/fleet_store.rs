//! Replicas that share a real store.

use std::time::Duration;

use citrix_auth_proxy::config::HostPort;
use citrix_auth_proxy::fleet::link::{Link, Route, Store};
use citrix_auth_proxy::fleet::{Address, Target};
use fleet_protocol::command::{KeyFingerprint, QueueLimit};
use fleet_protocol::machine::{PermitId, Settings};
use fleet_protocol::{Event, Keys, Name, Output, Replica, State, Timing};
use testkit::store::{SentinelSetup, StoreServer};
use tokio::sync::mpsc;
use tokio::time::timeout;

const QUEUE: Name = Name([1; 16]);
const CALLER: Name = Name([2; 16]);

const TARGET: Target = Target {
    tls: None,
    user: None,
    password: None,
    database: 0,
    timeout: Duration::from_secs(2),
};

/// One replica, ended on drop.
struct Member {
    events: mpsc::Sender<Event>,
    outputs: mpsc::UnboundedReceiver<Output>,
}

impl Member {
    fn new(server: &StoreServer, replica: u32) -> Self {
        Self::with_user(server, replica, None)
    }

    fn with_user(server: &StoreServer, replica: u32, user: Option<(&str, &str)>) -> Self {
        let route = Route::Direct(Address::Unix(server.socket()));
        Self::at(route, replica, user, Duration::from_secs(2))
    }

    fn at(route: Route, replica: u32, user: Option<(&str, &str)>, lease: Duration) -> Self {
        let store = Store {
            route,
            target: Target {
                user: user.map(|(user, _)| user.to_owned()),
                password: user.map(|(_, password)| password.into()),
                ..TARGET
            },
            keys: Keys::new("test"),
        };
        let settings = Settings {
            timing: Timing {
                lease,
                timeout: Duration::from_millis(300),
            },
            replica: Replica(replica),
            key: KeyFingerprint(1),
            replicas: 0,
            seed: u64::from(replica),
        };
        let (events, receiver) = mpsc::channel(16);
        let (sender, outputs) = mpsc::unbounded_channel();
        let link = Link::new(store, settings);
        tokio::spawn(link.run(receiver, move |output| {
            let _ = sender.send(output);
        }));
        Self { events, outputs }
    }

    async fn send(&self, event: Event) {
        self.events.send(event).await.unwrap();
    }

    async fn want(&self) {
        let limit = QueueLimit {
            at_once: 1,
            room: 10,
            timeout: Duration::from_secs(60),
        };
        let (queue, caller) = (QUEUE, CALLER);
        self.send(Event::Wanted {
            queue,
            limit,
            caller,
        })
        .await;
    }

    /// Returns the first output that `found` accepts.
    async fn wait<T>(&mut self, found: impl Fn(&Output) -> Option<T>) -> T {
        let search = async {
            loop {
                let output = self.outputs.recv().await.expect("the link runs");
                if let Some(found) = found(&output) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(30), search).await.unwrap()
    }

    async fn state(&mut self, expected: State) {
        self.wait(|output| (*output == Output::State(expected)).then_some(()))
            .await;
    }

    async fn granted(&mut self) -> (PermitId, State) {
        self.wait(|output| match output {
            Output::Granted { permit, by, .. } => Some((*permit, *by)),
            _ => None,
        })
        .await
    }

    fn has_permit(&mut self) -> bool {
        std::iter::from_fn(|| self.outputs.try_recv().ok())
            .any(|output| matches!(output, Output::Granted { .. }))
    }
}

#[tokio::test]
async fn permit_is_passed_from_one_replica_to_the_other() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let (mut one, mut other) = (Member::new(&server, 1), Member::new(&server, 2));
    one.state(State::Joined).await;
    other.state(State::Joined).await;
    one.want().await;
    let (permit, by) = one.granted().await;
    assert_eq!(by, State::Joined);
    other.want().await;
    one.send(Event::Released(permit)).await;
    let (permit, _) = other.granted().await;
    one.want().await;
    other.send(Event::Released(permit)).await;
    one.granted().await;
}

#[tokio::test]
async fn flushed_store_with_flushed_scripts_grants_no_second_permit() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let (mut one, mut other) = (Member::new(&server, 1), Member::new(&server, 2));
    one.state(State::Joined).await;
    other.state(State::Joined).await;
    one.want().await;
    let (permit, _) = one.granted().await;
    assert_eq!(server.run("FLUSHALL"), "+OK");
    assert_eq!(server.run("SCRIPT FLUSH"), "+OK");
    other.want().await;
    // Longer than the grace period.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!other.has_permit());
    one.send(Event::Released(permit)).await;
    assert_eq!(other.granted().await.1, State::Joined);
}

#[tokio::test]
async fn replica_acts_alone_once_its_store_is_gone_for_a_lease() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let mut member = Member::new(&server, 1);
    member.state(State::Joined).await;
    drop(server);
    member.state(State::Away).await;
    member.want().await;
    member.state(State::Alone).await;
    assert_eq!(member.granted().await.1, State::Alone);
}

#[tokio::test]
async fn user_with_the_documented_rights_joins() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let rights = "on >secret resetkeys ~cap:1:{test}:* resetchannels &cap:1:{test}:* -@all +auth \
        +hello +ping +select +script|load +evalsha +eval +subscribe +unsubscribe +publish +time \
        +get +set +del +hmget +hset +zadd +zrem +zscore +zcard +zcount +zrange +zrangebyscore \
        +zremrangebyscore +pexpire +info +role";
    assert_eq!(server.run(&format!("ACL SETUSER cap {rights}")), "+OK");
    let mut member = Member::with_user(&server, 1, Some(("cap", "secret")));
    member.state(State::Joined).await;
    member.want().await;
    assert_eq!(member.granted().await.1, State::Joined);
}

#[tokio::test]
async fn drained_replica_passes_its_permit_on() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let (mut one, mut other) = (Member::new(&server, 1), Member::new(&server, 2));
    one.state(State::Joined).await;
    other.state(State::Joined).await;
    one.want().await;
    one.granted().await;
    other.want().await;
    one.send(Event::Bye).await;
    other.granted().await;
    one.events.closed().await;
}

#[tokio::test]
async fn failover_that_sentinels_make_is_followed_and_grants_no_second_permit() {
    let Some(mut setup) = SentinelSetup::start() else {
        return;
    };
    let member = |replica| {
        let sentinel = HostPort {
            host: "127.0.0.1".to_owned(),
            port: setup.port,
        };
        let route = Route::Sentinels {
            addresses: vec![sentinel],
            master: SentinelSetup::MASTER.to_owned(),
            target: TARGET,
        };
        Member::at(route, replica, None, Duration::from_secs(10))
    };
    let (mut one, mut other) = (member(1), member(2));
    one.state(State::Joined).await;
    other.state(State::Joined).await;
    one.want().await;
    let (permit, by) = one.granted().await;
    assert_eq!(by, State::Joined);
    other.want().await;
    setup.kill_primary();
    one.state(State::Away).await;
    // Before the lease is over.
    one.state(State::Joined).await;
    other.state(State::Joined).await;
    assert!(!other.has_permit());
    one.send(Event::Released(permit)).await;
    assert_eq!(other.granted().await.1, State::Joined);
}
