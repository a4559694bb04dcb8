//! Services: rejections, pages, jobs, transaction ids (contract §3, §4, §5 and §7).

use std::time::Duration;

use citrix_emulator::{Faults, Options, Tls};
use reqwest::Url;
use serde_json::{Value, json};

use super::{Lab, header, json, lab, lab_with};

const GUID: &str = "0c9e8a3a-6a52-4f0e-9a3d-3d0a5b1f7e11";

/// One path per service, and the field with the transaction id.
const SERVICES: [(&str, Option<&str>); 9] = [
    ("/cvad/manage/me", Some("citrix-transactionid")),
    ("/citrix/orchestration/api/me", Some("citrix-transactionid")),
    ("/systemlog/records", Some("cc-transactionid")),
    ("/resourcelocations", Some("citrix-transactionid")),
    ("/acme/resourcelocations", Some("x-cws-transactionid")),
    ("/acme/serviceStates", Some("x-cws-transactionid")),
    ("/accessSecurity/applications", Some("citrix-transactionid")),
    ("/aca/discovery", Some("citrix-transactionid")),
    ("/monitorodata/Machines", None),
];

const TRANSACTION_IDS: [&str; 3] = [
    "citrix-transactionid",
    "x-cws-transactionid",
    "cc-transactionid",
];

