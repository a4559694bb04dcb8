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

/// What is due some seconds after the watcher first saw the connection as it is.
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
        "a handshake that stalls"
    );

    connection.opened();
    assert_eq!(after(599, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(after(9, &connection).await, None);
    connection.bytes_arrived();
    assert_eq!(
        after(1, &connection).await,
        Some(Directive::HeadTimedOut),
        "the clock runs from the first byte"
    );

    connection.exchange_began();
    assert_eq!(
        after(100_000, &connection).await,
        None,
        "the exchange has deadlines of its own"
    );
    connection.exchange_ended();
    connection.bytes_arrived();
    assert_eq!(
        after(599, &connection).await,
        None,
        "bytes before the answer is out begin no head"
    );
    connection.flushed();
    assert_eq!(after(1, &connection).await, None);
    assert_eq!(after(1, &connection).await, Some(Directive::Park));
    connection.may_rest.set(false);
    assert_eq!(after(597, &connection).await, None, "once is enough");
    assert_eq!(
        after(1, &connection).await,
        Some(Directive::Drain),
        "idle for too long"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_is_given_up() {
    let connection = Connection::new(Weak::new());
    connection.exchange_began();
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
        "a byte a minute is as good as nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nothing_is_to_be_read_does_not_count() {
    let connection = Connection::new(Weak::new());
    connection.exchange_began();
    for _ in 0..100 {
        connection.write_blocked();
        assert_eq!(after(5, &connection).await, None);
        connection.wrote(6 * 240);
        assert_eq!(after(100, &connection).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn pings_on_an_idle_http2_connection_start_no_head() {
    let connection = Connection::new(Weak::new());
    connection.opened();
    connection.set_http2();
    connection.bytes_arrived();
    assert_eq!(after(100, &connection).await, None);
}

#[test]
fn a_connection_leaves_the_list_when_it_ends() {
    let connections = Rc::new(Connections::default());
    let entered = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(async { connections.register() });
    assert_eq!(connections.len(), 1);
    drop(entered);
    assert!(connections.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_waited_for_and_moves_nothing_makes_room() {
    let connections = Rc::new(Connections::default());
    let (stuck, slow, idle) = (
        connections.register(),
        connections.register(),
        connections.register(),
    );
    stuck.connection().exchange_began();
    let waiting = stuck.connection().wait();
    slow.connection().exchange_began();
    for second in 0..4 {
        slow.connection().write_blocked();
        slow.connection().wrote(1);
        slow.connection().write_blocked();
        connections.sweep(&limits());
        assert_eq!(connections.evict_stalled(), second > 1, "after {second} s");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let order = |entered: &RegisteredConnection| entered.connection().order.get();
    assert_eq!(
        [&stuck, &slow, &idle].map(order),
        [Some(Directive::Abort), None, None]
    );
    drop(waiting);
    connections.sweep(&limits());
    assert!(
        !connections.evict_stalled(),
        "nobody waits for him any more"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_about_to_ask_is_not_told_to_finish() {
    let connections = Rc::new(Connections::default());
    let all = [(); 4].map(|()| connections.register());
    let [fresh, half, used, http2] = all.each_ref().map(RegisteredConnection::connection);
    for connection in [fresh, half, used, http2] {
        connection.opened();
    }
    used.exchange_began();
    used.exchange_ended();
    used.flushed();
    half.bytes_arrived();
    http2.set_http2();
    let told = || {
        connections.finish_all();
        [fresh, half, used, http2].map(|connection| connection.order.take().is_some())
    };
    assert_eq!(told(), [false, false, true, true]);
    tokio::time::advance(FIRST_REQUEST).await;
    assert_eq!(told(), [true, false, true, true], "it took too long");
    half.exchange_began();
    assert_eq!(told(), [true, true, true, true]);
}
