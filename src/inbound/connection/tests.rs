use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::limit::owner::{Exceeded, OwnedPermit, Resource, ResourceKind};

pub(super) fn limits() -> Limits {
    Limits {
        max_connections: 1,
        max_connections_per_address: 0,
        max_in_flight: 1,
        max_queued: 1,
        header_read_timeout: Duration::from_secs(10),
        body_idle_timeout: Duration::from_secs(60),
        keep_alive_timeout: Duration::from_secs(600),
        max_header_bytes: 65536,
        max_body_bytes: 1,
        replay_buffer_bytes: 1,
    }
}

pub(super) fn connections() -> Rc<Connections> {
    Connections::new(
        Resource::new(ResourceKind::HeadBytes),
        Resource::new(ResourceKind::StreamBytes),
        evictions(),
    )
}

pub(super) fn evictions() -> Evictions {
    Evictions::register(&prometheus::Registry::new()).unwrap()
}

/// Returns the directive that is due this many seconds after a sweep first saw the present state.
async fn after(seconds: u64, connection: &Connection) -> Option<Directive> {
    connection.overdue(&limits(), Instant::now());
    tokio::time::advance(Duration::from_secs(seconds)).await;
    connection.overdue(&limits(), Instant::now())
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_deadline() {
    let connection = Connection::new(Weak::new(), 0, Rc::default());
    assert_eq!(after(9, &connection).await, None);
    assert_eq!(
        after(1, &connection).await,
        Some(Directive::Abort),
        "stalled handshake"
    );

    connection.exchange_began(Version::HTTP_11);
    assert_eq!(
        after(100_000, &connection).await,
        None,
        "an exchange has its own timeouts"
    );
    connection.set_admitted();
    connection.exchange_ended();
    connection.bytes_arrived();
    assert_eq!(
        after(599, &connection).await,
        None,
        "bytes before the flush begin no head"
    );
    connection.flushed();
    assert_eq!(after(1, &connection).await, None);
    assert_eq!(after(1, &connection).await, Some(Directive::Park));
    connection.may_park.set(false);
    assert_eq!(after(597, &connection).await, None, "already parked");
    assert_eq!(
        after(1, &connection).await,
        Some(Directive::Drain),
        "keep-alive timeout"
    );
}

#[tokio::test(start_paused = true)]
async fn first_request_is_timed_from_accept_and_later_heads_from_their_first_byte() {
    for http2 in [false, true] {
        let connection = Connection::new(Weak::new(), 0, Rc::default());
        assert_eq!(after(4, &connection).await, None);
        connection.opened();
        if http2 {
            connection.set_http2();
        }
        assert_eq!(after(5, &connection).await, None);
        assert_eq!(
            after(1, &connection).await,
            Some(Directive::Drain),
            "silent client"
        );
    }
    let connection = Connection::new(Weak::new(), 0, Rc::default());
    connection.opened();
    assert_eq!(after(5, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(after(4, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(after(1, &connection).await, Some(Directive::HeadTimedOut));
    connection.exchange_began(Version::HTTP_11);
    connection.set_admitted();
    connection.exchange_ended();
    connection.flushed();
    connection.may_park.set(false);
    assert_eq!(after(599, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(after(9, &connection).await, None);
    assert_eq!(after(1, &connection).await, Some(Directive::HeadTimedOut));
}

#[tokio::test(start_paused = true)]
async fn caller_below_the_minimum_read_rate_is_aborted() {
    let connection = Connection::new(Weak::new(), 0, Rc::default());
    connection.exchange_began(Version::HTTP_11);
    connection.write_blocked();
    assert_eq!(after(59, &connection).await, None);
    connection.wrote(60 * 240);
    connection.write_blocked();
    assert_eq!(after(59, &connection).await, None);
    connection.wrote(1);
    connection.write_blocked();
    assert_eq!(
        after(2, &connection).await,
        Some(Directive::Abort),
        "one byte per minute"
    );
}

#[tokio::test(start_paused = true)]
async fn time_without_pending_writes_does_not_count() {
    let connection = Connection::new(Weak::new(), 0, Rc::default());
    connection.exchange_began(Version::HTTP_11);
    for _ in 0..100 {
        connection.write_blocked();
        assert_eq!(after(5, &connection).await, None);
        connection.wrote(6 * 240);
        assert_eq!(after(100, &connection).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_on_an_idle_http2_connection_begin_no_head() {
    let connection = Connection::new(Weak::new(), 0, Rc::default());
    connection.opened();
    connection.set_http2();
    connection.exchange_began(Version::HTTP_11);
    connection.set_admitted();
    connection.exchange_ended();
    connection.bytes_arrived();
    assert_eq!(after(100, &connection).await, None);
}

#[tokio::test(start_paused = true)]
async fn idle_client_that_ignores_a_drain_is_disconnected() {
    let connection = Connection::new(Weak::new(), 0, Rc::default());
    connection.opened();
    connection.set_http2();
    connection.exchange_began(Version::HTTP_2);
    connection.drain();
    assert_eq!(
        after(100, &connection).await,
        None,
        "an exchange is completed"
    );
    connection.exchange_ended();
    assert_eq!(after(0, &connection).await, Some(Directive::Abort));

    let connection = Connection::new(Weak::new(), 0, Rc::default());
    connection.opened();
    connection.set_http2();
    connection.drain();
    assert_eq!(after(0, &connection).await, None);
    connection.drain();
    assert_eq!(after(1, &connection).await, Some(Directive::Abort));
}

#[test]
fn dropped_connection_is_removed() {
    let connections = connections();
    let connection = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { connections.register() });
    assert_eq!(connections.len(), 1);
    drop(connection);
    assert!(connections.is_empty());
}

/// Serves one request on an HTTP/1.1 connection.
fn serve(connection: &Connection, admitted: bool) {
    connection.bytes_arrived();
    connection.exchange_began(Version::HTTP_11);
    if admitted {
        connection.set_admitted();
    }
    connection.exchange_ended();
    connection.flushed();
}

fn evicted(connections: &[RegisteredConnection]) -> Vec<usize> {
    let is_evicted = |connection: &RegisteredConnection| {
        connection.connection().directive.take() == Some(Directive::Abort)
    };
    (0..connections.len())
        .filter(|&index| is_evicted(&connections[index]))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn longest_idle_connection_is_evicted_and_never_admitted_ones_first() {
    let connections = connections();
    let all = [(); 7].map(|()| connections.register());
    for registered in &all {
        registered.connection().opened();
    }
    let [admitted, rejected, unused, head, busy, used_again, delayed] =
        all.each_ref().map(RegisteredConnection::connection);
    serve(used_again, true);
    serve(admitted, true);
    serve(used_again, true);
    serve(rejected, false);
    unused.opened();
    head.bytes_arrived();
    busy.exchange_began(Version::HTTP_11);
    busy.set_admitted();
    delayed.bytes_arrived();
    delayed.exchange_began(Version::HTTP_11);
    let mut order = Vec::new();
    while connections.evict(None).await {
        order.extend(evicted(&all));
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(order, [1, 2, 3, 6, 0, 5]);
}

#[tokio::test(start_paused = true)]
async fn buffer_that_has_grown_for_a_head_is_counted_until_it_is_parked() {
    let connections = connections();
    let entered = connections.register();
    let connection = entered.connection();
    connection.opened();
    assert!(connection.received(50_000));
    let held = connections.heads().in_use();
    assert!(held > 40_000, "{held}");
    serve(connection, true);
    assert_eq!(connections.heads().in_use(), held);
    connections.sweep(&limits());
    assert_eq!(connection.directive.take(), Some(Directive::Park));
    connection.buffers_released();
    assert_eq!(connections.heads().in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn handshake_is_counted_like_a_head_and_a_record_that_does_not_end_closes() {
    let connections = connections();
    let entered = connections.register();
    let connection = entered.connection();
    connection.set_tls();
    assert!(connection.arrived_at_socket(20_000));
    assert!(connections.heads().in_use() > 10_000);
    connection.opened();
    assert_eq!(connections.heads().in_use(), 0);
    for _ in 0..10 {
        assert!(connection.arrived_at_socket(20_000));
        connection.bytes_arrived();
    }
    assert!(connection.arrived_at_socket(20_000) && !connection.arrived_at_socket(20_000));
    assert_eq!(connection.directive.take(), Some(Directive::Abort));
}

#[tokio::test(start_paused = true)]
async fn connection_that_arrived_after_the_search_is_evicted_before_an_admitted_one() {
    let connections = connections();
    let all = [(); 2].map(|()| connections.register());
    serve(all[0].connection(), true);
    all[1].connection().opened();
    assert!(connections.evict(None).await && evicted(&all) == [1]);
    let later = [connections.register()];
    later[0].connection().opened();
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(connections.evict(None).await && evicted(&later) == [0]);
    assert!(connections.evict(None).await && evicted(&all) == [0]);
}

#[tokio::test(start_paused = true)]
async fn only_a_connection_of_the_given_owner_is_evicted() {
    let connections = connections();
    let all = [(); 3].map(|()| connections.register());
    let owners = [(); 2].map(|()| Owner::new(OwnerKey::Unix));
    for (registered, owner) in all.iter().zip([0, 1, 1]) {
        registered
            .connection()
            .set_owner(Arc::clone(&owners[owner]));
        registered.connection().opened();
    }
    assert!(connections.evict(Some(&owners[1])).await && evicted(&all) == [1]);
    assert!(connections.evict(Some(&owners[1])).await && evicted(&all) == [2]);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!connections.evict(Some(&owners[1])).await);
    assert!(connections.evict(None).await && evicted(&all) == [0]);
}

#[tokio::test(start_paused = true)]
async fn connection_used_since_the_search_is_not_evicted() {
    let connections = connections();
    let all = [(); 3].map(|()| connections.register());
    for registered in &all {
        serve(registered.connection(), true);
    }
    assert!(connections.evict(None).await && evicted(&all) == [0]);
    serve(all[1].connection(), true);
    assert!(connections.evict(None).await && evicted(&all) == [2]);
}

/// A busy worker has not read all that has arrived.
#[tokio::test(start_paused = true)]
async fn idle_connection_whose_request_has_arrived_is_not_evicted() {
    let connections = connections();
    let all = [(); 3].map(|()| connections.register());
    for registered in &all {
        serve(registered.connection(), true);
    }
    let read = Rc::clone(all[0].connection());
    LocalSet::new()
        .run_until(async {
            spawn_local(async move { read.bytes_arrived() });
            assert!(connections.evict(None).await && evicted(&all) == [1]);
            let read = Rc::clone(all[2].connection());
            spawn_local(async move { read.bytes_arrived() });
            assert!(!connections.evict(None).await && evicted(&all).is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn handshake_that_has_begun_is_evicted_only_after_a_while() {
    let connections = connections();
    let all = [(); 4].map(|()| connections.register());
    let [_, begun, ended, single_bytes] = all.each_ref().map(RegisteredConnection::connection);
    for connection in [begun, ended, single_bytes] {
        connection.handshake_began();
        connection.arrived_at_socket(1);
    }
    ended.opened();
    assert!(connections.evict(None).await && evicted(&all) == [0]);
    for _ in 0..2 {
        tokio::time::advance(Duration::from_millis(100)).await;
        connections.sweep(&limits());
        single_bytes.arrived_at_socket(1);
    }
    begun.arrived_at_socket(1);
    let mut order = Vec::new();
    for sweep in 3..15 {
        tokio::time::advance(Duration::from_millis(100)).await;
        connections.sweep(&limits());
        single_bytes.arrived_at_socket(1);
        while connections.evict(None).await {
            order.extend(evicted(&all).into_iter().map(|index| (index, sweep)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(order, [(2, 3), (1, 4), (3, 9)]);
}

#[tokio::test(start_paused = true)]
async fn upload_that_outlives_its_response_keeps_its_connection_busy() {
    let connections = connections();
    for http2 in [false, true] {
        let registered = connections.register();
        let connection = registered.connection();
        if http2 {
            connection.set_http2();
        }
        connection.opened();
        connection.exchange_began(Version::HTTP_11);
        connection.set_admitted();
        let upload = connection.begin_upload();
        connection.exchange_ended();
        connection.flushed();
        connection.body_arrived();
        assert!(connection.is_busy() && !connections.evict(None).await);
        assert_eq!(after(30, connection).await, None);
        drop(upload);
        assert!(connection.is_idle());
    }
    // The response is flushed after the end of the upload.
    let registered = connections.register();
    let connection = registered.connection();
    connection.opened();
    connection.exchange_began(Version::HTTP_10);
    let upload = connection.begin_upload();
    connection.exchange_ended();
    drop(upload);
    assert!(!connection.is_idle() && connection.must_reset());
    connection.flushed();
    assert!(connection.is_idle() && !connection.must_reset());
}

#[tokio::test(start_paused = true)]
async fn connection_that_waits_for_a_place_is_not_evicted() {
    let connections = connections();
    let arriving = connections.register();
    arriving.connection().begin_arrival();
    assert!(!connections.evict(None).await);
    arriving.connection().end_arrival();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(connections.evict(None).await);
}

#[tokio::test(start_paused = true)]
async fn connection_without_an_admitted_request_idles_ten_seconds() {
    for (admitted, seconds) in [(false, 10), (true, 600)] {
        let connection = Connection::new(Weak::new(), 0, Rc::default());
        connection.opened();
        serve(&connection, admitted);
        assert_ne!(
            after(seconds - 1, &connection).await,
            Some(Directive::Drain)
        );
        assert_eq!(after(1, &connection).await, Some(Directive::Drain));
    }
}

/// Returns owners that hold these numbers of permits, which are released when the rest is dropped.
fn holders<const N: usize>(held: [usize; N]) -> ([Arc<Owner>; N], Vec<OwnedPermit>) {
    let in_flight = Resource::new(ResourceKind::InFlight);
    let owners = held.map(|_| Owner::new(OwnerKey::new_caller()));
    let permits = owners.iter().zip(held).map(|(owner, held)| {
        let permit = in_flight.acquire(owner, held, 1_000_000);
        permit.unwrap()
    });
    let permits = permits.collect();
    (owners, permits)
}

#[tokio::test(start_paused = true)]
async fn connection_that_waits_longest_for_its_caller_is_evicted_whatever_it_transfers() {
    let (evictions, share) = (evictions(), Exceeded::Share(3));
    let connections = Connections::new(
        Resource::new(ResourceKind::HeadBytes),
        Resource::new(ResourceKind::StreamBytes),
        evictions.clone(),
    );
    let all = [(); 4].map(|()| connections.register());
    let [slow, stalled, other, brief] = all.each_ref().map(RegisteredConnection::connection);
    let ([one, another, new], _permits) = holders([3, 1, 0]);
    for (connection, holder) in [
        (slow, &one),
        (stalled, &one),
        (other, &another),
        (brief, &one),
    ] {
        connection.exchange_began(Version::HTTP_11);
        connection.set_holder(holder);
    }
    let _stalled = stalled.wait();
    connections.sweep(&limits());
    let _other = other.wait();
    for second in 0..7 {
        drop(brief.wait());
        slow.wrote(320);
        slow.write_blocked();
        connections.sweep(&limits());
        assert_eq!(
            connections.evict_stalled(&one, share),
            second >= 5,
            "after {second} s"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(evicted(&all), [0, 1]);
    connections.sweep(&limits());
    assert!(connections.evict_stalled(&new, Exceeded::Limit) && evicted(&all) != [3]);
    assert_eq!(evictions.counts(), [0, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn owner_with_most_permits_yields_first_and_only_to_one_with_fewer() {
    let connections = connections();
    let all = [(); 5].map(|()| connections.register());
    let ([slow, greedy, greedier], _permits) = holders([1, 20, 30]);
    // The longest wait first.
    let mut waits = Vec::new();
    for (registered, holder) in all
        .iter()
        .zip([&slow, &greedy, &greedier, &greedier, &greedy])
    {
        let connection = registered.connection();
        connection.exchange_began(Version::HTTP_11);
        connection.set_holder(holder);
        waits.push(connection.wait());
        connections.sweep(&limits());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    connections.sweep(&limits());
    let ([new, equal], _permits) = holders([0, 20]);
    let mut order = Vec::new();
    let mut evict = |owner: &Owner| {
        let found = connections.evict_stalled(owner, Exceeded::Limit);
        order.extend(evicted(&all));
        found
    };
    assert!(evict(&new) && evict(&equal), "of `greedier`");
    assert!(!evict(&equal), "`greedy` holds no more");
    assert!(evict(&greedy), "its own");
    assert!(evict(&new) && evict(&new) && !evict(&new));
    assert_eq!(order, [2, 3, 1, 4, 0]);
}

#[tokio::test(start_paused = true)]
async fn connection_with_an_arriving_request_is_not_drained() {
    let connections = connections();
    let all = [(); 4].map(|()| connections.register());
    let [new, partial, used, http2] = all.each_ref().map(RegisteredConnection::connection);
    for connection in [new, partial, used, http2] {
        connection.opened();
    }
    used.exchange_began(Version::HTTP_11);
    used.exchange_ended();
    used.flushed();
    partial.bytes_arrived();
    http2.set_http2();
    let drained = || {
        connections.drain_all();
        [new, partial, used, http2].map(|connection| connection.directive.take().is_some())
    };
    assert_eq!(drained(), [false, false, true, true]);
    tokio::time::advance(FIRST_REQUEST_TIMEOUT).await;
    assert_eq!(
        drained(),
        [true, false, true, true],
        "FIRST_REQUEST_TIMEOUT"
    );
    partial.exchange_began(Version::HTTP_11);
    assert_eq!(drained(), [true, true, true, true]);
}