#[tokio::test]
async fn each_service_uses_its_own_transaction_id_field() {
    let lab = lab().await;
    for (path, id_field) in SERVICES {
        for callers in [Some(GUID), None] {
            let mut request = lab.get(path);
            if let Some(id) = callers {
                request = request.header("Citrix-TransactionId", id);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            for name in TRANSACTION_IDS {
                let value = header(&response, name);
                match callers {
                    _ if id_field != Some(name) => assert_eq!(value, None, "{path} {name}"),
                    Some(id) => assert_eq!(value, Some(id), "{path}"),
                    None => assert!(
                        value.is_some_and(|id| id.len() == 36 && id != GUID),
                        "{path}"
                    ),
                }
            }
        }
    }
    lab.emulator.set_faults(Faults {
        no_transaction_ids: true,
        ..Faults::default()
    });
    let response = lab.get("/cvad/manage/me").send().await.unwrap();
    assert_eq!(header(&response, "citrix-transactionid"), None);
}

#[tokio::test]
async fn bearer_scheme_is_accepted_only_by_some_services() {
    let lab = lab().await;
    for (path, _) in SERVICES {
        let scheme = |value: String| lab.client.get(lab.url(path)).header("authorization", value);
        let ask = |value| {
            lab.status(
                scheme(value)
                    .header("citrix-customerid", "acme")
                    .header("accept", "application/json"),
            )
        };
        let standard = ask(format!("Bearer {}", lab.token)).await;
        let takes_it = path.starts_with("/citrix/orchestration") || path.starts_with("/aca");
        assert_eq!(standard, if takes_it { 200 } else { 401 }, "{path}");
        assert_eq!(
            ask(format!("CWSAuth bearer=   \"{}\"", lab.token)).await,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn missing_or_invalid_token_is_rejected_in_error_format_of_service() {
    let lab = lab().await;
    let authentication = "https://errors-api.cloud.com/common/authentication";
    let ask = async |path: &str, authorization: Option<&str>| {
        let mut request = lab
            .client
            .get(lab.url(path))
            .header("citrix-customerid", "acme");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = request
            .header("citrix-transactionid", GUID)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 401, "{path}");
        (
            header(&response, "content-type").unwrap().to_owned(),
            json(response).await,
        )
    };
    let bad = Some("CwsAuth Bearer=ey.ey.ey");
    for (path, _) in [
        SERVICES[2],
        SERVICES[3],
        SERVICES[4],
        SERVICES[5],
        SERVICES[7],
    ] {
        for (authorization, reason) in [
            (None, "missing"),
            (bad, "invalid"),
            (Some("Basic eDp5"), "invalid"),
        ] {
            let (_, body) = ask(path, authorization).await;
            assert_eq!(body["type"], authentication);
            assert_eq!(
                body["parameters"],
                json!([{ "name": "reason", "value": reason }]),
                "{path}"
            );
        }
    }
    let (_, body) = ask("/cvad/manage/me", None).await;
    assert_eq!(body["Error"]["Type"], "CWSAuthException");
    let (_, body) = ask("/cvad/manage/me", bad).await;
    assert_eq!(
        (&body["type"], &body["parameters"]),
        (&json!(authentication), &json!({ "reason": "invalid" }))
    );
    let (content_type, body) = ask("/monitorodata/Machines", bad).await;
    assert!(content_type.starts_with("text/plain") && body["error"]["code"].is_string());
    let (_, body) = ask("/accessSecurity/applications", bad).await;
    assert_eq!(
        body["parameters"],
        json!([{ "name": "Citrix-TransactionId", "value": GUID }])
    );
}

#[tokio::test]
async fn duplicate_authorization_is_malformed() {
    let lab = lab().await;
    let twice = lab
        .get("/echo")
        .header("authorization", format!("CwsAuth Bearer={}", lab.token));
    assert_eq!(lab.status(twice).await, 401);
    assert_eq!(lab.emulator.stats().tokens.malformed_token, 1);
}

#[tokio::test]
async fn customer_must_match_token() {
    let lab = lab().await;
    let ask = async |path: &str, customer: Option<&str>| {
        let mut request = lab
            .client
            .get(lab.url(path))
            .header("accept", "application/json");
        request = request.header("authorization", format!("CwsAuth Bearer={}", lab.token));
        if let Some(customer) = customer {
            request = request.header("citrix-customerid", customer);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, body) = ask("/cvad/manage/me", None).await;
    assert_eq!(status, 500);
    assert!(body.starts_with(
        "{\"statusCode\":500,\"message\":\"Internal server error\",\"activityId\":\""
    ));
    for (path, status, part) in [
        ("/cvad/manage/me", 403, "common/authorization"),
        ("/resourcelocations", 403, "common/authorization"),
        ("/systemlog/records", 401, "invalid"),
        ("/monitorodata/Machines", 403, "Invalid Customer."),
        ("/echo", 403, "common/authorization"),
    ] {
        let (got, body) = ask(path, Some("contoso")).await;
        assert_eq!(got, status, "{path}");
        assert!(body.contains(part), "{path}: {body}");
    }
    assert_eq!(ask("/contoso/resourcelocations", None).await.0, 403);
    assert_eq!(
        ask("/citrix/orchestration/api/contoso/site/Machines", None)
            .await
            .0,
        403
    );
    assert_eq!(ask("/echo", None).await.0, 200);
    assert_eq!(lab.emulator.stats().refused_customer, 8);
}

#[tokio::test]
async fn cvad_rejects_other_types_than_json() {
    let lab = lab().await;
    for accept in [Some("*/*"), Some("application/json; charset=utf-8"), None] {
        let mut raw = format!(
            "GET /cvad/manage/me HTTP/1.1\r\nhost: e\r\nconnection: close\r\ncitrix-customerid: acme\r\n\
             authorization: CwsAuth Bearer={}\r\n",
            lab.token
        );
        if let Some(accept) = accept {
            raw += &format!("accept: {accept}\r\n");
        }
        let response = lab.raw(&(raw + "\r\n")).await;
        assert!(
            response.starts_with("HTTP/1.1 406 ") && response.contains("common/notAcceptable"),
            "{response}"
        );
    }
    let untyped = lab.post("/cvad/manage/Machines").body("<xml/>");
    assert_eq!(lab.status(untyped).await, 415);
    let elsewhere = lab
        .client
        .get(lab.url("/cvad/manage/Machines"))
        .header("citrix-instanceid", "other");
    let elsewhere = elsewhere
        .header("accept", "application/json")
        .header("citrix-customerid", "acme");
    let elsewhere = elsewhere.header("authorization", format!("CwsAuth Bearer={}", lab.token));
    assert_eq!(lab.status(elsewhere).await, 400);
}

#[tokio::test]
async fn post_without_length_returns_411() {
    let lab = lab().await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: e\r\nconnection: close\r\nauthorization: CwsAuth Bearer={}\r\n",
        lab.token
    );
    for (framing, status) in [
        ("\r\n", "411"),
        ("content-length: 0\r\n\r\n", "200"),
        ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", "200"),
    ] {
        let response = lab.raw(&format!("{head}{framing}")).await;
        assert_eq!(response.split(' ').nth(1), Some(status), "{framing:?}");
    }
}

#[tokio::test]
async fn me_returns_customer_and_site() {
    let lab = lab().await;
    let me = lab.get_json("/cvad/manage/Me").await;
    assert_eq!(me["Customers"][0]["Id"], "acme");
    assert_eq!(me["Customers"][0]["Sites"][0]["Id"], lab.emulator.site_id());
}

/// Returns a member whose name begins with a lower-case or an upper-case letter.
fn either<'v>(value: &'v Value, name: &str) -> &'v Value {
    let pascal = name[..1].to_ascii_uppercase() + &name[1..];
    value.get(name).unwrap_or(&value[pascal])
}

/// Follows continuation tokens to the end; returns the ids of all items and the number of pages.
async fn read_all(lab: &Lab, path: &str, limit: &str, id: &str) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut token) = (Vec::new(), 0, None::<String>);
    loop {
        let mut url = Url::parse(&lab.url(path)).unwrap();
        url.query_pairs_mut().append_pair("limit", limit);
        if let Some(token) = &token {
            url.query_pairs_mut()
                .append_pair("continuationToken", token);
        }
        let response = lab.authorize(lab.client.get(url)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let page = json(response).await;
        ids.extend(
            either(&page, "items")
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item[id].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match either(&page, "continuationToken") {
            Value::String(next) => token = Some(next.clone()),
            _ => break,
        }
    }
    (ids, pages)
}

#[tokio::test]
async fn continuation_tokens_reach_all_machines_and_records() {
    let lab = lab().await;
    for (path, limit, id, total, expected_pages) in [
        ("/cvad/manage/Machines", "1000", "Id", 2345, 3),
        ("/systemlog/records", "200", "recordId", 430, 3),
    ] {
        let (mut ids, pages) = read_all(&lab, path, limit, id).await;
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), pages), (total, expected_pages), "{path}");
    }
    let first = lab.get_json("/cvad/manage/Machines").await;
    assert_eq!(first["Items"].as_array().unwrap().len(), 250);
    let first = lab.get_json("/systemlog/records").await;
    assert_eq!(
        (&first["count"], &first["estimatedTotalItems"]),
        (&json!(50), &json!(430))
    );
}

