//! Replicas that share a real store, by their links alone.

use std::time::Duration;

use citrix_auth_proxy::config::{HostPort, SecretSource};
use citrix_auth_proxy::fleet::link::{Link, Route, Setup, Store};
use citrix_auth_proxy::fleet::{Address, Target};
use fleet_protocol::command::{KeyFingerprint, QueueLimit};
use fleet_protocol::machine::{PermitId, Settings};
use fleet_protocol::{Event, Keys, Name, Output, Replica, State, Timing};
use testkit::ports::reserve;
use testkit::store::{Network, SentinelSetup, StoreProxy, StoreServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

const QUEUE: Name = Name([1; 16]);
const CALLER: Name = Name([2; 16]);
const LEASE: Duration = Duration::from_secs(2);

const FLEET_DOCUMENT: &str = include_str!("../../docs/fleet.md");

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
        let route = Route::Direct(Address::Unix(server.socket()));
        Self::at(route, replica, TARGET, LEASE)
    }

    fn behind(proxy: &StoreProxy, replica: u32) -> Self {
        let address = host_port(proxy.port());
        let route = Route::Direct(Address::Tcp(address));
        Self::at(route, replica, TARGET, LEASE)
    }

    fn at(route: Route, replica: u32, target: Target, lease: Duration) -> Self {
        let store = Store {
            route,
            target,
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
        let link = Link::new(watch::channel(Setup { store, settings }).1);
        tokio::spawn(link.run(receiver, move |output| {
            let _ = sender.send(output);
            None
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

    async fn unwant(&self) {
        let (queue, caller) = (QUEUE, CALLER);
        self.send(Event::Unwanted { queue, caller }).await;
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

    /// Requests a permit and returns it once the store has granted it.
    async fn acquire(&mut self) -> PermitId {
        self.want().await;
        let (permit, by) = self.granted().await;
        assert_eq!(by, State::Joined);
        permit
    }

    fn has_permit(&mut self) -> bool {
        std::iter::from_fn(|| self.outputs.try_recv().ok())
            .any(|output| matches!(output, Output::Granted { .. }))
    }

    /// Waits for a heartbeat's reply.
    async fn beat(&mut self) {
        self.wait(|output| matches!(output, Output::Members { .. }).then_some(()))
            .await;
    }
}

fn host_port(port: u16) -> HostPort {
    HostPort {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// Waits until both have joined.
async fn join([one, other]: [&mut Member; 2]) {
    one.state(State::Joined).await;
    other.state(State::Joined).await;
}

/// Returns a store and two replicas that have joined.
async fn pair() -> Option<(StoreServer, Member, Member)> {
    let server = StoreServer::start()?;
    let (mut one, mut other) = (Member::new(&server, 1), Member::new(&server, 2));
    join([&mut one, &mut other]).await;
    Some((server, one, other))
}

#[tokio::test]
async fn permit_is_passed_from_one_replica_to_the_other() {
    let Some((_server, mut one, mut other)) = pair().await else {
        return;
    };
    let permit = one.acquire().await;
    other.want().await;
    one.send(Event::Released(permit)).await;
    let (permit, _) = other.granted().await;
    one.want().await;
    other.send(Event::Released(permit)).await;
    one.granted().await;
}

#[tokio::test]
async fn flushed_store_with_flushed_scripts_grants_no_second_permit() {
    let Some((server, mut one, mut other)) = pair().await else {
        return;
    };
    let permit = one.acquire().await;
    assert_eq!(server.run("FLUSHALL"), "+OK");
    assert_eq!(server.run("SCRIPT FLUSH"), "+OK");
    other.want().await;
    // Longer than the grace period.
    for _ in 0..5 {
        other.beat().await;
    }
    assert!(!other.has_permit());
    one.send(Event::Released(permit)).await;
    assert_eq!(other.granted().await.1, State::Joined);
}

#[tokio::test]
async fn flushed_scripts_are_sent_again_on_the_same_connection() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let proxy = StoreProxy::start(server.socket()).await;
    let mut member = Member::behind(&proxy, 1);
    member.state(State::Joined).await;
    assert_eq!(server.run("SCRIPT FLUSH"), "+OK");
    let permit = member.acquire().await;
    member.send(Event::Released(permit)).await;
    member.acquire().await;
    assert_eq!(proxy.accepted(), 1);
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
    let (_, rules) = FLEET_DOCUMENT.split_once("ACL SETUSER gateway ").unwrap();
    let (rules, _) = rules.split_once("redis-cli").unwrap();
    let rules = rules.replace("{default}", "{test}");
    let rules: Vec<_> = rules.split([' ', '\n', '\\', '\'']).collect();
    let user = format!("ACL SETUSER gateway {}", rules.join(" "));
    assert_eq!(server.run(&user), "+OK");
    let target = Target {
        user: Some("gateway".to_owned()),
        password: Some(SecretSource::Plain("PASSWORD".into())),
        ..TARGET
    };
    let route = Route::Direct(Address::Unix(server.socket()));
    let mut member = Member::at(route, 1, target, LEASE);
    member.state(State::Joined).await;
    member.acquire().await;
}

#[tokio::test]
async fn drained_replica_passes_its_permit_on() {
    let Some((_server, mut one, mut other)) = pair().await else {
        return;
    };
    one.acquire().await;
    other.want().await;
    one.send(Event::Bye).await;
    other.granted().await;
    one.events.closed().await;
}

#[tokio::test]
async fn replica_without_messages_is_granted_its_permit_by_a_heartbeat() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let proxy = StoreProxy::start(server.socket()).await;
    let (mut one, mut other) = (Member::new(&server, 1), Member::behind(&proxy, 2));
    join([&mut one, &mut other]).await;
    proxy.set(Network::WithoutMessages);
    let permit = one.acquire().await;
    other.want().await;
    one.beat().await;
    one.send(Event::Released(permit)).await;
    other
        .wait(|output| (*output == Output::PushMissed).then_some(()))
        .await;
    other.granted().await;
}

#[tokio::test]
async fn ticket_that_was_given_up_while_the_store_was_stopped_holds_no_permit() {
    let Some((server, mut one, mut other)) = pair().await else {
        return;
    };
    server.stop();
    one.want().await;
    one.state(State::Away).await;
    one.unwant().await;
    server.resume();
    one.state(State::Joined).await;
    let began = Instant::now();
    other.acquire().await;
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert_eq!(holders(&server), ":1");
}

/// Returns the reply to the number of tickets that hold a permit.
fn holders(server: &StoreServer) -> String {
    server.run(&format!("ZCARD cap:1:{{test}}:h:{QUEUE}"))
}

#[tokio::test]
async fn replica_behind_a_black_hole_joins_again_by_a_new_connection() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let proxy = StoreProxy::start(server.socket()).await;
    let mut member = Member::behind(&proxy, 1);
    member.state(State::Joined).await;
    proxy.set(Network::BlackHole);
    member.state(State::Away).await;
    proxy.set(Network::Up);
    member.state(State::Joined).await;
    assert!(proxy.accepted() > 1);
    member.acquire().await;
}

#[tokio::test]
async fn store_that_is_slower_than_the_timeout_is_away_and_a_faster_one_is_not() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let proxy = StoreProxy::start(server.socket()).await;
    let mut member = Member::behind(&proxy, 1);
    member.state(State::Joined).await;
    // Both directions are late.
    proxy.set(Network::Slow(Duration::from_millis(25)));
    let permit = member.acquire().await;
    for _ in 0..3 {
        member.beat().await;
    }
    assert_eq!(proxy.accepted(), 1);
    proxy.set(Network::Slow(Duration::from_millis(400)));
    member.send(Event::Released(permit)).await;
    member.state(State::Away).await;
    member.state(State::Alone).await;
    proxy.set(Network::Up);
    member.state(State::Joined).await;
}

#[tokio::test]
async fn distant_store_is_joined() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let proxy = StoreProxy::start(server.socket()).await;
    // Twelve times this is longer than the time to connect.
    proxy.set(Network::Slow(Duration::from_millis(90)));
    let mut member = Member::behind(&proxy, 1);
    member.state(State::Joined).await;
    member.acquire().await;
    assert_eq!(proxy.accepted(), 1);
}

/// Starts a sentinel that names a port as that of the primary; returns its own.
async fn sentinel_naming(primary: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let digits = primary.to_string();
            let reply = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{digits}\r\n", digits.len());
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(reply.as_bytes()).await;
            // Closed by the replica.
            let _ = socket.read(&mut [0; 1]).await;
        }
    });
    port
}

