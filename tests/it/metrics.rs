//! `/metrics` (interface §5): names, types, labels and syntax after traffic of every kind.

mod exposition;
mod lints;

use std::collections::{BTreeMap, BTreeSet};

use self::exposition::{Exposition, Kind};
use crate::harness::pki::{TestCa, TlsFiles};
use crate::harness::{Gateway, OK, Upstream, get, get_with, wait_until};

const PREFIX: &str = "citrix_auth_proxy_";

/// The metrics of interface §5 with their labels.
const EXPECTED: &[(&str, Kind, &[&str])] = &[
    (
        "requests_total",
        Kind::Counter,
        &["route", "method", "code", "caller"],
    ),
    ("request_duration_seconds", Kind::Histogram, &["route"]),
    ("upstream_duration_seconds", Kind::Histogram, &["route"]),
    ("overhead_seconds", Kind::Histogram, &[]),
    ("in_flight_requests", Kind::Gauge, &[]),
    ("errors_total", Kind::Counter, &["reason"]),
    ("policy_would_deny_total", Kind::Counter, &["caller"]),
    ("retired_addresses_total", Kind::Counter, &["route"]),
    ("replays_total", Kind::Counter, &["route", "outcome"]),
    ("queue_depth", Kind::Gauge, &["route"]),
    ("queue_wait_seconds", Kind::Histogram, &["route"]),
    ("collapsed_total", Kind::Counter, &["route"]),
    ("fleet_turns_total", Kind::Counter, &["route", "by"]),
    ("upstream_connections", Kind::Gauge, &["state"]),
    ("connections", Kind::Gauge, &[]),
    ("tls_handshake_failures_total", Kind::Counter, &["reason"]),
    ("intercepted_connections_total", Kind::Counter, &["outcome"]),
    ("token_expiry_timestamp_seconds", Kind::Gauge, &["customer"]),
    (
        "token_next_refresh_timestamp_seconds",
        Kind::Gauge,
        &["customer"],
    ),
    (
        "token_refreshes_total",
        Kind::Counter,
        &["customer", "outcome"],
    ),
    ("token_refresh_duration_seconds", Kind::Histogram, &[]),
    ("token_consecutive_failures", Kind::Gauge, &["customer"]),
    (
        "upstream_rejections_total",
        Kind::Counter,
        &["customer", "code"],
    ),
    (
        "upstream_rejected_since_timestamp_seconds",
        Kind::Gauge,
        &["customer"],
    ),
    ("config_reloads_total", Kind::Counter, &["outcome"]),
    ("build_info", Kind::Gauge, &["version", "commit"]),
];

/// Metrics that the traffic of these tests does not create.
const CONDITIONAL: &[&str] = &[
    "spans_total",
    // With a store.
    "fleet_joined",
    "fleet_replicas",
    "fleet_key_differs",
    "fleet_store_seconds",
    "fleet_leases_lost_total",
    "fleet_tokens_total",
    "fleet_gates_total",
];

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str =
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
const CUT: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nno chunk\r\n";

/// Returns a gateway after requests of every kind, and the upstreams that must stay alive.
async fn after_traffic() -> (Gateway, Upstream, Upstream) {
    let upstream = Upstream::scripted_by_request(|number, request| {
        match request.line().split(' ').nth(1).unwrap() {
            "/refused" if number == 1 => UNAUTHORIZED.into(),
            "/busy" => BUSY.into(),
            "/chunked" => CHUNKED.into(),
            "/broken" => Vec::new(),
            _ => OK.into(),
        }
    })
    .await;
    let held = Upstream::manual().await;
    let authority = TestCa::new("authority");
    let files = TlsFiles::new(&authority.issue("localhost", &["localhost"]));
    let route = format!(
        "[[route]]\nprefix = \"/held\"\nupstream = \"{}\"\nmax_concurrent = 1",
        held.url()
    );
    let caller = "[[caller]]\nname = \"here\"\nnetworks = [\"127.0.0.0/8\"]\npaths = [\"/x\"]\nmode = \"observe\"";
    let gateway = Gateway::in_front_of(&upstream)
        .with(caller)
        .with("[fleet]\nreplicas = 1")
        .with(&files.toml("address = \"127.0.0.1:0\""))
        .with(&route)
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2")
        .start()
        .await;
    for (path, status) in [
        ("/refused", 200),
        ("/busy", 429),
        ("/chunked", 200),
        ("/broken", 502),
        ("/Citrix/Monitor/OData/v4/Data/Machines", 200),
        ("/classic/unknown/x", 404),
        ("http://foreign.example/", 421),
    ] {
        assert_eq!(gateway.raw(get(path)).await.status(), status, "{path}");
    }
    gateway.raw(get("/x").replace("GET", "BREW")).await;
    gateway
        .raw(get_with("/x", "Citrix-CustomerId: other\r\n"))
        .await
        .problem(403, "customer_forbidden");
    // One waits for the other, and both callers disconnect.
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    first.write(get("/held")).await;
    let mut wire = held.connection().await;
    wire.request().await;
    second.write(get("/held")).await;
    let waits = || async {
        gateway
            .metrics()
            .await
            .contains("queue_depth{route=\"/held\"} 1\n")
    };
    wait_until("the second waits", waits).await;
    drop((second, first));
    let idle = || async {
        gateway
            .metrics()
            .await
            .contains("queue_wait_seconds_count{route=\"/held\"} 1\n")
    };
    wait_until("no request waits", idle).await;
    (gateway, upstream, held)
}

