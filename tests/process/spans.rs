//! Trace context forwarded to Citrix, trace ids in the access log, and spans received by a
//! collector.

mod collector;
mod exported;

use crate::gateway::Gateway;
use crate::program::Exit;
use testkit::upstream::{OK, Upstream};
use testkit::wire::Message;

/// Trace id of [`PARENT`].
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// A sampled `traceparent` of a caller.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends a request with `fields` and returns the response.
async fn send(gateway: &Gateway, fields: &str) -> Message {
    let mut wire = gateway.connect().await;
    let request =
        format!("GET /x?q=c4nary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    wire.write(request).await;
    wire.response().await
}

/// Returns the trace ids in the access log, in order.
fn logged_trace_ids(exit: &Exit) -> Vec<Option<String>> {
    let log = exit.log();
    let lines = log.iter().filter(|line| line["target"] == "access");
    lines
        .map(|line| line["trace_id"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn without_an_exporter_trace_context_passes_unchanged_and_a_valid_id_is_logged() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-more";
    for (value, state) in [(PARENT, "a=1, b=2"), (later, ""), ("00-NONSENSE", "x")] {
        send(
            &gateway,
            &format!("traceparent: {value}\r\ntracestate: {state}\r\n"),
        )
        .await;
        let request = upstream.request().await;
        assert_eq!(request.field("traceparent").as_deref(), Some(value));
        assert_eq!(request.field("tracestate").as_deref(), Some(state));
    }
    send(&gateway, "").await;
    let request = upstream.request().await;
    assert!(!request.has("traceparent") && !request.has("tracestate"));
    gateway.program.signal("TERM");
    let id = || Some(TRACE.to_owned());
    assert_eq!(
        logged_trace_ids(&gateway.wait().await),
        [id(), id(), None, None]
    );
}
