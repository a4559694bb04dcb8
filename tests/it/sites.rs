//! The site of a customer: looked up for services that require it, and activated if it is frozen
//! (interface §3.1, §4.4).

use std::time::Duration;

use citrix_emulator::{EmulatedCustomer, Options};
use futures_util::future::join_all;

use crate::harness::{
    Cloud, Gateway, Message, OK, SITE, TOKEN, TokenEndpoint, Upstream, get, get_with, wait_until,
};

const MACHINES: &str = "/cvad/manage/Machines?limit=2&t=+%23~";

fn json(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

fn me(sites: &[&str]) -> Vec<u8> {
    let sites: Vec<String> = sites
        .iter()
        .map(|id| format!(r#"{{"Id":"{id}","Name":"cloudxdsite"}}"#))
        .collect();
    json(&format!(
        r#"{{"UserId":"u","Customers":[{{"Id":"acme","Sites":[{}]}}]}}"#,
        sites.join(",")
    ))
}

fn is_site_lookup(request: &Message) -> bool {
    request.line() == "GET /cvad/manage/me HTTP/1.1"
}

/// Returns an upstream that lists these sites.
async fn with_sites(sites: &'static [&'static str]) -> Upstream {
    Upstream::scripted_by_request(move |_, request| {
        if is_site_lookup(request) {
            me(sites)
        } else {
            OK.into()
        }
    })
    .await
}

#[tokio::test]
async fn site_is_looked_up_once_and_sent_with_each_cvad_request() {
    let citrix = with_sites(&[SITE]).await;
    let gateway = Gateway::in_front_of(&citrix)
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "3")
        .start()
        .await;
    let responses = join_all((0..20).map(|_| gateway.raw(get(MACHINES)))).await;
    assert!(responses.iter().all(|response| response.status() == 200));
    let lookup = citrix.request().await;
    assert!(is_site_lookup(&lookup), "{lookup:?}");
    assert_eq!(
        lookup.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    assert_eq!(lookup.field("citrix-customerid").as_deref(), Some("acme"));
    assert_eq!(lookup.field("accept").as_deref(), Some("application/json"));
    assert!(lookup.has("citrix-transactionid") && !lookup.has("citrix-instanceid"));
    for _ in 0..20 {
        let request = citrix.request().await;
        assert_eq!(request.line(), format!("GET {MACHINES} HTTP/1.1"));
        assert_eq!(request.field("citrix-instanceid").as_deref(), Some(SITE));
    }
    citrix.assert_no_more_requests().await;
}

#[tokio::test]
async fn site_is_found_in_any_notation_of_the_response() {
    for body in [
        format!(r#"{{"customers":[{{"id":"acme","sites":[{{"id":"{SITE}"}}]}}]}}"#),
        format!(
            "\u{feff}{{\"Customers\":[{{\"Id\":\"acme\",\"Sites\":[{{\"Id\":\"{SITE}\"}}]}}]}}"
        ),
    ] {
        let citrix = Upstream::scripted_by_request(move |_, request| {
            if is_site_lookup(request) {
                json(&body)
            } else {
                OK.into()
            }
        })
        .await;
        let gateway = Gateway::in_front_of(&citrix).start().await;
        assert_eq!(gateway.raw(get(MACHINES)).await.status(), 200);
        citrix.request().await;
        let request = citrix.request().await;
        assert_eq!(request.field("citrix-instanceid").as_deref(), Some(SITE));
    }
}

#[tokio::test]
async fn site_lookup_is_skipped_if_unneeded_or_configured() {
    let citrix = with_sites(&[SITE]).await;
    let automatic = Gateway::in_front_of(&citrix).start().await;
    let none = Gateway::in_front_of(&citrix)
        .with("[citrix]\ninstance_id = ''")
        .start()
        .await;
    let fixed = Gateway::in_front_of(&citrix)
        .with(&format!("[citrix]\ninstance_id = '{SITE}'"))
        .start()
        .await;
    let with_site = get_with(MACHINES, "Citrix-InstanceId: caller\r\n");
    for (gateway, request, sent) in [
        (&automatic, get("/systemlog/records"), None),
        (&automatic, get("/cvad/manage/Sites"), None),
        (&automatic, with_site, Some("caller")),
        (&none, get(MACHINES), None),
        (&fixed, get(MACHINES), Some(SITE)),
    ] {
        assert_eq!(gateway.raw(&request).await.status(), 200);
        assert_eq!(
            citrix.request().await.field("citrix-instanceid").as_deref(),
            sent,
            "{request}"
        );
    }
    citrix.assert_no_more_requests().await;
}

#[tokio::test]
async fn several_sites_return_an_error_that_lists_them() {
    let citrix = with_sites(&["s-1", "s-2"]).await;
    let gateway = Gateway::in_front_of(&citrix).start().await;
    for _ in 0..3 {
        let problem = gateway.raw(get(MACHINES)).await.problem(400, "bad_request");
        let detail = problem["detail"].as_str().unwrap();
        for part in ["acme", "s-1, s-2", "Citrix-InstanceId", "instance_id"] {
            assert!(detail.contains(part), "{detail}");
        }
    }
    assert!(is_site_lookup(&citrix.request().await));
    citrix.assert_no_more_requests().await;
    assert_eq!(
        gateway
            .raw(get_with(MACHINES, "Citrix-InstanceId: s-2\r\n"))
            .await
            .status(),
        200
    );
    assert_eq!(gateway.raw(get("/cvad/manage/me")).await.status(), 200);
}

#[tokio::test]
async fn failed_site_lookup_forwards_the_request_without_a_site() {
    const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nmarker";
    let citrix = Upstream::responding(FORBIDDEN).await;
    let gateway = Gateway::in_front_of(&citrix).start().await;
    for _ in 0..3 {
        let response = gateway.raw(get(MACHINES)).await;
        assert_eq!(
            (response.status(), response.text().as_str()),
            (403, "marker")
        );
    }
    assert!(is_site_lookup(&citrix.request().await));
    for _ in 0..3 {
        assert!(!citrix.request().await.has("citrix-instanceid"));
    }
    citrix.assert_no_more_requests().await;
}

#[tokio::test]
async fn site_lookup_with_a_revoked_token_is_repeated_with_a_new_one() {
    let citrix = Upstream::scripted_by_request(|_, request| {
        let stale = request.field("authorization") == Some(format!("CwsAuth Bearer={TOKEN}1"));
        match (stale, is_site_lookup(request)) {
            (true, _) => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into(),
            (false, true) => me(&[SITE]),
            (false, false) => OK.into(),
        }
    })
    .await;
    let gateway = Gateway::in_front_of(&citrix).start().await;
    assert_eq!(gateway.raw(get(MACHINES)).await.status(), 200);
    assert_eq!(gateway.logins.count(), 2);
    assert!(is_site_lookup(&citrix.request().await) && is_site_lookup(&citrix.request().await));
    assert_eq!(
        citrix.request().await.field("citrix-instanceid").as_deref(),
        Some(SITE)
    );
}

#[tokio::test]
async fn missing_token_is_reported_instead_of_a_missing_site() {
    let citrix = with_sites(&[SITE]).await;
    let gateway = Gateway::in_front_of(&citrix)
        .with("[token]\nstartup_wait = '10ms'")
        .logging_in_at(TokenEndpoint::rejecting().await)
        .start()
        .await;
    gateway
        .raw(get(MACHINES))
        .await
        .problem(503, "token_unavailable");
    citrix.assert_no_more_requests().await;
}

/// Returns an upstream whose site is frozen.
async fn frozen() -> Upstream {
    Upstream::scripted_by_request(|_, request| {
        if request.line().starts_with("POST /resourceprovider/") {
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".into()
        } else {
            "HTTP/1.1 530 Site Frozen\r\nRetry-After: 1\r\nContent-Length: 6\r\n\r\nmarker".into()
        }
    })
    .await
}

#[tokio::test]
async fn frozen_site_is_activated_once_and_callers_get_503_with_retry_after() {
    let citrix = frozen().await;
    let gateway = Gateway::in_front_of(&citrix).start().await;
    for _ in 0..3 {
        let response = gateway.raw(get("/monitorodata/Machines")).await;
        response.problem(503, "site_frozen");
        assert_eq!(response.field("retry-after").as_deref(), Some("30"));
        assert!(!response.text().contains("marker"));
    }
    // Each request was forwarded, with one activation among them.
    let mut requests = Vec::new();
    for _ in 0..4 {
        requests.push(citrix.request().await);
    }
    citrix.assert_no_more_requests().await;
    let (activations, tried): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.line().starts_with("POST"));
    assert_eq!((activations.len(), tried.len()), (1, 3));
    let activation = activations[0];
    assert_eq!(
        activation.line(),
        "POST /resourceprovider/acme/site/activation?customerId=acme HTTP/1.1"
    );
    assert_eq!(activation.field("content-length").as_deref(), Some("0"));
    assert_eq!(
        activation.field("authorization"),
        Some(format!("CwsAuth Bearer={TOKEN}1"))
    );
    assert_eq!(
        activation.field("citrix-customerid").as_deref(),
        Some("acme")
    );
    let errors = "citrix_auth_proxy_errors_total{reason=\"site_frozen\"} 3";
    assert!(gateway.metrics().await.contains(errors));
}

#[tokio::test]
async fn frozen_site_at_lookup_is_activated() {
    let citrix = frozen().await;
    let gateway = Gateway::in_front_of(&citrix).start().await;
    gateway.raw(get(MACHINES)).await.problem(503, "site_frozen");
    assert_eq!(
        citrix.request().await.line(),
        "GET /cvad/manage/me HTTP/1.1"
    );
    let (first, second) = (citrix.request().await.line(), citrix.request().await.line());
    let activation = "POST /resourceprovider/acme/site/activation?customerId=acme HTTP/1.1";
    assert!(
        first == activation || second == activation,
        "{first}, {second}"
    );
}

#[tokio::test]
async fn request_without_site_reaches_an_emulator_that_requires_one() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    assert_eq!(
        gateway
            .raw(get("/cvad/manage/Machines?limit=2"))
            .await
            .status(),
        200
    );
    assert_eq!(cloud.emulator.stats().missing_instance_id, 0);
}

#[tokio::test]
async fn several_sites_and_no_site_return_different_responses() {
    for (sites, status) in [(vec!["s-1", "s-2"], 400), (Vec::new(), 200)] {
        let customer = EmulatedCustomer {
            sites: sites.into_iter().map(str::to_owned).collect(),
            ..EmulatedCustomer::default()
        };
        let cloud = Cloud::with(Options {
            customer,
            ..Options::default()
        })
        .await;
        let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
        let response = gateway.raw(get("/cvad/manage/Machines?limit=2")).await;
        assert_eq!(response.status(), status, "{}", response.text());
    }
}

#[tokio::test]
async fn request_activates_a_frozen_emulator_site() {
    let cloud = Cloud::start().await;
    cloud.emulator.freeze(Duration::from_millis(1));
    let gateway = Gateway::in_front_of_cloud(&cloud).start().await;
    let machines = || {
        gateway.raw(get_with(
            MACHINES,
            &format!("Citrix-InstanceId: {}\r\n", cloud.emulator.site_id()),
        ))
    };
    machines().await.problem(503, "site_frozen");
    wait_until("the site is active", || async {
        machines().await.status() == 200
    })
    .await;
}

#[tokio::test]
async fn frozen_status_of_an_upstream_outside_citrix_is_passed() {
    let citrix = Upstream::responding(OK).await;
    let other = frozen().await;
    let route = format!("[[route]]\nprefix = '/other'\nupstream = '{}'", other.url());
    let gateway = Gateway::in_front_of(&citrix).with(&route).start().await;
    let response = gateway.raw(get("/other/x")).await;
    assert_eq!(
        (response.status(), response.text().as_str()),
        (530, "marker")
    );
    assert_eq!(citrix.connections(), 0);
}
