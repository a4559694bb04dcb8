//! One response for identical requests that wait for a permit (interface §4.7).

use futures_util::future::join_all;

use super::{connect_from, metric, waiting};
use crate::harness::{Gateway, Message, OK, Plan, Upstream, Wire, get, get_with, wait_until};

/// A service with one permit whose responses are forwarded byte for byte.
const ROUTE: &str = "/shared";
const TARGET: &str = "/shared/Machines?$top=1";
const BUSY: &str = "/shared/busy";

fn plan(upstream: &Upstream) -> Plan {
    Gateway::in_front_of(upstream)
        .with(&format!(
            "[[route]]\nprefix = '{ROUTE}'\nupstream = '{}'\nmax_concurrent = 1\ncollapse = true\n\
             [upstream]\nretry_budget = '0s'\n",
            upstream.url()
        ))
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "1")
}

/// A gateway whose only permit is in use, so that requests wait for it.
struct Busy {
    gateway: Gateway,
    upstream: Upstream,
    holder: Wire,
    /// The connection with the request of the holder.
    wire: Wire,
    waiting: u8,
}

impl Busy {
    async fn start(plan: impl FnOnce(&Upstream) -> Plan) -> Self {
        let upstream = Upstream::manual().await;
        let gateway = plan(&upstream).start().await;
        let mut holder = gateway.connect().await;
        holder.write(get(BUSY)).await;
        let mut wire = upstream.connection().await;
        wire.request().await;
        Self {
            gateway,
            upstream,
            holder,
            wire,
            waiting: 0,
        }
    }

    /// Sends a request that waits for the permit.
    async fn wait(&mut self, request: impl AsRef<[u8]>) -> Wire {
        let host = 1 + self.waiting;
        let mut caller = connect_from(&self.gateway, &format!("127.0.0.{host}")).await;
        caller.write(request).await;
        self.waiting += 1;
        waiting(&self.gateway, ROUTE, f64::from(self.waiting)).await;
        caller
    }

    async fn wait_for_all<R: AsRef<[u8]>>(
        &mut self,
        requests: impl IntoIterator<Item = R>,
    ) -> Vec<Wire> {
        let mut callers = Vec::new();
        for request in requests {
            callers.push(self.wait(request).await);
        }
        callers
    }

    /// Releases the permit. Returns the request that gets it.
    async fn release(&mut self) -> Message {
        self.wire.write(OK).await;
        assert_eq!(self.holder.response().await.status(), 200);
        self.wire.request().await
    }

    /// Responds to requests one after the other with OK. Returns their number.
    async fn serve(&mut self, callers: &mut [Wire]) -> usize {
        let mut served = 0;
        let serving = async {
            loop {
                self.wire.write(OK).await;
                served += 1;
                self.wire.request().await;
            }
        };
        let responses = join_all(callers.iter_mut().map(Wire::response));
        tokio::select! {
            () = serving => unreachable!(),
            responses = responses => {
                assert!(responses.iter().all(|response| response.status() == 200));
            }
        }
        served
    }

    async fn collapsed(&self) -> f64 {
        let series = format!("collapsed_total{{route=\"{ROUTE}\"}}");
        metric(&self.gateway, &series).await
    }
}

#[tokio::test]
async fn identical_requests_that_wait_share_the_response_of_the_first() {
    let mut busy = Busy::start(plan).await;
    let requests = (0..5).map(|number| {
        let own = format!(
            "User-Agent: tool-{number}\r\nCitrix-TransactionId: own-{number}\r\n\
             traceparent: 00-{:032x}-0000000000000001-01\r\nAuthorization: Bearer {number}\r\n",
            number + 1
        );
        get_with(TARGET, &own)
    });
    let mut callers = busy.wait_for_all(requests).await;
    let request = busy.release().await;
    assert_eq!(request.line(), "GET /Machines?$top=1 HTTP/1.1");
    assert_eq!(request.field("user-agent").as_deref(), Some("tool-0"));
    let token = request.field("authorization").unwrap();
    busy.wire
        .write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"e\"\r\nSet-Cookie: s=1\r\n\
             X-Echo: {token}\r\n\r\nb\0dy"
        ))
        .await;
    let mut ids = Vec::new();
    for (number, caller) in callers.iter_mut().enumerate() {
        let response = caller.response().await;
        assert_eq!((response.status(), &*response.body), (200, &b"b\0dy"[..]));
        assert_eq!(response.field("etag").as_deref(), Some("\"e\""));
        assert_eq!(
            response.has("set-cookie"),
            number == 0,
            "a session is of one"
        );
        assert!(!response.has("x-echo"));
        let transaction_id = response.field("citrix-transactionid");
        assert_eq!(
            transaction_id.as_deref(),
            Some("own-0"),
            "as sent to Citrix"
        );
        ids.push(response.field("x-proxy-request-id").unwrap());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(busy.collapsed().await, 4.0);
    assert_eq!(busy.upstream.connections(), 1);
    let upstream = format!("upstream_duration_seconds_count{{route=\"{ROUTE}\"}}");
    assert_eq!(metric(&busy.gateway, &upstream).await, 2.0);
}

