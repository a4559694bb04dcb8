//! Each row of the wire contract as tools see it through the gateway. The tools send plain requests
//! and follow links verbatim.

mod links;
mod odata;

use std::io::Read as _;

use citrix_emulator::{Faults, Options};
use serde_json::Value;

use crate::harness::{Cloud, Gateway, Message, Upstream, get, get_with};

/// Prefixes of hosts other than the API gateway; the emulator serves all of them.
const HOSTS: [&str; 13] = [
    "/classic/registry",
    "/classic/core",
    "/classic/agenthub",
    "/classic/cws",
    "/classic/webhooks",
    "/classic/notifications",
    "/direct/acme",
    "/wem",
    "/gac",
    "/sessionrecording",
    "/adm",
    "/applayering",
    "/cem",
];

/// Returns a gateway in front of an emulator that serves every Citrix host.
async fn gateway(cloud: &Cloud) -> Gateway {
    let base = cloud.emulator.base_url();
    let route = |prefix: &&str| format!("[[route]]\nprefix = '{prefix}'\nupstream = '{base}'\n");
    let routes: String = HOSTS.iter().map(route).collect();
    Gateway::in_front_of_cloud(cloud)
        .with(&routes)
        .start()
        .await
}

async fn emulated(options: Options) -> (Cloud, Gateway) {
    let cloud = Cloud::with(options).await;
    let gateway = gateway(&cloud).await;
    (cloud, gateway)
}

