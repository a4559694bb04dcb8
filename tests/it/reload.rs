//! Reload (interface §3.2): changes apply at once,
//! and unchanged parts keep their state. The process tests cover file watching.

use crate::callers::block as caller;
use crate::harness::{
    EgressProxy, Gateway, Message, OK, TOKEN, TokenEndpoint, Upstream, Wire, get, get_with,
    wait_until,
};

const KEPT: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Returns a `[[customer]]` block with client, token endpoint and API gateway.
fn block(id: &str, client: &str, logins: &TokenEndpoint, api: &Upstream) -> String {
    format!(
        "[[customer]]\ncustomer_id = '{id}'\nclient_id = '{client}'\nclient_secret = {{ env = 'SECRET' }}\n\
         api_url = '{}'\ntoken_url = '{}'\n",
        api.url(),
        logins.url(),
    )
}

async fn request_as(gateway: &Gateway, customer: &str) -> Message {
    gateway
        .raw(get_with("/", &format!("Citrix-CustomerId: {customer}\r\n")))
        .await
}

async fn wait_until_ready(gateway: &Gateway) {
    wait_until("every customer has a token", || async {
        gateway.admin(get("/readyz")).await.status() == 200
    })
    .await;
}

async fn status_on(wire: &mut Wire) -> u16 {
    wire.write(KEPT).await;
    wire.response().await.status()
}

