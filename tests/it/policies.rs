//! Rules of callers (interface §3.1): methods, paths, customers and limits, enforced
//! or observed.

mod batches;
mod customers;
mod observed;
mod regions;

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;
use http::Request;
use http::uri::PathAndQuery;

use crate::harness::{
    Cloud, Gateway, Message, OK, Plan, SITE, Upstream, get_with, wait_until, within_timeout,
};
use testkit::path_table;
use testkit::servers::first_outside;

/// Returns the block of a caller whose secret is its name.
fn block(name: &str, rules: &str) -> String {
    let hash = hex::encode(digest(&SHA256, name.as_bytes()).as_ref());
    format!("[[caller]]\nname = {name:?}\nsecret_sha256 = {hash:?}\n{rules}\n")
}

fn key(name: &str) -> String {
    format!("X-Api-Key: {name}\r\n")
}

/// Returns the plan of a gateway with a configured site.
fn in_front_of(upstream: &Upstream, blocks: &str) -> Plan {
    Gateway::in_front_of(upstream)
        .set("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", SITE)
        .with(blocks)
}

async fn send_as(gateway: &Gateway, name: &str, line: &str, fields: &str) -> Message {
    let end = "Connection: close\r\n";
    gateway
        .raw(format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\n{end}{}{fields}\r\n",
            key(name)
        ))
        .await
}

/// Returns one caller for each rule of the table.
fn callers_of_the_table() -> String {
    let caller = |(number, rule)| block(&format!("rule{number}"), &format!("paths = [{rule:?}]"));
    path_table::RULES.iter().enumerate().map(caller).collect()
}

/// Asserts that a forwarded path is inside the rule for every kind of server. Returns `true` if one
/// was forwarded.
async fn arrives_inside(upstream: &Upstream, rule: &str, sent: &str) -> bool {
    let arrived = upstream.take_requests().await;
    for request in &arrived {
        let line = request.line();
        let target = line.split(' ').nth(1).unwrap();
        let path = target.split('?').next().unwrap();
        assert_eq!(
            first_outside(&[rule], path),
            None,
            "{sent} arrived as {target} under {rule}"
        );
    }
    !arrived.is_empty()
}

#[tokio::test]
async fn no_path_variant_reaches_what_a_rule_does_not_cover() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream, &callers_of_the_table())
        .start()
        .await;
    let mut refused = 0;
    for (number, rule) in path_table::RULES.iter().enumerate() {
        let name = format!("rule{number}");
        for (path, signs) in path_table::UNAMBIGUOUS {
            let response = send_as(&gateway, &name, &format!("GET {path}"), "").await;
            let arrived = arrives_inside(&upstream, rule, path).await;
            let expected = signs.as_bytes()[number] == b'+';
            assert_eq!(arrived, expected, "{path} under {rule}");
            if !expected {
                response.problem(403, "caller_forbidden");
            }
        }
        for (path, ambiguity) in path_table::AMBIGUOUS {
            let response = send_as(&gateway, &name, &format!("GET {path}"), "").await;
            let arrived = arrives_inside(&upstream, rule, path).await;
            if path.contains('?') {
                // On the wire this is a query.
                assert_eq!(arrived, [0, 3, 5].contains(&number), "{path} under {rule}");
                continue;
            }
            assert!(!arrived, "{path} under {rule}");
            let status = response.status();
            assert!(
                if ambiguity.is_malformed() {
                    status == 400
                } else {
                    status == 403
                },
                "{path}: {status}"
            );
            refused += 1;
        }
    }
    assert!(
        path_table::UNAMBIGUOUS.len() + refused / path_table::RULES.len() > 120,
        "{refused}"
    );
}

#[tokio::test]
async fn emulator_receives_no_request_that_a_rule_does_not_cover() {
    let cloud = Cloud::start().await;
    let gateway = Gateway::in_front_of_cloud(&cloud)
        .set("CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID", SITE)
        .with(&callers_of_the_table())
        .start()
        .await;
    let mut admitted = 0;
    for (number, rule) in path_table::RULES.iter().enumerate() {
        let name = format!("rule{number}");
        let covered = path_table::UNAMBIGUOUS
            .iter()
            .map(|(path, signs)| (*path, signs.as_bytes()[number] == b'+'));
        let others = path_table::AMBIGUOUS
            .iter()
            .filter(|(path, _)| !path.contains('?'));
        for (path, expected) in covered.chain(others.map(|(path, _)| (*path, false))) {
            send_as(&gateway, &name, &format!("GET {path}"), "").await;
            let arrived = cloud.emulator.stats().requests - admitted;
            assert!(arrived <= u64::from(expected), "{path} under {rule}");
            admitted += arrived;
        }
    }
    assert!(admitted > 100, "{admitted}");
}