#[tokio::test]
async fn system_log_has_its_old_names_on_request() {
    for (system_log_old_names, names, record_names) in [
        (
            false,
            ["continuationToken", "count", "estimatedTotalItems", "items"],
            ["recordId", "utcTimestamp", "customerId"],
        ),
        (
            true,
            ["ContinuationToken", "Count", "EstimatedTotalItems", "Items"],
            ["RecordId", "UtcTimestamp", "CustomerId"],
        ),
    ] {
        let lab = lab_with(Options {
            system_log_old_names,
            ..Options::default()
        })
        .await;
        let page = lab.get_json("/systemlog/records?limit=1").await;
        assert!(page.as_object().unwrap().keys().eq(names));
        let record = &either(&page, "items")[0];
        for name in record_names {
            assert!(record[name].is_string(), "{record}");
        }
        assert!(either(record, "message")["en-US"].is_string());
    }
}

#[tokio::test]
async fn invalid_continuation_token_or_limit_returns_400() {
    let lab = lab().await;
    let token = lab.get_json("/systemlog/records").await["continuationToken"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        "+#:~/=".chars().all(|awkward| token.contains(awkward)),
        "{token}"
    );
    // Truncated at the first `#`, and with `+` decoded as a space.
    for spoilt in [
        token.split('#').next().unwrap().to_owned(),
        token.replace('#', "%23"),
    ] {
        let path = format!("/systemlog/records?ContinuationToken={spoilt}");
        assert_eq!(lab.status(lab.get(&path)).await, 400, "{path}");
    }
    for path in [
        "/systemlog/records?Limit=201",
        "/systemlog/records?Limit=0",
        "/cvad/manage/Machines?limit=1001",
        "/cvad/manage/Machines?limit=x",
        "/cvad/manage/Machines?continuationToken=x",
    ] {
        assert_eq!(lab.status(lab.get(path)).await, 400, "{path}");
    }
}

#[tokio::test]
async fn async_job_completes_with_result() {
    let lab = lab().await;
    let machine = lab.get_json("/cvad/manage/Machines?limit=1").await["Items"][0]["Id"].clone();
    let path = format!("/cvad/manage/Machines/{}", machine.as_str().unwrap());
    let reboot = lab
        .post(&format!("{path}/$reboot?async=true"))
        .header("content-length", "0");
    let response = reboot.send().await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            header(&response, "content-length")
        ),
        (202, Some("0"))
    );
    let location = header(&response, "location").unwrap().to_owned();
    assert!(
        location.starts_with(&lab.url("/cvad/manage/Jobs/")),
        "{location}"
    );

    let results = format!("{location}/results");
    let follow = |url: &str| lab.authorize(lab.client.get(url));
    assert_eq!(lab.status(follow(&results)).await, 404);
    for (status, result) in [
        ("NotStarted", Value::Null),
        ("InProgress", Value::Null),
        ("Complete", json!(results)),
    ] {
        let job = json(follow(&location).send().await.unwrap()).await;
        assert_eq!(
            (&job["Status"], &job["ResultLocation"]),
            (&json!(status), &result)
        );
    }
    let response = follow(&results).send().await.unwrap();
    assert_eq!(response.status(), 303);
    assert_eq!(header(&response, "location"), Some(&lab.url(&path)[..]));
    assert_eq!(lab.get_json(&path).await["Id"], machine);
    assert_eq!(
        lab.status(lab.get(&format!("/cvad/manage/Jobs/{GUID}")))
            .await,
        404
    );
}