#[tokio::test]
async fn requests_of_several_workers_share_a_response() {
    let four = |upstream: &Upstream| plan(upstream).set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "4");
    let mut busy = Busy::start(four).await;
    let mut callers = busy.wait_for_all((0..12).map(|_| get(TARGET))).await;
    busy.wire.write(OK).await;
    // Each worker has its own connections.
    let mut served = tokio::select! {
        request = busy.wire.next_request() => request.map(|_| busy.wire).unwrap(),
        mut wire = busy.upstream.connection() => {
            wire.request().await;
            wire
        }
    };
    served.write(OK).await;
    for response in join_all(callers.iter_mut().map(Wire::response)).await {
        assert_eq!(response.status(), 200);
    }
    let series = format!("collapsed_total{{route=\"{ROUTE}\"}}");
    assert_eq!(metric(&busy.gateway, &series).await, 11.0);
}

#[tokio::test]
async fn requests_that_differ_or_have_effects_are_each_sent() {
    let mut busy = Busy::start(plan).await;
    let requests = [
        get(TARGET),
        get("/shared/Machines?$top=2"),
        get("/shared/machines?$top=1"),
        get_with(TARGET, "Accept: text/csv\r\n"),
        get_with(TARGET, "Accept-Encoding: gzip\r\n"),
        get_with(TARGET, "Accept-Language: de\r\n"),
        get_with(TARGET, "Cookie: a=1\r\n"),
        get_with(TARGET, "Range: bytes=0-1\r\n"),
        get_with(TARGET, "X-A: 1\r\nX-A: 2\r\n"),
        get_with(TARGET, "X-A: 2\r\nX-A: 1\r\n"),
        get(TARGET).replace("GET", "DELETE"),
        get(TARGET).replace("GET", "DELETE"),
    ];
    let count = requests.len();
    let mut callers = busy.wait_for_all(requests).await;
    busy.release().await;
    assert_eq!(busy.serve(&mut callers).await, count);
    assert_eq!(busy.collapsed().await, 0.0);
}

#[tokio::test]
async fn request_that_arrives_after_the_first_was_sent_gets_a_later_response() {
    let mut busy = Busy::start(plan).await;
    let mut first = busy.wait(get(TARGET)).await;
    busy.release().await;
    busy.waiting = 0;
    let mut late = busy.wait(get(TARGET)).await;
    busy.wire
        .write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")
        .await;
    assert_eq!(first.response().await.text(), "old");
    busy.wire.request().await;
    busy.wire
        .write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew")
        .await;
    assert_eq!(late.response().await.text(), "new");
}

#[tokio::test]
async fn failures_and_limits_are_not_shared() {
    // A shorter wait is part of that for the limit.
    let long_wait = "Retry-After: 3600\r\n";
    for (status, fields) in [(425, ""), (429, long_wait), (500, ""), (503, "")] {
        let mut busy = Busy::start(plan).await;
        let mut callers = busy
            .wait_for_all([get(TARGET), get(TARGET), get(TARGET)])
            .await;
        busy.release().await;
        let failure = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 0\r\n\r\n");
        busy.wire.write(&failure).await;
        assert_eq!(callers[0].response().await.status(), status);
        busy.wire.request().await;
        assert_eq!(busy.serve(&mut callers[1..]).await, 2, "{status}");
        assert_eq!(busy.collapsed().await, 0.0);
    }
}