fn json_of(response: &Message) -> Value {
    let (mut text, coded) = (String::new(), response.field("content-encoding"));
    match coded.as_deref() {
        Some("gzip") => flate2::read::GzDecoder::new(&response.body[..]).read_to_string(&mut text),
        Some("deflate") => {
            flate2::read::ZlibDecoder::new(&response.body[..]).read_to_string(&mut text)
        }
        Some("br") => brotli::Decompressor::new(&response.body[..], 4096).read_to_string(&mut text),
        _ => (&response.body[..]).read_to_string(&mut text),
    }
    .unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn post(path: &str, body: &str) -> String {
    let fields = format!(
        "Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n",
        body.len()
    );
    get_with(path, &fields).replace("GET", "POST") + body
}

const NEW: Option<&str> = Some("citrix-transactionid");
const OLD: Option<&str> = Some("x-cws-transactionid");
const CC: Option<&str> = Some("cc-transactionid");

/// One request to each service: path, fields, and the response field with the transaction id.
const SERVICES: &[(&str, &str, Option<&str>)] = &[
    ("/cvad/manage/me", "", NEW),
    ("/cvad/manage/Machines?limit=1", "", NEW),
    ("/cvad/manage/Machines/$search", "", NEW),
    ("/direct/acme/citrix/orchestration/api/me", "", NEW),
    ("/direct/acme/citrix/orchestration/api/ping/status", "", NEW),
    ("/monitorodata/Machines?$top=1", "", None),
    (
        "/casodata/sessions?year=2025&month=01&day=15&hour=08",
        "",
        None,
    ),
    ("/systemlog/records?Limit=1", "", CC),
    ("/notifications/", "", OLD),
    ("/classic/notifications/acme/notifications/items", "", OLD),
    ("/resourcelocations", "", NEW),
    ("/classic/registry/acme/resourcelocations", "", OLD),
    ("/classic/core/acme/serviceStates", "", OLD),
    (
        "/classic/agenthub/acme/edgeservers?connectorType=All",
        "",
        OLD,
    ),
    ("/connectors", "", NEW),
    ("/administrators/", "", NEW),
    ("/administrators/invitations", "", NEW),
    ("/classic/cws/acme/identityProviders", "", OLD),
    ("/classic/cws/acme/AuthDomains", "", OLD),
    ("/classic/webhooks/acme/subscriptions", "", OLD),
    (
        "/licensing/license/enterprise/cloud/cvad/ud/current",
        "",
        CC,
    ),
    ("/catalogservice/acme/site/images", "", NEW),
    ("/quickcreateservice/acme/accounts", "", NEW),
    ("/quickcreateservice/acme/tasks/7", "", NEW),
    ("/accessSecurity/applications", "", NEW),
    ("/wem/services/wem/sites", "", NEW),
    ("/gac/aca/settings", "", NEW),
    ("/sessionrecording/api/site", "", NEW),
    (
        "/sessionrecording/api/recordings",
        "SiteId: s\r\nServerId: 1\r\n",
        NEW,
    ),
    (
        "/adm/massvc/acme/nitro/v2/config/stylebooks",
        "isCloud: true\r\n",
        NEW,
    ),
    (
        "/applayering/services/Citrix.AppLayering/master/LayeringServices/OsLayers",
        "Accept: application/json;version=preview\r\n",
        NEW,
    ),
];

#[tokio::test]
async fn contract_3_4_every_service_responds_with_a_transaction_id() {
    let (cloud, gateway) = emulated(Options::default()).await;
    let direct = format!(
        "/direct/acme/citrix/orchestration/api/acme/{}/Machines?limit=1",
        cloud.emulator.site_id()
    );
    let direct = [(direct.as_str(), "", NEW)];
    for (path, fields, id_in) in SERVICES.iter().copied().chain(direct) {
        let request = if path.ends_with("$search") {
            post(path, "{}")
        } else {
            get_with(path, fields)
        };
        let response = gateway.raw(&request).await;
        assert_eq!(response.status(), 200, "{path} {}", response.text());
        for name in ["x-cws-transactionid", "cc-transactionid"] {
            assert_eq!(response.has(name), id_in == Some(name), "{path} {name}");
        }
        // If Citrix returns none, the gateway returns the one it sent.
        assert_eq!(
            response.has("citrix-transactionid"),
            matches!(id_in, NEW | None),
            "{path}"
        );
    }
    let stats = cloud.emulator.stats();
    assert_eq!((stats.missing_instance_id, stats.refused_customer), (0, 0));
}

#[tokio::test]
async fn contract_4_changes_and_empty_responses_pass_with_their_status() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    for (path, status) in [
        ("/notifications/", 200),
        ("/classic/webhooks/acme/subscriptions", 200),
        ("/catalogservice/acme/site/images", 202),
        ("/quickcreateservice/acme/accounts", 201),
        ("/quickcreateservice/acme/deployments", 202),
        ("/wem/services/wem/sites", 201),
        ("/accessSecurity/accessPolicies", 201),
        ("/cvad/manage/Machines/m/$reboot", 204),
    ] {
        let response = gateway.raw(post(path, "{}")).await;
        assert_eq!(
            (response.status(), response.has("x-proxy-error")),
            (status, false),
            "{path}"
        );
    }
    let unused = "/licensing/license/enterprise/cloud/cvad/ud/historicalusage";
    assert_eq!(gateway.raw(get(unused)).await.status(), 204);

    let profile = "/gac/aca/discovery/app/workspace/url/aHR0cHM6Ly9h";
    let known = gateway.raw(get(profile)).await.field("etag").unwrap();
    let unchanged = get_with(profile, &format!("If-None-Match: {known}\r\n"));
    assert_eq!(gateway.raw(unchanged).await.status(), 304);
    let put = post(profile, "{}").replace("POST", "PUT");
    let put = put.replace(
        "Content-Length",
        &format!("If-Match: {known}\r\nContent-Length"),
    );
    assert_eq!(gateway.raw(&put).await.status(), 204);
    assert_eq!(gateway.raw(&put).await.status(), 409);
}

#[tokio::test]
async fn contract_4_report_above_the_rate_returns_429_with_retry_after() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    let report = post("/cem/api/endpoint-management/report/$search", "{}");
    for _ in 0..5 {
        let response = gateway.raw(&report).await;
        assert_eq!(response.status(), 200, "{}", response.text());
        assert_eq!(
            response.field("citrix-ratelimit-limit").as_deref(),
            Some("5")
        );
    }
    // A minute exceeds the maximum wait: the date passes unchanged.
    let response = gateway.raw(&report).await;
    let date = response.field("retry-after").unwrap();
    assert!(
        response.status() == 429 && date.contains('T') && date.ends_with('Z'),
        "{date}"
    );
}

