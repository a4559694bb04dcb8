use std::cell::Cell;

use testkit::http2::{GOAWAY, HEADERS, Http2Wire, MAX_CONCURRENT_STREAMS, PING};
use tokio::io::duplex;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::*;

const IDLE: Duration = Duration::from_secs(60);

/// Returns a connection and its upstream's side.
async fn open(settings: &[(u16, u32)]) -> (Http2, Http2Wire) {
    // Not a socket: the paused clock does not wait for one.
    let (near, far) = duplex(1024 * 1024);
    let upstream = Authority::from_static("upstream.example");
    let (client, server) = tokio::join!(
        Http2::open(near, &upstream),
        Http2Wire::accept(far, settings)
    );
    (client.unwrap(), server)
}

async fn get(connection: &mut Http2) -> Result<Response<Http2Body>, AttemptError> {
    let mut request = Request::new(CallerBody::empty());
    *request.uri_mut() = "https://upstream.example/".parse().unwrap();
    connection.stream().exchange(request, IDLE).await
}

/// Reads all frames and responds to PING if `alive`, to requests if `responds`. Returns the number
/// of PINGs.
fn serve(mut wire: Http2Wire, alive: bool, responds: bool) -> Rc<Cell<usize>> {
    let pings = Rc::new(Cell::new(0));
    let count = Rc::clone(&pings);
    spawn_local(async move {
        while let Some(frame) = wire.frame().await {
            if frame.kind == PING && frame.flags == 0 {
                count.set(count.get() + 1);
                if alive {
                    wire.pong(&frame).await;
                }
            }
            if frame.kind == HEADERS && responds {
                wire.respond(frame.stream, "{}").await;
            }
        }
    });
    pings
}

async fn locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn silent_connection_is_abandoned_although_callers_leave() {
    locally(async {
        let (mut connection, wire) = open(&[]).await;
        let pings = serve(wire, false, false);
        let start = Instant::now();
        while connection.is_alive() {
            assert!(start.elapsed() <= Duration::from_secs(15));
            // Each caller waits for three seconds.
            let _ = timeout(Duration::from_secs(3), get(&mut connection)).await;
        }
        assert_eq!(start.elapsed().as_secs(), 15);
        assert_eq!(pings.get(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiting_requests_fail_with_their_silent_connection() {
    locally(async {
        let (mut connection, wire) = open(&[]).await;
        serve(wire, false, false);
        let start = Instant::now();
        assert!(matches!(
            get(&mut connection).await,
            Err(AttemptError::Broken(_))
        ));
        assert_eq!(start.elapsed().as_secs(), 15);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_upstream_that_acknowledges_pings_keeps_its_connection() {
    locally(async {
        let (mut connection, wire) = open(&[]).await;
        let pings = serve(wire, true, false);
        let minute = timeout(Duration::from_secs(65), get(&mut connection)).await;
        assert!(minute.is_err(), "no response");
        assert!(connection.is_alive());
        assert_eq!(pings.get(), 6);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_not_pinged() {
    locally(async {
        let (mut connection, wire) = open(&[]).await;
        let pings = serve(wire, false, true);
        for _ in 0..3 {
            let mut body = get(&mut connection).await.unwrap().into_body();
            while let Some(frame) = poll_fn(|cx| body.poll_frame(cx)).await {
                frame.unwrap();
            }
            drop(body);
            sleep(IDLE).await;
        }
        assert_eq!(pings.get(), 0);
        assert!(connection.is_alive());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_are_counted_against_the_limit_of_the_upstream() {
    locally(async {
        let (mut connection, _wire) = open(&[(MAX_CONCURRENT_STREAMS, 2)]).await;
        let first = connection.stream();
        assert!(connection.has_capacity());
        let _second = connection.stream();
        assert!(!connection.has_capacity());
        drop(first);
        assert!(connection.has_capacity());
        // An upstream that permits none for now gets one that waits.
        let (mut connection, _wire) = open(&[(MAX_CONCURRENT_STREAMS, 0)]).await;
        assert!(connection.has_capacity());
        let _waiting = connection.stream();
        assert!(!connection.has_capacity());
    })
    .await;
}

/// A frame of an unknown type, which is ignored.
const UNKNOWN: u8 = 0xfa;
const FRAME: [u8; 16 * 1024] = [0; 16 * 1024];

#[tokio::test(start_paused = true)]
async fn rfc9110_15_2_interim_responses_are_dropped_up_to_a_bound() {
    locally(async {
        for (count, expected) in [(16, true), (17, false)] {
            let (mut connection, mut wire) = open(&[]).await;
            let serve = async {
                let stream = wire.head().await;
                for _ in 0..count {
                    wire.write_fields(stream, &[(":status", "103")], 0).await;
                }
                wire.respond(stream, "{}").await;
            };
            let (response, ()) = tokio::join!(get(&mut connection), serve);
            assert_eq!(response.is_ok(), expected, "{count}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connection_that_sends_frames_but_no_response_is_abandoned() {
    locally(async {
        let (mut connection, mut wire) = open(&[]).await;
        let flood = async {
            wire.head().await;
            for _ in 0..=traffic::MAX_OVERHEAD / FRAME.len() as u64 {
                wire.write(UNKNOWN, 0, 0, &FRAME).await;
            }
        };
        let (response, ()) = tokio::join!(get(&mut connection), flood);
        assert!(matches!(response, Err(AttemptError::Broken(_))));
        assert!(!connection.is_alive());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn other_tasks_run_while_frames_arrive() {
    locally(async {
        let (_connection, mut wire) = open(&[]).await;
        let runs = Rc::new(Cell::new(0));
        let count = Rc::clone(&runs);
        // As much as the pipe holds, so that the connection finds all of it at once.
        for _ in 0..60 {
            wire.write(UNKNOWN, 0, 0, &FRAME).await;
        }
        spawn_local(async move {
            loop {
                count.set(count.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let before = runs.get();
        wire.write(PING, 0, 0, &[0; 8]).await;
        while wire.frame().await.is_some_and(|frame| frame.kind != PING) {}
        let during = runs.get() - before;
        assert!(during >= 60 * FRAME.len() / traffic::MAX_BURST, "{during}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn debug_data_of_goaway_is_no_part_of_the_error() {
    locally(async {
        let (mut connection, mut wire) = open(&[]).await;
        let serve = async {
            let stream = wire.head().await;
            let mut payload = [0_u32.to_be_bytes(), 2_u32.to_be_bytes()].concat();
            wire.write_fields(stream, &[(":status", "200")], 0).await;
            payload.extend_from_slice(b"CwsAuth Bearer=secret");
            wire.write(GOAWAY, 0, 0, &payload).await;
        };
        let (response, ()) = tokio::join!(get(&mut connection), serve);
        let mut body = response.unwrap().into_body();
        let error = poll_fn(|cx| body.poll_frame(cx))
            .await
            .unwrap()
            .unwrap_err();
        let error = &*error as &(dyn std::error::Error + 'static);
        assert!(error.to_string().contains("secret"), "{error}");
        let texts: Vec<_> = chain::sources(error).map(chain::text).collect();
        assert!(!texts.concat().contains("secret"), "{texts:?}");
    })
    .await;
}