#[tokio::test]
async fn not_found_is_shared() {
    let mut busy = Busy::start(plan).await;
    let mut callers = busy.wait_for_all([get(TARGET), get(TARGET)]).await;
    busy.release().await;
    busy.wire
        .write("HTTP/1.1 404 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-T: 1\r\n\r\n")
        .await;
    for caller in &mut callers {
        let response = caller.response().await;
        assert_eq!((response.status(), response.text()), (404, "x".to_owned()));
    }
    assert_eq!(busy.collapsed().await, 1.0);
}

#[tokio::test]
async fn followers_of_a_caller_that_leaves_send_their_own_requests() {
    let mut busy = Busy::start(plan).await;
    let mut callers = busy
        .wait_for_all([get(TARGET), get(TARGET), get(TARGET)])
        .await;
    busy.release().await;
    drop(callers.remove(0));
    busy.wire.closed().await;
    busy.wire = busy.upstream.connection().await;
    busy.wire.request().await;
    assert_eq!(busy.serve(&mut callers).await, 2);
}

#[tokio::test]
async fn caller_that_leaves_after_the_head_does_not_end_the_response_of_others() {
    let mut busy = Busy::start(plan).await;
    let mut callers = busy.wait_for_all([get(TARGET), get(TARGET)]).await;
    busy.release().await;
    busy.wire
        .write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        .await;
    let mut first = callers.remove(0);
    assert_eq!(first.head().await.status(), 200);
    drop(first);
    let complete = format!(
        "requests_total{{caller=\"anonymous\",code=\"200\",method=\"GET\",route=\"{ROUTE}\"}}"
    );
    wait_until("it has left", || async {
        metric(&busy.gateway, &complete).await == 2.0
    })
    .await;
    busy.wire.write("cd").await;
    assert_eq!(callers[0].response().await.text(), "abcd");
}

#[tokio::test]
async fn response_truncated_early_is_truncated_for_its_own_caller_only() {
    let mut busy = Busy::start(plan).await;
    let mut callers = busy.wait_for_all([get(TARGET), get(TARGET)]).await;
    busy.release().await;
    busy.wire
        .write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    assert_eq!(callers[0].head().await.status(), 200);
    let wire = std::mem::replace(&mut busy.wire, Wire::new(tokio::io::empty()));
    drop(wire);
    assert_eq!(callers[0].rest().await, b"half");
    busy.wire = busy.upstream.connection().await;
    busy.wire.request().await;
    assert_eq!(busy.serve(&mut callers[1..]).await, 1);
}

#[tokio::test]
async fn response_truncated_beyond_the_window_is_truncated_for_all() {
    const SENT: usize = 2 * 1024 * 1024;
    let mut busy = Busy::start(plan).await;
    let mut callers = busy.wait_for_all([get(TARGET), get(TARGET)]).await;
    busy.release().await;
    busy.wire
        .write("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n")
        .await;
    let write = async {
        busy.wire.write(vec![b'x'; SENT]).await;
        drop(busy.wire);
    };
    let read = async |caller: &mut Wire| {
        assert_eq!(caller.head().await.status(), 200);
        caller.rest().await.len()
    };
    let (_, lengths) = tokio::join!(write, join_all(callers.iter_mut().map(read)));
    assert_eq!(lengths, [SENT; 2]);
}

#[tokio::test]
async fn followers_leave_the_queue_to_other_requests() {
    let mut busy = Busy::start(plan).await;
    let requests = [get(TARGET), get(TARGET), get("/shared/other"), get(TARGET)];
    let mut callers = busy.wait_for_all(requests).await;
    assert!(busy.release().await.line().contains("/Machines"));
    waiting(&busy.gateway, ROUTE, 1.0).await;
    busy.wire.write(OK).await;
    assert!(busy.wire.request().await.line().contains("/other"));
    busy.wire.write(OK).await;
    for caller in &mut callers {
        assert_eq!(caller.response().await.status(), 200);
    }
}