#[tokio::test]
async fn contract_3_fields_of_both_directions_pass_unchanged() {
    let response = "HTTP/1.1 200 OK\r\nServer: Citrix Systems, Inc.\r\nX-Content-Type-Options: nosniff\r\n\
        odata-version: 4.0\r\nCitrix-RateLimit-Limit: 5\r\nCitrix-RateLimit-Remaining: 4\r\n\
        X-Cws-TransactionId: a\r\nCC-TransactionId: b\r\ncitrix-transactionid: c\r\nETag: \"1\"\r\n\
        Content-Length: 2\r\n\r\n{}";
    let upstream = Upstream::responding(response).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let fields = [
        "Citrix-InstanceId: 61603f15-cdf9-4c7f-99ff-91636601a795",
        "SiteId: s",
        "ServerId: 1",
        "Citrix-TransactionId: caller",
        "X-Cws-TransactionId: caller",
        "Citrix-Locale: ja-JP",
        "X-CC-Locale: ja",
        "X-AdminCredential: Basic dTpw",
        "X-AccessToken: Bearer eA==",
        "X-AZURE-ACCESS-TOKEN: a",
        "X-AZURE-GRAPH-ACCESS-TOKEN: b",
        "X-AZURE-TENANT-ID: c",
        "X-AZURE-APP-CLIENT-ID: d",
        "X-AZURE-APP-CLIENT-SECRET: e",
        "X-TimeZone: GMT Standard Time",
        "If-None-Match: \"1\"",
        "If-Match: \"1\"",
        "User-Agent: citrix-terraform-provider/1.0.38 (https://x)",
        "Accept: application/json;version=preview",
        "Content-Type: application/x-www-form-urlencoded",
        "Accept-Encoding: gzip, deflate",
        "isCloud: true",
        "X-ActionName: x",
        "Citrix-ApplicationId: x",
        "X-Send-ASB-Notification: false",
        "Citrix-CorrelationId: x",
    ];
    let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    for path in [
        "/cvad/manage/Machines",
        "/systemlog/records",
        "/monitorodata/Machines",
    ] {
        let got = gateway.raw(get_with(path, &lines)).await;
        let forwarded = upstream.request().await;
        for field in fields {
            let (name, value) = field.split_once(": ").unwrap();
            assert_eq!(
                forwarded.field(&name.to_ascii_lowercase()).as_deref(),
                Some(value),
                "{path} {name}"
            );
        }
        for field in response
            .split("\r\n")
            .skip(1)
            .take_while(|line| !line.is_empty())
        {
            let (name, value) = field.split_once(": ").unwrap();
            assert_eq!(
                got.field(&name.to_ascii_lowercase()).as_deref(),
                Some(value),
                "{path} {name}"
            );
        }
    }
}

#[tokio::test]
async fn contract_3_accept_and_content_type_are_left_to_citrix() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    for (accept, status) in [
        ("", 200),
        ("Accept: */*\r\n", 200),
        ("Accept: application/json\r\n", 200),
        ("Accept: text/html\r\n", 406),
        ("Accept: application/json, text/plain, */*\r\n", 200),
        ("Accept: application/json;version=preview, */*\r\n", 406),
    ] {
        for path in ["/cvad/manage/me", "/accessSecurity/applications"] {
            assert_eq!(
                gateway.raw(get_with(path, accept)).await.status(),
                status,
                "{path} {accept}"
            );
        }
    }
    let search = "/cvad/manage/Machines/$search";
    for (content_type, status) in [
        ("application/json; charset=utf-8", 200),
        ("application/json", 200),
        ("text/plain", 415),
    ] {
        let request = post(search, "{}").replace("application/json; charset=utf-8", content_type);
        let response = gateway.raw(request).await;
        assert_eq!(
            (response.status(), response.has("x-proxy-error")),
            (status, false),
            "{content_type}"
        );
    }
}

