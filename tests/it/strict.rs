//! Ambiguous requests get 400 and the connection is closed. No bytes of a caller reach the
//! upstream with two interpretations.

mod corpus;

use std::collections::BTreeSet;

use crate::harness::{Gateway, Message, OK, Upstream, within_timeout};
use crate::strict::corpus::{Case, Reaches, Response};

/// Fields of every forwarded request.
const ALWAYS: [&str; 7] = [
    "accept",
    "authorization",
    "citrix-customerid",
    "citrix-transactionid",
    "content-length",
    "host",
    "transfer-encoding",
];

#[tokio::test]
async fn each_ambiguous_request_gets_one_response_and_one_interpretation() {
    let upstream = Upstream::responding(OK).await;
    let configured = || Gateway::in_front_of(&upstream).with("[limits]\nmax_body_bytes = \"2MiB\"");
    let gateway = configured().start().await;
    let short_timeouts = configured()
        .with("header_read_timeout = \"100ms\"\nbody_idle_timeout = \"100ms\"")
        .start()
        .await;
    let mut cases = corpus::all();
    assert!(
        cases.len() >= 120,
        "the corpus has shrunk to {}",
        cases.len()
    );
    // Last, because the upstream detects their end asynchronously.
    cases.sort_by_key(|case| case.reaches == Reaches::Unended);
    let mut failures = Vec::new();
    for case in &cases {
        let stalls = matches!(
            case.response,
            Response::Problem(408, _) | Response::BareOrTimeout
        );
        let gateway = if stalls { &short_timeouts } else { &gateway };
        // In one write, and in many, of which the gateway may read several at once.
        for pieces in [vec![&case.bytes[..]], split(&case.bytes)] {
            let (responses, requests) = observe(gateway, &upstream, &pieces).await;
            if let Err(failure) = check(case, &responses, &requests) {
                failures.push(format!(
                    "{} ({} pieces): {failure}",
                    case.name,
                    pieces.len()
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} checks failed:\n{}",
        failures.len(),
        2 * cases.len(),
        failures.join("\n")
    );
}

/// Splits a request into pieces of seven bytes. A large one stays whole to save time.
fn split(bytes: &[u8]) -> Vec<&[u8]> {
    if bytes.len() > 1000 {
        vec![bytes]
    } else {
        bytes.chunks(7).collect()
    }
}

/// Returns the responses until the connection closed, and the requests that the upstream got.
async fn observe(
    gateway: &Gateway,
    upstream: &Upstream,
    pieces: &[&[u8]],
) -> (Vec<Message>, Vec<Message>) {
    let mut caller = gateway.connect().await;
    for piece in pieces {
        caller.write(piece).await;
        tokio::task::yield_now().await;
    }
    let mut responses = Vec::new();
    while let Some(response) = within_timeout(caller.next_response()).await {
        responses.push(response);
    }
    (responses, upstream.take_requests().await)
}

fn check(case: &Case, responses: &[Message], requests: &[Message]) -> Result<(), String> {
    let actual: Vec<(u16, Option<String>)> = responses
        .iter()
        .map(|response| (response.status(), response.field("x-proxy-error")))
        .collect();
    let problem = |status, reason: &str| (status, Some(reason.to_owned()));
    let expected = match case.response {
        Response::BareOrTimeout if actual == [(400, None)] => actual.clone(),
        Response::BareOrTimeout => vec![problem(408, "request_timeout")],
        Response::Problem(status, reason) => vec![problem(status, reason)],
        Response::Bare(status) => vec![(status, None)],
        Response::Passed(count) => vec![(200, None); count],
        Response::PassedThen(status) => vec![(200, None), problem(status, "bad_request")],
        Response::PassedThenBare(status) => vec![(200, None), (status, None)],
    };
    if actual != expected {
        return Err(format!(
            "responded {actual:?} instead of {expected:?}, upstream got {:?}",
            texts(requests)
        ));
    }
    if let Response::Problem(status, reason) = case.response {
        responses[0].problem(status, reason);
    }
    match &case.reaches {
        Reaches::Nothing if requests.is_empty() => Ok(()),
        Reaches::Unended if requests.iter().all(|request| !request.complete) => Ok(()),
        Reaches::Requests(expected) if requests.len() == expected.len() => requests
            .iter()
            .zip(expected)
            .try_for_each(|(request, (line, body, fields))| same(request, line, body, fields)),
        expected => Err(format!(
            "the upstream got {:?} instead of {expected:?}",
            texts(requests)
        )),
    }
}

fn texts(requests: &[Message]) -> Vec<String> {
    let text = |request: &Message| {
        String::from_utf8_lossy(&[&request.head[..], &request.framed].concat()).into_owned()
    };
    requests
        .iter()
        .map(|request| text(request).chars().take(2000).collect())
        .collect()
}

fn same(request: &Message, line: &str, body: &str, fields: &[&str]) -> Result<(), String> {
    let names: BTreeSet<String> = request.names().into_iter().collect();
    let extra: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !ALWAYS.contains(name))
        .collect();
    // No repeated name, one framing, no trailers.
    let single = names.len() == request.names().len();
    let framed_once = !(request.has("content-length") && request.has("transfer-encoding"));
    let no_trailers =
        !request.has("transfer-encoding") || request.framed.ends_with(b"\r\n0\r\n\r\n");
    let valid = request.line() == line
        && request.text() == body
        && request.complete
        && extra == fields
        && single
        && framed_once
        && no_trailers
        && request.field("citrix-customerid").as_deref() == Some("acme");
    let got = texts(std::slice::from_ref(request));
    if valid {
        Ok(())
    } else {
        Err(format!(
            "the upstream got {got:?} instead of {line} with {body:?} and {fields:?}"
        ))
    }
}