#[tokio::test]
async fn reload_of_customers_keeps_token_and_connections_of_unchanged_ones() {
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let (new_upstream, new_logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let acme = block("acme", "client", &logins, &upstream);
    let removed = block(
        "removed",
        "client",
        &TokenEndpoint::granting().await,
        &upstream,
    );
    let mut gateway = Gateway::for_customers(&format!("{acme}{removed}"))
        .set("SECRET", "s3cret")
        .start()
        .await;
    wait_until_ready(&gateway).await;
    assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    assert_eq!(request_as(&gateway, "removed").await.status(), 200);
    assert_eq!(upstream.connections(), 1);

    let changes = gateway.reload(&format!(
        "{}{acme}",
        block("new", "client", &new_logins, &new_upstream)
    ));
    assert_eq!(
        (changes.added, changes.removed),
        (
            vec!["customer new".to_owned()],
            vec!["customer removed".to_owned()]
        )
    );
    // The new customer waits for its first token, as at startup.
    assert_eq!(request_as(&gateway, "new").await.status(), 200);
    assert_eq!(new_logins.count(), 1);
    request_as(&gateway, "removed")
        .await
        .problem(403, "customer_forbidden");
    assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    assert_eq!((logins.count(), upstream.connections()), (1, 1));
    let metrics = gateway.metrics().await;
    assert!(
        !metrics.contains("customer=\"removed\"") && metrics.contains("customer=\"new\""),
        "{metrics}"
    );
    assert!(
        !gateway
            .admin(get("/readyz"))
            .await
            .text()
            .contains("removed")
    );
}

#[tokio::test]
async fn changed_client_id_logs_in_again() {
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let mut gateway = Gateway::for_customers(&block("acme", "client", &logins, &upstream))
        .set("SECRET", "s3cret")
        .start()
        .await;
    assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    for (client, token) in [("other", 2), ("other", 2), ("client", 3)] {
        gateway.reload(&block("acme", client, &logins, &upstream));
        upstream.take_requests().await;
        assert_eq!(request_as(&gateway, "acme").await.status(), 200);
        let sent = upstream.request().await.field("authorization");
        assert_eq!(
            sent,
            Some(format!("CwsAuth Bearer={TOKEN}{token}")),
            "{client}"
        );
    }
    let metrics = gateway.metrics().await;
    let generations = metrics
        .lines()
        .filter(|line| line.starts_with("citrix_auth_proxy_token_generation"));
    assert_eq!(
        generations.collect::<Vec<_>>(),
        ["citrix_auth_proxy_token_generation{customer=\"acme\"} 1"]
    );
}

#[tokio::test]
async fn changed_secret_is_verified_while_the_old_token_is_used() {
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let citrix = |secret: &str| {
        block("acme", "client", &logins, &upstream)
            .replace("{ env = 'SECRET' }", &format!("'{secret}'"))
    };
    let mut gateway = Gateway::for_customers(&citrix("one")).start().await;
    assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    logins.stall();
    gateway.reload(&citrix("two"));
    logins.wait_for_logins(2).await;
    assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    logins.grant();
    wait_until("a token of the new secret is used", || async {
        request_as(&gateway, "acme").await;
        upstream.take_requests().await.iter().any(|request| {
            request
                .field("authorization")
                .is_some_and(|token| token.ends_with(&format!("{TOKEN}2")))
        })
    })
    .await;
}

#[tokio::test]
async fn request_in_progress_keeps_its_configuration() {
    let upstream = Upstream::manual().await;
    let mut gateway = Gateway::in_front_of(&upstream)
        .with(&format!(
            "[[route]]\nprefix = '/old'\nupstream = '{}'",
            upstream.url()
        ))
        .start()
        .await;
    let mut caller = gateway.connect().await;
    caller
        .write("GET /old/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let other = Upstream::responding(OK).await;
    let changes = gateway.reload(&format!(
        "[[route]]\nprefix = '/new'\nupstream = '{}'",
        other.url()
    ));
    assert_eq!(
        (changes.added, changes.removed),
        (vec!["route /new".to_owned()], vec!["route /old".to_owned()])
    );
    assert_eq!(gateway.raw(get("/new/x")).await.status(), 200);
    wire.write(OK).await;
    assert_eq!(caller.response().await.status(), 200);
    // The next request on the connection uses the new configuration.
    caller
        .write("GET /new/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(caller.response().await.status(), 200);
    assert_eq!(other.connections(), 1);
}

#[tokio::test]
async fn changed_callers_apply_at_once_on_open_connections() {
    let upstream = Upstream::responding(OK).await;
    let mut gateway = Gateway::in_front_of(&upstream).start().await;
    let mut wire = gateway.connect().await;
    assert_eq!(status_on(&mut wire).await, 200);
    gateway.reload(&caller("splunk", "one", ""));
    assert_eq!(status_on(&mut wire).await, 401);
    let with_key = |secret: &str| get_with("/", &format!("X-Api-Key: {secret}\r\n"));
    assert_eq!(gateway.raw(with_key("one")).await.status(), 200);
    let changes = gateway.reload(&caller("splunk", "two", ""));
    assert_eq!(changes.changed, ["caller splunk"]);
    assert_eq!(gateway.raw(with_key("one")).await.status(), 401);
    assert_eq!(gateway.raw(with_key("two")).await.status(), 200);
    gateway.reload("");
    assert_eq!(status_on(&mut wire).await, 200);
}

#[tokio::test]
async fn queued_request_keeps_its_position_across_a_reload() {
    let upstream = Upstream::manual().await;
    let route = |limit: usize| {
        format!(
            "[[route]]\nprefix = '/one'\nupstream = '{}'\nmax_concurrent = {limit}\n",
            upstream.url()
        )
    };
    let mut gateway = Gateway::in_front_of(&upstream)
        .with(&route(1))
        .start()
        .await;
    let request = "GET /one/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut first = gateway.connect().await;
    first.write(request).await;
    let mut wire = upstream.connection().await;
    wire.request().await;
    let mut second = gateway.connect().await;
    second.write(request).await;
    let waits = || async {
        gateway
            .metrics()
            .await
            .contains("queue_depth{route=\"/one\"} 1\n")
    };
    wait_until("the second waits", waits).await;
    gateway.reload(&format!("{}[limits]\nmax_in_flight = 7\n", route(1)));
    // A new request meets the same limit.
    let mut third = gateway.connect().await;
    third.write(request).await;
    let both = || async {
        gateway
            .metrics()
            .await
            .contains("queue_depth{route=\"/one\"} 2\n")
    };
    wait_until("the third waits, too", both).await;
    // In order, on one connection.
    wire.write(OK).await;
    assert_eq!(first.response().await.status(), 200);
    for caller in [&mut second, &mut third] {
        wire.request().await;
        wire.write(OK).await;
        assert_eq!(caller.response().await.status(), 200);
    }
}

#[tokio::test]
async fn changed_trust_roots_apply_and_retire_old_connections() {
    let cloud = crate::harness::Cloud::start().await;
    let other = crate::harness::Cloud::start().await;
    let mut gateway = Gateway::in_front_of_cloud(&cloud)
        .without("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE")
        .with(&format!("[upstream]\nca_file = '{}'", cloud.ca_file()))
        .start()
        .await;
    assert_eq!(gateway_get(&gateway).await, 200);
    let changes = gateway.reload(&format!("[upstream]\nca_file = '{}'", other.ca_file()));
    assert_eq!(changes.keys, ["upstream.ca_file"]);
    assert_eq!(gateway_get(&gateway).await, 502);
    gateway.reload(&format!("[upstream]\nca_file = '{}'", cloud.ca_file()));
    assert_eq!(gateway_get(&gateway).await, 200);
}

async fn gateway_get(gateway: &Gateway) -> u16 {
    gateway.raw(get("/systemlog/records")).await.status()
}

#[tokio::test]
async fn restart_only_keys_are_reported_and_the_rest_is_applied() {
    let upstream = Upstream::responding(OK).await;
    let mut gateway = Gateway::in_front_of(&upstream)
        .with("[log]\nformat = 'json'")
        .start()
        .await;
    let changes = gateway.reload("[log]\nformat = 'text'\n[limits]\nmax_body_bytes = 1\n");
    assert_eq!(
        (changes.restart_required, changes.keys),
        (
            vec!["log.format".to_owned()],
            vec!["limits.max_body_bytes".to_owned()]
        )
    );
    let response = gateway.raw(get_with("/", "Content-Length: 7\r\n")).await;
    response.problem(413, "body_too_large");
}

#[tokio::test]
async fn hundred_reloads_leak_nothing() {
    let (upstream, logins) = (
        Upstream::responding(OK).await,
        TokenEndpoint::granting().await,
    );
    let blocks = |number: usize| {
        block("acme", "client", &logins, &upstream)
            + &block(&format!("customer-{number}"), "client", &logins, &upstream)
            + &format!("[[route]]\nprefix = '/r{number}'\nupstream = 'http://127.0.0.1:9'\n")
    };
    let mut gateway = Gateway::for_customers(&blocks(0))
        .set("SECRET", "s3cret")
        .start()
        .await;
    wait_until_ready(&gateway).await;
    for number in 1..=100 {
        gateway.reload(&blocks(number));
        assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    }
    let shared = gateway.app().shared();
    assert_eq!(shared.published.load().live.credentials.len(), 2);
    let old = std::sync::Arc::downgrade(&shared.published.load_full());
    gateway.reload(&blocks(101));
    // Also by workers that receive no request.
    wait_until("the previous configuration is dropped", || async {
        old.strong_count() == 0
    })
    .await;
    let metrics = gateway.metrics().await;
    let customers = metrics
        .lines()
        .filter(|line| line.contains("token_generation{"))
        .count();
    assert_eq!(customers, 2, "{metrics}");
}

#[tokio::test]
async fn changed_egress_proxy_applies_at_once_and_keeps_the_token() {
    let cloud = crate::harness::Cloud::start().await;
    let first = EgressProxy::tunnelling_to(cloud.emulator.address()).await;
    let second = EgressProxy::tunnelling_to(cloud.emulator.address()).await;
    let through = |proxy: &EgressProxy| format!("[upstream]\nproxy_url = '{}'\n", proxy.url(""));
    let mut gateway = Gateway::behind(&first, &cloud)
        .without("HTTPS_PROXY")
        .with(&through(&first))
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(gateway_get(&gateway).await, 200);
    }
    // The login, and one connection for both requests.
    assert_eq!((first.requests().len(), second.requests().len()), (2, 0));
    assert!(gateway.reload(&through(&first)).unchanged);
    assert_eq!(gateway_get(&gateway).await, 200);
    assert_eq!(first.requests().len(), 2, "the same proxy");
    gateway.reload(&through(&second));
    assert_eq!(gateway_get(&gateway).await, 200);
    assert_eq!((first.requests().len(), second.requests().len()), (2, 1));
}