#[tokio::test]
async fn contract_3_citrix_errors_pass_in_every_format() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    for (request, status, content_type, pointer) in [
        (
            get("/administrators/unknown"),
            404,
            "application/json",
            "/traceId",
        ),
        (
            get("/licensing/license/enterprise/cloud/xyz/ud/current"),
            400,
            "application/json",
            "/error_description",
        ),
        (
            get("/monitorodata/Machines?$top=x"),
            400,
            "text/plain",
            "/error/message",
        ),
        (
            get("/systemlog/records?Limit=201"),
            400,
            "application/json",
            "/type",
        ),
        (
            get("/cvad/manage/Machines?limit=1001"),
            400,
            "application/json",
            "/ErrorMessage",
        ),
        (
            get_with("/cvad/manage/me", "Accept: text/html\r\n"),
            406,
            "application/json",
            "/type",
        ),
        (
            get("/adm/massvc/acme/nitro/v2/config/x"),
            400,
            "application/json",
            "/errorcode",
        ),
    ] {
        let response = gateway.raw(&request).await;
        assert_eq!(
            (response.status(), response.has("x-proxy-error")),
            (status, false),
            "{request}"
        );
        assert!(
            response
                .field("content-type")
                .unwrap()
                .starts_with(content_type),
            "{request}"
        );
        assert!(
            json_of(&response).pointer(pointer).is_some(),
            "{request}{}",
            response.text()
        );
    }
}

#[tokio::test]
async fn contract_1_6_3_4_citrix_failures_pass_unchanged() {
    for (name, status, text) in [
        ("500", 500, "activityId"),
        ("502", 502, ""),
        (
            "403-region",
            403,
            "https://errors-api.cloud.com/common/authorization",
        ),
        ("429:60", 429, "Try again in 60 seconds"),
        ("429-body:60", 429, "retryDelay"),
        (
            "503-rfc3339:60",
            503,
            "https://errors-api.cloud.com/common/serviceUnavailable",
        ),
        (
            "503-silent",
            503,
            "https://errors-api.cloud.com/common/serviceUnavailable",
        ),
    ] {
        let fault = format!("/monitorodata={name}").parse().unwrap();
        let faults = Faults {
            paths: vec![fault],
            ..Faults::default()
        };
        let (_cloud, gateway) = emulated(Options {
            faults,
            ..Options::default()
        })
        .await;
        let response = gateway.raw(get("/monitorodata/Machines")).await;
        assert_eq!(
            (response.status(), response.has("x-proxy-error")),
            (status, false),
            "{name}"
        );
        assert!(response.text().contains(text), "{name} {}", response.text());
        assert!(!response.text().contains("localhost"), "{name}");
        assert!(response.has("citrix-transactionid"), "{name}");
    }
}

#[tokio::test]
async fn contract_4_pages_with_awkward_continuation_tokens_are_complete() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    for (path, items_name, parameter, count) in [
        (
            "/cvad/manage/Machines?limit=1000",
            "Items",
            "ContinuationToken",
            2345,
        ),
        (
            "/systemlog/records?Limit=200",
            "items",
            "continuationToken",
            430,
        ),
    ] {
        for coding in ["identity", "gzip", "deflate", "br"] {
            let (mut items, mut next) = (0, path.to_owned());
            loop {
                let response = gateway
                    .raw(get_with(&next, &format!("Accept-Encoding: {coding}\r\n")))
                    .await;
                assert_eq!(response.status(), 200, "{next}");
                let page = json_of(&response);
                items += page[items_name].as_array().unwrap().len();
                let Some(token) = page[parameter].as_str() else {
                    break;
                };
                assert!(
                    "+#:~/=".chars().all(|awkward| token.contains(awkward)),
                    "{token}"
                );
                let escaped = token.replace('+', "%2B").replace('#', "%23");
                next = format!("{path}&{parameter}={escaped}");
            }
            assert_eq!(items, count, "{path} {coding}");
        }
    }
}