#[tokio::test]
async fn http2_paths_are_evaluated_like_http1_paths() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(&upstream, &callers_of_the_table())
        .start()
        .await;
    let mut http2 = gateway.http2().await;
    let unambiguous = path_table::UNAMBIGUOUS
        .iter()
        .map(|(path, signs)| (*path, Some(*signs)));
    let ambiguous = path_table::AMBIGUOUS.iter().map(|(path, _)| (*path, None));
    let mut sent = 0;
    for (path, signs) in unambiguous.chain(ambiguous) {
        // Paths the client cannot write, queries, and fragments, which it drops.
        if path.contains(['?', '#'])
            || !path.starts_with('/')
            || PathAndQuery::try_from(path).is_err()
        {
            continue;
        }
        for (number, rule) in path_table::RULES.iter().enumerate() {
            let uri = http::Uri::builder()
                .scheme("http")
                .authority("localhost")
                .path_and_query(path)
                .build();
            let request = Request::get(uri.unwrap()).header("x-api-key", format!("rule{number}"));
            let (response, _) = http2.send_request(request.body(()).unwrap(), true).unwrap();
            let status = within_timeout(response).await.unwrap().status();
            let expected = signs.is_some_and(|signs| signs.as_bytes()[number] == b'+');
            assert_eq!(
                arrives_inside(&upstream, rule, path).await,
                expected,
                "{path} under {rule}"
            );
            assert!(
                expected || matches!(status.as_u16(), 400 | 403),
                "{path} under {rule}: {status}"
            );
            sent += 1;
        }
    }
    assert!(sent > 6 * 120, "{sent}");
}

#[tokio::test]
async fn every_valid_path_is_forwarded_without_rules() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(
        &upstream,
        &(block("free", "") + &block("bound", "methods = ['GET']")),
    )
    .start()
    .await;
    for path in [
        "/cvad/manage/Machines/../x",
        "/cvad//manage",
        "/x;y",
        "/monitorodata\\Applications",
        "/a%2Fb",
    ] {
        let response = send_as(&gateway, "free", &format!("GET {path}"), "").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(
            upstream.request().await.line(),
            format!("GET {path} HTTP/1.1")
        );
        // Any rule: such a path could hide a customer or a batch.
        send_as(&gateway, "bound", &format!("GET {path}"), "")
            .await
            .problem(403, "caller_forbidden");
    }
    upstream.assert_no_more_requests().await;
}

/// Rejected requests: request line, fields, status, reason, and a part of the detail.
const REJECTIONS: &[(&str, &str, u16, &str, &str)] = &[
    (
        "POST /monitorodata",
        "Content-Length: 0\r\n",
        403,
        "caller_forbidden",
        "may not use this method (methods)",
    ),
    (
        "HEAD2 /monitorodata",
        "",
        403,
        "caller_forbidden",
        "may not use this method (methods)",
    ),
    (
        "GET /cvad/manage/me",
        "",
        403,
        "caller_forbidden",
        "may not use this path (paths)",
    ),
    (
        "GET /MonitorOData/x",
        "",
        403,
        "caller_forbidden",
        "differs from the caller's paths in case",
    ),
    (
        "GET /monitorodata/%78/../y",
        "",
        403,
        "caller_forbidden",
        "a segment of only dots",
    ),
    (
        "GET /monitorodata/%zz",
        "",
        400,
        "bad_request",
        "an invalid percent escape",
    ),
    (
        "GET /monitorodata",
        "Citrix-CustomerId: contoso\r\n",
        403,
        "customer_forbidden",
        "none that this caller may use",
    ),
    // Rejections that need no rule are unchanged.
    (
        "TRACE /monitorodata",
        "",
        400,
        "bad_request",
        "is not supported",
    ),
    ("GET /classic/none/acme/x", "", 404, "no_route", "no route"),
    // Otherwise the response would reveal which customers have a host.
    (
        "GET /direct/contoso/x",
        "",
        403,
        "customer_forbidden",
        "no credential",
    ),
    (
        "GET /classic/registry/contoso/x",
        "",
        403,
        "customer_forbidden",
        "no credential",
    ),
];