#[tokio::test]
async fn monitor_next_links_are_absolute() {
    let lab = lab().await;
    let mut next = lab.url("/monitorodata/Machines?$filter=Name%20ne%20null");
    let (mut rows, mut links) = (0, Vec::new());
    loop {
        let response = lab.authorize(lab.client.get(&next)).send().await.unwrap();
        assert_eq!(
            header(&response, "content-type"),
            Some("application/json; odata.metadata=minimal")
        );
        assert_eq!(header(&response, "odata-version"), Some("4.0"));
        let page = json(response).await;
        assert_eq!(
            page["@odata.context"],
            lab.url("/monitorodata/$metadata#Machines")
        );
        rows += page["value"].as_array().unwrap().len();
        let Some(link) = page["@odata.nextLink"].as_str() else {
            break;
        };
        next = link.to_owned();
        links.push(next.clone());
    }
    assert_eq!(rows, 2500);
    let link = |skip| {
        lab.url(&format!(
            "/monitorodata/Machines?$filter=Name%20ne%20null&$skip={skip}"
        ))
    };
    assert_eq!(links, [link(1000), link(2000)]);

    let page = lab.get_json("/monitorodata/Machines?$top=1200").await;
    assert_eq!(
        page["@odata.nextLink"],
        lab.url("/monitorodata/Machines?$top=200&$skip=1000")
    );
    let page = lab
        .get_json("/monitorodata/Machines?%24top=3&$count=true")
        .await;
    assert_eq!(
        (
            page["value"].as_array().unwrap().len(),
            &page["@odata.count"]
        ),
        (3, &json!(2500))
    );
    assert!(page.get("@odata.nextLink").is_none());
}

#[tokio::test]
async fn monitor_errors_are_text() {
    let lab = lab().await;
    for (path, status) in [
        ("/monitorodata/Nothing", 404),
        ("/monitorodata/Machines?$top=x", 400),
    ] {
        let response = lab.get(path).send().await.unwrap();
        assert_eq!(response.status(), status);
        assert!(
            header(&response, "content-type")
                .unwrap()
                .starts_with("text/plain")
        );
    }
}

#[tokio::test]
async fn second_monitor_query_returns_429() {
    let lab = lab().await;
    // Longer than the test: the first query runs until its client cancels it.
    let latency = Duration::from_secs(600);
    lab.emulator.set_faults(Faults {
        latency,
        ..Faults::default()
    });
    let first = tokio::spawn(lab.get("/monitorodata/Machines").send());
    while lab.emulator.stats().monitor_in_flight == 0 {
        tokio::task::yield_now().await;
    }
    let second = lab.get("/monitorodata/Machines").send().await.unwrap();
    assert_eq!(
        (second.status().as_u16(), header(&second, "retry-after")),
        (429, Some("1"))
    );
    assert_eq!(
        second.text().await.unwrap(),
        "{\"statusCode\":429,\"message\":\"Rate limit is exceeded. Try again in 1 seconds.\"}"
    );

    first.abort();
    while lab.emulator.stats().monitor_in_flight > 0 {
        tokio::task::yield_now().await;
    }
    lab.emulator.set_faults(Faults::default());
    assert_eq!(lab.status(lab.get("/monitorodata/Machines")).await, 200);
    let stats = lab.emulator.stats();
    assert_eq!(
        (stats.monitor_concurrency_peak, stats.monitor_rate_limited),
        (2, 1)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitor_slot_is_released_at_end_of_body() {
    let lab = lab_with(Options {
        tls: Tls::SelfSigned,
        ..Options::default()
    })
    .await;
    for _ in 0..50 {
        lab.get_json("/monitorodata/Machines?$top=5").await;
        let page = lab.get_json("/monitorodata/Machines").await;
        assert_eq!(page["value"].as_array().unwrap().len(), 1000);
    }
    for coding in ["gzip", "br", "deflate"].repeat(10) {
        let request = lab
            .get("/monitorodata/Machines")
            .header("accept-encoding", coding);
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "content-encoding"), Some(coding));
        assert!(!response.bytes().await.unwrap().is_empty());
    }
    assert_eq!(lab.emulator.stats().monitor_concurrency_peak, 1);
}

#[tokio::test]
async fn platform_services_list_items() {
    let lab = lab().await;
    for path in [
        "/resourcelocations",
        "/acme/resourcelocations",
        "/acme/serviceStates",
    ] {
        assert!(
            !lab.get_json(path).await["items"]
                .as_array()
                .unwrap()
                .is_empty(),
            "{path}"
        );
    }
    let id = lab.get_json("/resourcelocations").await["items"][1]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        lab.get_json(&format!("/resourcelocations/{id}")).await["id"],
        id
    );
    assert_eq!(lab.status(lab.get("/resourcelocations/none")).await, 404);
    assert_eq!(
        lab.status(lab.post("/accessSecurity/applications").body("x"))
            .await,
        415
    );
}
