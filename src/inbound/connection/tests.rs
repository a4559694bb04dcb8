use super::*;

fn limits() -> Limits {
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

/// Returns the directive that is due this many seconds after a sweep first saw the present state.
async fn after(seconds: u64, connection: &Connection) -> Option<Directive> {
    connection.overdue(&limits(), Instant::now());
    tokio::time::advance(Duration::from_secs(seconds)).await;
    connection.overdue(&limits(), Instant::now())
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_own_deadline() {
    let connection = Connection::new(Weak::new());
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
        let connection = Connection::new(Weak::new());
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
        assert_eq!(
            after(10, &connection).await,
            Some(Directive::Abort),
            "client that ignores a drain"
        );
    }
    let connection = Connection::new(Weak::new());
    connection.opened();
    assert_eq!(after(5, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(after(4, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(after(1, &connection).await, Some(Directive::HeadTimedOut));
    connection.exchange_began(Version::HTTP_11);
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
    let connection = Connection::new(Weak::new());
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
    let connection = Connection::new(Weak::new());
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
    let connection = Connection::new(Weak::new());
    connection.opened();
    connection.set_http2();
    connection.exchange_began(Version::HTTP_11);
    connection.exchange_ended();
    connection.bytes_arrived();
    assert_eq!(after(100, &connection).await, None);
}

#[test]
fn dropped_connection_is_removed() {
    let connections = Rc::new(Connections::default());
    let connection = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { connections.register() });
    assert_eq!(connections.len(), 1);
    drop(connection);
    assert!(connections.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stalled_connection_is_evicted() {
    let connections = Rc::new(Connections::default());
    let (stalled, slow, idle) = (
        connections.register(),
        connections.register(),
        connections.register(),
    );
    stalled.connection().exchange_began(Version::HTTP_11);
    let wait = stalled.connection().wait();
    slow.connection().exchange_began(Version::HTTP_11);
    for second in 0..4 {
        slow.connection().write_blocked();
        slow.connection().wrote(1);
        slow.connection().write_blocked();
        connections.sweep(&limits());
        assert_eq!(connections.evict_stalled(), second > 1, "after {second} s");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let directive = |connection: &RegisteredConnection| connection.connection().directive.get();
    assert_eq!(
        [&stalled, &slow, &idle].map(directive),
        [Some(Directive::Abort), None, None]
    );
    drop(wait);
    connections.sweep(&limits());
    assert!(!connections.evict_stalled(), "no longer waited for");
}

#[tokio::test(start_paused = true)]
async fn connection_with_an_arriving_request_is_not_drained() {
    let connections = Rc::new(Connections::default());
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