#[tokio::test]
async fn rejection_names_the_rule_but_not_what_it_allows() {
    let upstream = Upstream::responding(OK).await;
    let rules = "methods = ['GET', 'OPTIONS']\npaths = ['/s3cret/**', '/monitorodata/**']\ncustomers = ['acme']";
    let gateway = in_front_of(&upstream, &block("a", rules)).start().await;
    for &(line, fields, status, reason, cause) in REJECTIONS {
        let problem = send_as(&gateway, "a", line, fields)
            .await
            .problem(status, reason);
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains(cause) && !detail.contains("s3cret"),
            "{line}: {detail}"
        );
    }
    upstream.assert_no_more_requests().await;
    for line in [
        "GET /monitorodata/Machines?$filter=a/../b",
        "OPTIONS /s3cret",
        "GET /monitorodata",
    ] {
        assert_eq!(
            send_as(&gateway, "a", line, "").await.status(),
            200,
            "{line}"
        );
        assert!(upstream.request().await.line().starts_with(line));
    }
}

#[tokio::test]
async fn interface_4_3_rules_evaluate_the_current_address_with_its_prefix() {
    let upstream = Upstream::responding(OK).await;
    let route = format!(
        "[[route]]\nprefix = '/reports'\nupstream = '{}/cvad/manage'\n",
        upstream.url()
    );
    let blocks = block("odata", "paths = ['/monitorodata/**']")
        + &block("daas", "paths = ['/cvad/manage/Machines/**']")
        + &block("old", "paths = ['/cvadapis/**', '/Citrix/**']")
        + &block("reports", "paths = ['/reports/*']")
        + &route;
    let gateway = in_front_of(&upstream, &blocks).start().await;
    let (odata, daas) = (
        "/Citrix/Monitor/OData/v4/Data/Machines",
        format!("/cvadapis/{SITE}/Machines/1"),
    );
    for (name, path, arrives) in [
        ("odata", odata, Some("/monitorodata/Machines")),
        ("odata", &daas, None),
        ("daas", &daas, Some("/cvad/manage/Machines/1")),
        (
            "daas",
            &format!("/citrix/orchestration/api/acme/{SITE}/Machines"),
            Some("/cvad/manage/Machines"),
        ),
        (
            "daas",
            &format!("/citrix/orchestration/api/acme/{SITE}/Catalogs"),
            None,
        ),
        (
            "daas",
            &format!("/cvadapis/{SITE}/Machines/../Catalogs"),
            None,
        ),
        ("daas", "/reports/Machines/1", None),
        ("daas", "/region/eu/cvad/manage/Catalogs", None),
        ("old", odata, None),
        ("old", &daas, None),
        (
            "reports",
            "/reports/Machines",
            Some("/cvad/manage/Machines"),
        ),
        ("reports", "/cvad/manage/Machines", None),
    ] {
        let response = send_as(&gateway, name, &format!("GET {path}"), "").await;
        match arrives {
            Some(target) => {
                assert_eq!(response.status(), 200, "{name} {path}");
                assert_eq!(
                    upstream.request().await.line(),
                    format!("GET {target} HTTP/1.1")
                );
            }
            None => drop(response.problem(403, "caller_forbidden")),
        }
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn caller_acts_for_its_customers_only_and_learns_of_no_other() {
    let upstream = Upstream::responding(OK).await;
    let logins = crate::harness::TokenEndpoint::granting().await;
    let customer = |id: &str, more: &str| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'SECRET' }}\n\
             api_url = '{}'\ntoken_url = '{}'\ninstance_id = ''\n{more}\n",
            upstream.url(),
            logins.url()
        )
    };
    let blocks = customer("acme", "default = true")
        + &customer("contoso", "")
        + &block("a", "customers = ['ACME']")
        + &block("c", "customers = ['contoso']")
        + &block("all", "");
    let gateway = Gateway::for_customers(&blocks)
        .set("SECRET", "s")
        .start()
        .await;
    let named = |id: &str| format!("Citrix-CustomerId: {id}\r\n");
    for (name, path, fields) in [
        ("a", "/x", String::new()),
        ("a", "/x", named("Acme")),
        ("a", "/catalogservice/acme/x", String::new()),
        ("c", "/x", named("contoso")),
        ("c", "/x", "Customer: contoso\r\n".to_owned()),
        ("all", "/x", named("contoso")),
    ] {
        assert_eq!(
            send_as(&gateway, name, &format!("GET {path}"), &fields)
                .await
                .status(),
            200,
            "{name} {path}"
        );
        upstream.request().await;
    }
    let mut problems = Vec::new();
    for (name, path, fields) in [
        ("a", "/x", named("contoso")),
        // An unknown customer.
        ("a", "/x", named("fabrikam")),
        ("a", "/x", "Customer: contoso\r\n".to_owned()),
        ("a", "/catalogservice/contoso/x", String::new()),
        (
            "a",
            "/citrix/orchestration/api/contoso/site/x",
            String::new(),
        ),
        // The default customer.
        ("c", "/x", String::new()),
        ("c", "/catalogservice/acme/x", String::new()),
    ] {
        let problem = send_as(&gateway, name, &format!("GET {path}"), &fields)
            .await
            .problem(403, "customer_forbidden");
        problems.push((problem["title"].clone(), problem["detail"].clone()));
    }
    // Percent-encoding hides no customer.
    for path in ["/catalogservice/%63ontoso/x", "/%63atalogservice/contoso/x"] {
        send_as(&gateway, "a", &format!("GET {path}"), "")
            .await
            .problem(403, "customer_forbidden");
    }
    problems.dedup();
    assert_eq!(problems.len(), 1, "{problems:?}");
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn requests_above_the_callers_concurrency_return_503() {
    let upstream = Upstream::manual().await;
    let blocks = block("a", "max_concurrent = 2") + &block("b", "max_concurrent = 1");
    let gateway = in_front_of(&upstream, &blocks)
        .set("CITRIX_AUTH_PROXY_LISTEN__WORKERS", "2")
        .start()
        .await;
    let mut waiting = Vec::new();
    for name in ["a", "a", "b"] {
        let mut caller = gateway.connect().await;
        caller.write(get_with("/x", &key(name))).await;
        let mut served = upstream.connection().await;
        served.request().await;
        waiting.push((caller, served));
    }
    for name in ["a", "b"] {
        let response = send_as(&gateway, name, "GET /x", "").await;
        let problem = response.problem(503, "overloaded");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("(max_concurrent)"),
            "{problem}"
        );
        assert_eq!(response.field("retry-after").as_deref(), Some("1"));
    }
    assert!(
        gateway
            .metrics()
            .await
            .contains(r#"errors_total{reason="overloaded"} 2"#)
    );
    // The permit is held until the last byte is read ...
    let (mut first, mut served) = waiting.remove(0);
    served
        .write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{")
        .await;
    assert_eq!(first.head().await.status(), 200);
    send_as(&gateway, "a", "GET /x", "")
        .await
        .problem(503, "overloaded");
    served.write("}").await;
    first.rest().await;
    // ... or until the caller disconnects.
    let (second, mut left) = waiting.remove(0);
    drop(second);
    left.rest().await;
    for _ in 0..2 {
        let mut caller = gateway.connect().await;
        caller.write(get_with("/x", &key("a"))).await;
        let mut served = upstream.connection().await;
        served.request().await;
        waiting.push((caller, served));
    }
    send_as(&gateway, "a", "GET /x", "")
        .await
        .problem(503, "overloaded");
}

#[tokio::test]
async fn requests_above_the_callers_rate_return_503() {
    let upstream = Upstream::responding(OK).await;
    let gateway = in_front_of(
        &upstream,
        &(block("a", "max_per_second = 1") + &block("b", "")),
    )
    .start()
    .await;
    let mut wire = gateway.connect().await;
    let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{}\r\n", key("a"));
    // Concurrently; admitting all would take four seconds.
    wire.write(request.repeat(5)).await;
    let mut refused = 0;
    for number in 0..5 {
        let response = wire.response().await;
        if response.status() == 200 {
            continue;
        }
        assert!(number > 0, "the first request is admitted");
        let problem = response.problem(503, "overloaded");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("(max_per_second)"),
            "{problem}"
        );
        assert_eq!(response.field("retry-after").as_deref(), Some("1"));
        refused += 1;
    }
    assert!(refused > 0);
    assert_eq!(
        send_as(&gateway, "b", "GET /x", "").await.status(),
        200,
        "another caller"
    );
    // Requests rejected by a rule do not count against the rate.
    wait_until("a second is over", || async {
        send_as(&gateway, "a", "GET /x", "").await.status() == 200
    })
    .await;
}