async fn exposition() -> Exposition {
    let (gateway, ..) = after_traffic().await;
    Exposition::parse(&gateway.metrics().await)
}

#[tokio::test]
async fn every_expected_metric_has_exactly_its_labels() {
    let exposition = exposition().await;
    for &(name, kind, labels) in EXPECTED {
        let Some(family) = exposition.families.get(&format!("{PREFIX}{name}")) else {
            assert!(CONDITIONAL.contains(&name), "{name} is missing");
            continue;
        };
        assert_eq!(family.kind, kind, "{name}");
        let labels: BTreeSet<String> = labels.iter().map(|&label| label.to_owned()).collect();
        for series in &family.series {
            let own: BTreeSet<String> = series
                .labels
                .keys()
                .filter(|&name| name != "le")
                .cloned()
                .collect();
            assert_eq!(own, labels, "{name}");
        }
    }
    for name in [
        "cpu_seconds_total",
        "open_fds",
        "resident_memory_bytes",
        "start_time_seconds",
    ] {
        assert!(
            exposition.families.contains_key(&format!("process_{name}")),
            "{name}"
        );
    }
}

#[tokio::test]
async fn metrics_document_lists_every_metric_with_type_and_labels() {
    let exposition = exposition().await;
    let documented = documented();
    for (name, family) in &exposition.families {
        let Some(name) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let labels: BTreeSet<String> = family
            .series
            .iter()
            .flat_map(|series| series.labels.keys())
            .filter(|&label| label != "le")
            .cloned()
            .collect();
        let expected = (family.kind.name().to_owned(), labels);
        assert_eq!(
            documented.get(name),
            Some(&expected),
            "docs/metrics.md: {name}"
        );
    }
    for name in documented.keys() {
        let exposed = exposition.families.contains_key(&format!("{PREFIX}{name}"));
        assert!(
            exposed || CONDITIONAL.contains(&name.as_str()),
            "docs/metrics.md lists {name}, but the gateway does not expose it"
        );
    }
}

/// Returns the rows of the metric tables: name, type and labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    let mut in_table = false;
    for line in include_str!("../../docs/metrics.md").lines() {
        in_table = line.starts_with('|') && (in_table || line.starts_with("| metric | type |"));
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, name, kind, labels, ..] = cells[..]
            && in_table
            && name.starts_with('`')
        {
            // The text after a colon lists label values.
            let labels = labels.split(':').next().unwrap_or_default();
            let labels = labels
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect();
            found.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), labels));
        }
    }
    found
}

#[tokio::test]
async fn every_kind_of_response_is_counted_when_its_last_byte_arrives() {
    let upstream = Upstream::scripted_by_request(|_, request| {
        let kind = request.line().split(['/', ' ']).nth(2).unwrap().to_owned();
        if kind == "cut" {
            CUT
        } else if kind == "chunked" {
            CHUNKED
        } else {
            OK
        }
        .into()
    });
    let upstream = upstream.await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let count = async |code: &str, method: &str| -> u64 {
        let exposition = Exposition::parse(&gateway.metrics().await);
        let series = &exposition.families[&format!("{PREFIX}requests_total")].series;
        let matches_labels = |labels: &BTreeMap<String, String>| {
            labels["code"] == code && labels["method"] == method
        };
        series
            .iter()
            .filter(|series| matches_labels(&series.labels))
            .map(|series| series.value.parse::<u64>().unwrap())
            .sum()
    };
    let head = get("/head").replace("GET", "HEAD");
    let mut ok = 0;
    for round in 1..=5 {
        for path in ["/known", "/chunked", "/cut"] {
            gateway.raw(get(path)).await;
            ok += 1;
            assert_eq!(count("200", "GET").await, ok, "{path}");
        }
        gateway.raw_head(&head).await;
        assert_eq!(count("200", "HEAD").await, round);
        gateway.raw(get("http://foreign.example/")).await;
        assert_eq!(count("421", "GET").await, round);
        let mut http2 = gateway.http2().await;
        let request = http::Request::get(gateway.url("/chunked"))
            .body(())
            .unwrap();
        let (response, _) = http2.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        while let Some(piece) = body.data().await {
            piece.unwrap();
        }
        ok += 1;
        assert_eq!(count("200", "GET").await, ok, "HTTP/2");
    }
}
