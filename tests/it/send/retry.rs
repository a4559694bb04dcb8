//! Retries after a Citrix 429 or 503 (interface §4.4): waits that callers do not see, shared by all
//! requests. A wait takes at least a second, and so do these tests.

use std::time::{Duration, SystemTime};

use citrix_emulator::Faults;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::harness::{Cloud, Gateway, Message, OK, Upstream, client, get, wait_until};

/// Failures after which a GET or HEAD is retried once, even without a hint.
const FAILURES: [&str; 3] = [
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway Timeout",
];

const ONE_SECOND: &str =
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 6\r\n\r\ncitrix";

/// Returns a response with a body in JSON.
fn json(status: &str, fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n{fields}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns an upstream that rejects the first request with `response` and serves the others.
async fn busy_at_first(response: impl Into<String>) -> Upstream {
    let response = response.into();
    Upstream::scripted(move |number| {
        if number == 1 {
            response.clone().into()
        } else {
            OK.into()
        }
    })
    .await
}

async fn metric(gateway: &Gateway, series: &str) -> f64 {
    let series = format!("citrix_auth_proxy_{series} ");
    let text = gateway.metrics().await;
    text.lines()
        .find_map(|line| line.strip_prefix(&series))
        .map_or(0.0, |value| value.parse().unwrap())
}

async fn replays(gateway: &Gateway, outcome: &str) -> f64 {
    metric(
        gateway,
        &format!("replays_total{{outcome=\"{outcome}\",route=\"/\"}}"),
    )
    .await
}

async fn waiting(gateway: &Gateway, count: f64) {
    let depth = || async { metric(gateway, "queue_depth{route=\"/\"}").await == count };
    wait_until("the requests wait", depth).await;
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns a request without its token and its framing, because the length of a buffered body is
/// known.
fn without_token_and_framing(request: &Message) -> (String, Vec<(String, String)>, String) {
    let excluded = ["authorization", "content-length", "transfer-encoding"];
    let fields = request
        .all_fields()
        .into_iter()
        .filter(|(name, _)| !excluded.contains(&name.as_str()));
    (request.line(), fields.collect(), request.text())
}

/// Asserts that the upstream gets `request` twice, a second apart, and the caller gets the second
/// response.
async fn assert_waited_out(response: String, request: String) {
    let description = response.clone();
    let upstream = busy_at_first(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let start = Instant::now();
    let response = gateway.raw(request).await;
    assert_eq!(
        (response.status(), response.text().as_str()),
        (200, "{}"),
        "{description}"
    );
    assert!(start.elapsed() >= Duration::from_secs(1), "{description}");
    let (first, second) = (upstream.request().await, upstream.request().await);
    assert_eq!(
        without_token_and_framing(&first),
        without_token_and_framing(&second)
    );
    upstream.assert_no_more_requests().await;
    assert_eq!(upstream.connections(), 1, "{description}");
    assert_eq!(replays(&gateway, "waited").await, 1.0, "{description}");
    // It begins to wait a moment after the response arrived.
    assert!(metric(&gateway, "queue_wait_seconds_sum{route=\"/\"}").await > 0.5);
}

#[tokio::test]
async fn contract_4_retry_hints_of_every_format_are_waited_out() {
    // Relative to the responder's clock, whatever the gateway's clock is.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let in_a_second = now + Duration::from_secs(1);
    let date = format!("Date: {}\r\n", httpdate::fmt_http_date(now));
    let http_date = format!(
        "{date}Retry-After: {}\r\n",
        httpdate::fmt_http_date(in_a_second)
    );
    let rfc_3339 = format!(
        "{date}Retry-After: {}\r\n",
        humantime::format_rfc3339_seconds(in_a_second)
    );
    let status = "429 Too Many Requests";
    let responses = [
        ONE_SECOND.to_owned(),
        json(status, "Retry-After: 0\r\n", "{}"),
        json(status, &http_date, "{}"),
        json(status, &rfc_3339, "{}"),
        json(
            status,
            "",
            r#"{"type":"x","parameters":[{"name":"retryDelay","value":"1"}]}"#,
        ),
        json(
            status,
            "",
            r#"{"statusCode":429,"message":"Rate limit is exceeded. Try again in 1 seconds."}"#,
        ),
        json(status, "", r#"{"parameters":{"retryDelay":1}}"#)
            .replace("application/json", "text/plain"),
        // No hint at all.
        json(status, "", "{}"),
        json("502 Bad Gateway", "", "{}"),
        json("503 Service Unavailable", "", "{}"),
        json("504 Gateway Timeout", "Retry-After: 60\r\n", "{}"),
        json(
            "503 Service Unavailable",
            "",
            r#"{"parameters":{"retryDelay":1}}"#,
        ),
    ];
    join_all(responses.map(|response| assert_waited_out(response, get("/x?y=1")))).await;
}

#[tokio::test]
async fn retried_request_body_is_sent_whole() {
    let chunked = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         9\r\nwhat the \r\nb\r\ncaller sent\r\n0\r\n\r\n";
    let requests = [post("/x", "what the caller sent"), chunked.to_owned()];
    join_all(requests.map(|request| assert_waited_out(ONE_SECOND.to_owned(), request))).await;
}

/// Asserts that the caller gets the response unchanged and the upstream got one request.
async fn assert_returned_unchanged(
    settings: &str,
    response: &str,
    request: String,
    outcome: Option<&str>,
) {
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).with(settings).start().await;
    let got = gateway.raw(request).await;
    let (head, framed) = response.split_once("\r\n\r\n").unwrap();
    assert_eq!(got.line(), head.split("\r\n").next().unwrap());
    assert!(
        got.complete && got.framed == framed.as_bytes(),
        "{response}\n{got:?}"
    );
    for name in ["retry-after", "content-type", "content-length"] {
        let expected = head.split("\r\n").filter_map(|line| line.split_once(": "));
        let expected = expected
            .filter(|(each, _)| each.eq_ignore_ascii_case(name))
            .map(|(_, value)| value);
        assert_eq!(got.fields(name), expected.collect::<Vec<_>>(), "{response}");
    }
    assert!(!got.has("x-proxy-error"));
    upstream.request().await;
    upstream.assert_no_more_requests().await;
    for each in ["waited", "wait_too_long", "not_replayable"] {
        let count = f64::from(u8::from(outcome == Some(each)));
        assert_eq!(replays(&gateway, each).await, count, "{each} {response}");
    }
}

#[tokio::test]
async fn retry_after_above_the_limit_returns_the_response_unchanged() {
    let status = "429 Too Many Requests";
    let long = format!(
        r#"{{"fill":"{}","parameters":{{"retryDelay":1}}}}"#,
        "x".repeat(40_000)
    );
    let chunked = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n20\r\n{\"parameters\":{\"retryDelay\":60}}\r\n0\r\n\r\n";
    for (settings, response) in [
        ("", json(status, "", r#"{"parameters":{"retryDelay":60}}"#)),
        ("", json(status, "Retry-After: 11\r\n", "{}")),
        ("", json(status, "Retry-After: 99999999999999999\r\n", "{}")),
        ("", chunked.to_owned()),
        (
            "[upstream]\nretry_budget = '900ms'",
            json(status, "Retry-After: 0\r\n", "{}"),
        ),
        (
            "[upstream]\nretry_budget = '900ms'",
            json(status, "", &long),
        ),
        (
            "[upstream]\nretry_budget = '900ms'",
            json(status, "Content-Encoding: gzip\r\n", "not gzip"),
        ),
        (
            "",
            json("503 Service Unavailable", "Retry-After: 60\r\n", "{}"),
        ),
    ] {
        assert_returned_unchanged(settings, &response, get("/x"), Some("wait_too_long")).await;
    }
}

#[tokio::test]
async fn unsafe_requests_are_not_retried() {
    let unavailable = json("503 Service Unavailable", "Retry-After: 1\r\n", "{}");
    assert_returned_unchanged("", &unavailable, post("/x", "body"), Some("not_replayable")).await;
    for status in FAILURES {
        let failed = json(status, "", "{}");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let request = post("/x", "").replacen("POST", method, 1);
            assert_returned_unchanged("", &failed, request, None).await;
        }
        for budget in ["0s", "900ms"] {
            let outcome = (budget != "0s").then_some("wait_too_long");
            let settings = format!("[upstream]\nretry_budget = '{budget}'");
            assert_returned_unchanged(&settings, &failed, get("/x"), outcome).await;
        }
    }
    let kept = "[limits]\nreplay_buffer_bytes = '3B'";
    assert_returned_unchanged(kept, ONE_SECOND, post("/x", "body"), Some("not_replayable")).await;
    assert_returned_unchanged(
        "[upstream]\nretry_budget = '0s'",
        ONE_SECOND,
        get("/x"),
        None,
    )
    .await;
}

#[tokio::test]
async fn failure_of_a_get_or_head_is_retried_once_on_every_route() {
    let requests = FAILURES.map(|status| async move {
        for (method, path) in [("GET", "/monitorodata/x"), ("HEAD", "/accessSecurity/x")] {
            let body = if method == "HEAD" { "" } else { "{}" };
            let length = "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n";
            let failed = format!("HTTP/1.1 {status}\r\n{length}{body}");
            let upstream = Upstream::responding(failed).await;
            let gateway = Gateway::in_front_of(&upstream).start().await;
            let start = Instant::now();
            let mut wire = gateway.connect().await;
            wire.write(get(path).replacen("GET", method, 1)).await;
            let head = wire.head().await;
            assert_eq!(head.line(), format!("HTTP/1.1 {status}"), "{method}");
            assert!(start.elapsed() >= Duration::from_secs(1), "{method}");
            let (first, second) = (upstream.request().await, upstream.request().await);
            assert_eq!(first.all_fields(), second.all_fields());
            upstream.assert_no_more_requests().await;
        }
    });
    join_all(requests).await;
}

#[tokio::test]
async fn failure_is_retried_for_http2_callers_and_in_regions() {
    let upstream = busy_at_first(json("502 Bad Gateway", "", "{}")).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut http2 = gateway.http2().await;
    let request = http::Request::get(gateway.url("/x")).body(()).unwrap();
    let (response, _) = http2.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(replays(&gateway, "waited").await, 1.0);

    let region = busy_at_first(json("504 Gateway Timeout", "", "{}")).await;
    let route = format!(
        "[[route]]\nprefix = '/region/eu'\nupstream = '{}'",
        region.url()
    );
    let gateway = Gateway::in_front_of(&upstream).with(&route).start().await;
    let response = gateway.raw(get("/region/eu/monitorodata/x")).await;
    assert_eq!(response.status(), 200);
    let (first, second) = (region.request().await, region.request().await);
    assert_eq!(
        (first.line(), first.all_fields()),
        (second.line(), second.all_fields())
    );
}

#[tokio::test]
async fn failure_of_one_request_holds_back_no_other() {
    let upstream = Upstream::scripted_by_request(|_, request| {
        if request.line().contains("/x/bad") {
            json("502 Bad Gateway", "", "{}").into()
        } else {
            OK.into()
        }
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut failing = gateway.connect().await;
    failing.write(get("/x/bad")).await;
    upstream.request().await;
    waiting(&gateway, 1.0).await;
    assert_eq!(gateway.raw(get("/x/good")).await.status(), 200);
    waiting(&gateway, 1.0).await;
    assert_eq!(failing.response().await.status(), 502);
}

#[tokio::test]
async fn error_body_truncated_during_inspection_is_truncated_for_the_caller() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[upstream]\nretry_budget = '900ms'")
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller.write(get("/x")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"a",
    )
    .await;
    drop(wire);
    let response = caller.response().await;
    assert_eq!(
        (
            response.status(),
            response.text().as_str(),
            response.complete
        ),
        (429, "{\"a", false)
    );
}

#[tokio::test]
async fn concurrent_waits_share_one_gate_and_hold_no_permit() {
    let limited = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
    let upstream = busy_at_first(limited).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_in_flight = 24")
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2")
        .start()
        .await;
    let mut callers = vec![gateway.connect().await];
    callers[0].write(get("/systemlog/0")).await;
    waiting(&gateway, 1.0).await;
    upstream.request().await;
    for number in 1..19 {
        let mut caller = gateway.connect().await;
        // A body makes no difference for a request that was not sent yet.
        caller
            .write(if number == 1 {
                post("/systemlog/1", "x")
            } else {
                get("/systemlog/x")
            })
            .await;
        callers.push(caller);
    }
    waiting(&gateway, 19.0).await;
    assert_eq!(metric(&gateway, "in_flight_requests").await, 0.0);
    // Another service is not affected.
    assert_eq!(gateway.raw(get("/licensing")).await.status(), 200);
    assert!(upstream.request().await.line().contains("/licensing"));
    upstream.assert_no_more_requests().await;
    // A disconnected caller no longer waits.
    drop(callers.pop());
    waiting(&gateway, 18.0).await;
    for caller in &mut callers {
        assert_eq!(caller.response().await.status(), 200);
    }
    for _ in 0..18 {
        assert!(upstream.request().await.line().contains("/systemlog/"));
    }
    upstream.assert_no_more_requests().await;
    waiting(&gateway, 0.0).await;
    assert_eq!(replays(&gateway, "waited").await, 1.0);
}

#[tokio::test]
async fn request_that_cannot_wait_gets_the_citrix_response() {
    let limited = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n";
    let upstream = Upstream::responding(limited).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for _ in 0..3 {
        let response = gateway.raw(get("/x")).await;
        assert_eq!(
            (response.status(), response.field("retry-after").as_deref()),
            (429, Some("30"))
        );
        upstream.request().await;
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn waiters_above_the_gate_limit_get_the_original_response() {
    let upstream = Upstream::responding(ONE_SECOND).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_queued = 1\n[upstream]\nretry_budget = '1500ms'")
        .start()
        .await;
    let mut first = gateway.connect().await;
    first.write(get("/x")).await;
    waiting(&gateway, 1.0).await;
    let second = gateway.raw(get("/x")).await;
    assert_eq!((second.status(), second.text().as_str()), (429, "citrix"));
    assert_eq!(replays(&gateway, "too_many_wait").await, 1.0);
    assert_eq!(first.response().await.status(), 429);
}

#[tokio::test]
async fn wait_that_finds_no_permit_returns_503() {
    let upstream = Upstream::manual().await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nmax_in_flight = 1")
        .start()
        .await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    first.write(get("/x")).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    wire.write(ONE_SECOND).await;
    waiting(&gateway, 1.0).await;
    second.write(get("/y")).await;
    wire.request().await;
    first.response().await.problem(503, "overloaded");
    wire.write(OK).await;
    assert_eq!(second.response().await.status(), 200);
}

#[tokio::test]
async fn waits_and_replays_have_separate_budgets() {
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let upstream = Upstream::scripted(move |number| match number {
        1 => ONE_SECOND.into(),
        2 => unauthorized.into(),
        _ => OK.into(),
    })
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(gateway.raw(post("/x", "body")).await.status(), 200);
    for _ in 0..3 {
        assert_eq!(upstream.request().await.text(), "body");
    }
    upstream.assert_no_more_requests().await;
    assert_eq!(
        (
            replays(&gateway, "accepted").await,
            replays(&gateway, "waited").await
        ),
        (1.0, 1.0)
    );
}

#[tokio::test]
async fn http2_retry_waits_for_the_query_of_another_program() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    // The gateway sends one query at a time; another program bypasses it.
    let other = Gateway::in_front_of_cloud(&cloud).start().await;
    let latency = Duration::from_secs(600);
    cloud.emulator.set_faults(Faults {
        latency,
        ..Faults::default()
    });
    let mut others = other.connect().await;
    others.write(get("/monitorodata/Machines")).await;
    wait_until("the upstream gets the request", || async {
        cloud.emulator.stats().monitor_in_flight == 1
    })
    .await;
    cloud.emulator.set_faults(Faults::default());
    let poll = client()
        .get(gateway.url("/monitorodata/Machines?$top=1"))
        .send();
    let release = async {
        let series = "queue_depth{route=\"/monitorodata\"}";
        wait_until("the request waits", || async {
            metric(&gateway, series).await == 1.0
        })
        .await;
        drop(others);
    };
    let (response, ()) = tokio::join!(poll, release);
    assert_eq!(response.unwrap().status(), 200);
    assert!(cloud.emulator.stats().monitor_rate_limited > 0);
}

/// Returns an upstream that rejects the first `rejected` requests for a second.
async fn busy_for(rejected: usize) -> Upstream {
    Upstream::scripted(move |number| {
        if number <= rejected {
            ONE_SECOND.into()
        } else {
            OK.into()
        }
    })
    .await
}

#[tokio::test]
async fn limited_route_waits_out_429s_beyond_five_tries_and_the_retry_budget() {
    let requests = [
        get("/monitorodata/x"),
        get("/accessSecurity/x"),
        get("/limited/x").replace("HTTP/1.1", "HTTP/1.0"),
        post("/limited/x", "body"),
        get("/region/eu/monitorodata/x"),
    ];
    let waits = requests.map(|request| async move {
        let upstream = busy_for(6).await;
        let url = upstream.url();
        let gateway = Gateway::in_front_of(&upstream)
            .with("[upstream]\nretry_budget = '0s'")
            .with(&format!(
                "[[route]]\nprefix = '/limited'\nupstream = '{url}'\nmax_concurrent = 2"
            ))
            .with(&format!(
                "[[route]]\nprefix = '/region/eu'\nupstream = '{url}'"
            ))
            .start()
            .await;
        let start = Instant::now();
        let response = gateway.raw(&request).await;
        assert_eq!(response.status(), 200, "{request}");
        // The second and later waits are up to half longer.
        let waited = start.elapsed().as_secs_f64();
        assert!((6.0..10.0).contains(&waited), "{waited} {request}");
        for _ in 0..7 {
            upstream.request().await;
        }
        upstream.assert_no_more_requests().await;
    });
    join_all(waits).await;
}

#[tokio::test]
async fn limited_route_passes_a_429_that_exceeds_queue_timeout() {
    let cases = [("2500ms", 1, 2..=3), ("900ms", 1, 1..=1), ("2s", 3, 1..=1)];
    let cases = cases.map(|(timeout, hint, tries)| async move {
        let hint = format!("Retry-After: {hint}");
        let upstream = Upstream::responding(ONE_SECOND.replace("Retry-After: 1", &hint)).await;
        let route = format!(
            "[[route]]\nprefix = '/limited'\nupstream = '{}'\nmax_concurrent = 1\nqueue_timeout = '{timeout}'",
            upstream.url()
        );
        let gateway = Gateway::in_front_of(&upstream).with(&route).start().await;
        let response = gateway.raw(get("/limited/x")).await;
        assert_eq!((response.status(), response.text().as_str()), (429, "citrix"));
        assert!(response.has("retry-after"));
        let count = "replays_total{outcome=\"wait_too_long\",route=\"/limited\"}";
        assert_eq!(metric(&gateway, count).await, 1.0);
        let sent = upstream.take_requests().await.len();
        assert!(tries.contains(&sent), "{sent} {timeout}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn limited_route_passes_a_429_if_the_body_is_not_at_hand() {
    let upstream = busy_for(1).await;
    let gateway = Gateway::in_front_of(&upstream)
        .with("[limits]\nreplay_buffer_bytes = '3B'")
        .start()
        .await;
    let response = gateway.raw(post("/monitorodata/x", "body")).await;
    assert_eq!(
        (response.status(), response.text().as_str()),
        (429, "citrix")
    );
    let count = "replays_total{outcome=\"not_replayable\",route=\"/monitorodata\"}";
    assert_eq!(metric(&gateway, count).await, 1.0);
}

#[tokio::test]
async fn request_that_waits_for_a_429_keeps_its_permit_until_its_caller_leaves() {
    let upstream = busy_for(1).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut first = gateway.connect().await;
    first.write(get("/monitorodata/first")).await;
    upstream.request().await;
    let series = "queue_depth{route=\"/monitorodata\"}";
    let mut second = gateway.connect().await;
    second.write(get("/monitorodata/second")).await;
    wait_until("both wait", || async {
        metric(&gateway, series).await == 2.0
    })
    .await;
    drop(first);
    wait_until("one waits", || async {
        metric(&gateway, series).await == 1.0
    })
    .await;
    assert_eq!(second.response().await.status(), 200);
    assert!(upstream.request().await.line().contains("second"));
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn retries_end_after_five_attempts() {
    let upstream = Upstream::responding(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    assert_eq!(gateway.raw(get("/x")).await.status(), 429);
    for _ in 0..5 {
        upstream.request().await;
    }
    upstream.assert_no_more_requests().await;
    assert_eq!(replays(&gateway, "wait_too_long").await, 1.0);
}