#[tokio::test]
async fn sentinel_that_names_a_lost_primary_does_not_hide_the_others() {
    let Some(server) = StoreServer::start() else {
        return;
    };
    let proxy = StoreProxy::start(server.socket()).await;
    let [lost] = reserve();
    let ports = [
        sentinel_naming(lost).await,
        sentinel_naming(proxy.port()).await,
    ];
    let route = Route::Sentinels {
        addresses: ports.map(host_port).to_vec(),
        master: SentinelSetup::MASTER.to_owned(),
        target: TARGET,
    };
    let mut member = Member::at(route, 1, TARGET, LEASE);
    member.state(State::Joined).await;
}

/// Returns two replicas that sentinels lead to a primary.
async fn pair_with_sentinel() -> Option<(SentinelSetup, Member, Member)> {
    let setup = SentinelSetup::start()?;
    let member = |replica| {
        let route = Route::Sentinels {
            addresses: vec![host_port(setup.port)],
            master: SentinelSetup::MASTER.to_owned(),
            target: TARGET,
        };
        Member::at(route, replica, TARGET, Duration::from_secs(10))
    };
    let (mut one, mut other) = (member(1), member(2));
    join([&mut one, &mut other]).await;
    Some((setup, one, other))
}

#[tokio::test]
async fn failover_that_sentinels_make_is_followed_and_grants_no_second_permit() {
    let Some((mut setup, mut one, mut other)) = pair_with_sentinel().await else {
        return;
    };
    let permit = one.acquire().await;
    other.want().await;
    setup.kill_primary();
    one.state(State::Away).await;
    // Before the lease is over.
    join([&mut one, &mut other]).await;
    assert!(!other.has_permit());
    setup.revive_primary();
    one.send(Event::Released(permit)).await;
    assert_eq!(other.granted().await.1, State::Joined);
    other.beat().await;
    assert_eq!(setup.scripts_at_first_primary(), 0);
}

#[tokio::test]
async fn stopped_primary_is_left_for_the_promoted_one_and_not_used_when_it_continues() {
    let Some((setup, mut one, mut other)) = pair_with_sentinel().await else {
        return;
    };
    let permit = one.acquire().await;
    other.want().await;
    setup.stop_primary();
    one.state(State::Away).await;
    join([&mut one, &mut other]).await;
    assert!(!other.has_permit());
    setup.resume_primary();
    let before = setup.scripts_at_first_primary();
    one.send(Event::Released(permit)).await;
    assert_eq!(other.granted().await.1, State::Joined);
    other.beat().await;
    assert_eq!(setup.scripts_at_first_primary(), before);
}
