//! Traces: what is forwarded to Citrix, what the access log has, and what a collector receives.

mod collector;
mod exported;

use crate::gateway::Gateway;
use crate::program::Ended;
use testkit::upstream::{OK, Upstream};
use testkit::wire::Message;

/// What a caller says of its trace.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The response to a request with these fields.
async fn sent(gateway: &Gateway, fields: &str) -> Message {
    let mut wire = gateway.connect().await;
    let request =
        format!("GET /x?q=c4nary HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    wire.write(request).await;
    wire.response().await
}

/// The ids of traces in the access log, in order.
fn logged(ended: &Ended) -> Vec<Option<String>> {
    let log = ended.log();
    let lines = log.iter().filter(|line| line["target"] == "access");
    lines
        .map(|line| line["trace_id"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn without_an_exporter_a_trace_passes_byte_for_byte_and_a_valid_ones_id_is_logged() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-more";
    for (value, state) in [(PARENT, "a=1, b=2"), (later, ""), ("00-NONSENSE", "x")] {
        sent(
            &gateway,
            &format!("traceparent: {value}\r\ntracestate: {state}\r\n"),
        )
        .await;
        let request = upstream.request().await;
        assert_eq!(request.field("traceparent").as_deref(), Some(value));
        assert_eq!(request.field("tracestate").as_deref(), Some(state));
    }
    sent(&gateway, "").await;
    let request = upstream.request().await;
    assert!(!request.has("traceparent") && !request.has("tracestate"));
    gateway.program.signal("TERM");
    let id = || Some(TRACE.to_owned());
    assert_eq!(logged(&gateway.end().await), [id(), id(), None, None]);
}