#[tokio::test]
async fn each_caller_is_evaluated_and_counted_by_itself() {
    let caller = |name: &str, secret: &str, more: &str| {
        let hash = citrix_auth_proxy::system::digest::Sha256::of(secret.as_bytes()).to_hex();
        format!("[[caller]]\nname = '{name}'\nsecret_sha256 = '{hash}'\n{more}\n")
    };
    let blocks = [
        caller("holder", "holder-secret", ""),
        caller("a", "secret-of-a", "paths = ['/shared/Machines']"),
        caller("b", "secret-of-b", "max_concurrent = 1"),
        caller("c", "secret-of-c", "paths = ['/systemlog/**']"),
    ]
    .concat();
    let upstream = Upstream::manual().await;
    let gateway = plan(&upstream).with(&blocks).start().await;
    let send = async |target: &str, secret: &str| {
        let mut wire = gateway.connect().await;
        wire.write(get_with(target, &format!("X-Api-Key: {secret}\r\n")))
            .await;
        wire
    };
    let mut holder = send(BUSY, "holder-secret").await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let mut a = send(TARGET, "secret-of-a").await;
    waiting(&gateway, ROUTE, 1.0).await;
    let mut b = send(TARGET, "secret-of-b").await;
    waiting(&gateway, ROUTE, 2.0).await;
    let mut c = send(TARGET, "secret-of-c").await;
    c.response().await.problem(403, "caller_forbidden");
    let mut second = send(TARGET, "secret-of-b").await;
    second.response().await.problem(503, "overloaded");
    wire.write(OK).await;
    assert_eq!(holder.response().await.status(), 200);
    wire.request().await;
    wire.write(OK).await;
    assert_eq!(a.response().await.status(), 200);
    assert_eq!(b.response().await.status(), 200);
    for (caller, code) in [("a", 200), ("b", 200), ("b", 503), ("c", 403)] {
        // Rejected requests have no route yet.
        let route = if code == 200 { ROUTE } else { "none" };
        let series = format!(
            "requests_total{{caller=\"{caller}\",code=\"{code}\",method=\"GET\",route=\"{route}\"}}"
        );
        assert_eq!(metric(&gateway, &series).await, 1.0, "{series}");
    }
}

#[tokio::test]
async fn links_are_rewritten_for_each_host() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut holder = gateway.connect().await;
    holder.write(get("/monitorodata/busy")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let hosts = ["localhost:1", "localhost:2"];
    let mut callers = Vec::new();
    for (count, host) in (1_u8..).zip(hosts) {
        let mut caller = gateway.connect().await;
        let request = format!("GET /monitorodata/Machines HTTP/1.1\r\nHost: {host}\r\n\r\n");
        caller.write(request).await;
        waiting(&gateway, "/monitorodata", f64::from(count)).await;
        callers.push(caller);
    }
    wire.write(OK).await;
    assert_eq!(holder.response().await.status(), 200);
    wire.request().await;
    let body = format!(
        "{{\"@odata.nextLink\":\"{}/monitorodata/x\"}}",
        upstream.url()
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let length = body.len();
    wire.write(format!("{head}Content-Length: {length}\r\n\r\n{body}"))
        .await;
    for (caller, host) in callers.iter_mut().zip(hosts) {
        let text = caller.response().await.text();
        assert_eq!(
            text,
            format!("{{\"@odata.nextLink\":\"http://{host}/monitorodata/x\"}}")
        );
    }
}

#[tokio::test]
async fn stalled_reader_of_a_large_response_is_truncated_and_the_others_read_on() {
    const LARGE: usize = 32 * 1024 * 1024;
    let mut busy = Busy::start(plan).await;
    let requests = (0..6).map(|_| get(TARGET));
    let mut callers = busy.wait_for_all(requests).await;
    busy.release().await;
    let mut stalled = callers.remove(3);
    let write = async {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        busy.wire.write(head).await;
        busy.wire.write(vec![b'x'; LARGE]).await;
    };
    let read = async |caller: &mut Wire| {
        assert_eq!(caller.head().await.status(), 200);
        let mut length = 0;
        while length < LARGE {
            length += caller.bytes(64 * 1024).await.len();
        }
        length
    };
    let reading = join_all(callers.iter_mut().map(read));
    let ((), lengths) = tokio::join!(write, reading);
    assert_eq!(lengths, [LARGE; 5]);
    assert_eq!(stalled.head().await.status(), 200);
    assert!(stalled.rest().await.len() < LARGE / 2);
    // The permit is free.
    let mut next = busy.gateway.connect().await;
    next.write(get(BUSY)).await;
    busy.wire.request().await;
    busy.wire.write(OK).await;
    assert_eq!(next.response().await.status(), 200);
}
