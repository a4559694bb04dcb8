//! Services with fixed responses (contract §4). The formats are Citrix's, the data is invented.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::call::Call;
use super::responses::{self, Response};

/// A fixed response to one method and path.
pub(super) struct Canned {
    method: &'static str,
    /// Path below the service; `*` matches one segment, and the empty path is the service itself.
    path: &'static str,
    status: StatusCode,
    /// JSON, in which `{customer}` is replaced by the token's customer; empty for no body.
    body: &'static str,
}

const fn get(path: &'static str, body: &'static str) -> Canned {
    Canned {
        method: "GET",
        path,
        status: StatusCode::OK,
        body,
    }
}

const fn post(path: &'static str, status: StatusCode, body: &'static str) -> Canned {
    Canned {
        method: "POST",
        path,
        status,
        body,
    }
}

const fn change(method: &'static str, path: &'static str) -> Canned {
    Canned {
        method,
        path,
        status: StatusCode::NO_CONTENT,
        body: "",
    }
}

pub(super) const PING: &[Canned] = &[get("status", r#"{"Status":"Ok"}"#)];

pub(super) const ADMINISTRATORS: &[Canned] = &[
    get(
        "",
        r#"{"items":[{"userId":"c1700010-0000-4000-8000-000000000001","email":"admin@acme.example",
        "displayName":"Ada Admin","accessType":"Full","providerType":"CitrixSts","type":"AdministratorUser"}],
        "continuationToken":null}"#,
    ),
    get("invitations", r#"{"items":[],"continuationToken":null}"#),
    get("*/access", r#"{"accessType":"Full","policies":[]}"#),
    get(
        "c1700010-0000-4000-8000-000000000001",
        r#"{"userId":"c1700010-0000-4000-8000-000000000001","email":"admin@acme.example",
        "displayName":"Ada Admin","accessType":"Full","providerType":"CitrixSts","type":"AdministratorUser"}"#,
    ),
    // An RFC 7807 problem (contract §3, shape e).
    Canned {
        method: "GET",
        path: "*",
        status: StatusCode::NOT_FOUND,
        body: r#"{"type":"https://tools.ietf.org/html/rfc7231#section-6.5.4","title":"Not Found","status":404,
        "traceId":"00-c1700010000040008000000000000000-c170001000004000-00"}"#,
    },
    change("PUT", "*/access"),
    change("DELETE", "*"),
];

/// No license is in use, so historical usage is 204. An unknown edition is rejected in the
/// service's own format.
pub(super) const LICENSING: &[Canned] = &[
    Canned {
        method: "GET",
        path: "license/enterprise/cloud/cvad/ud/current",
        status: StatusCode::OK,
        body: r#"{"productName":"cvad","customerId":"{customer}","licenseUsage":{"totalAvailableLicenseCount":100,
        "totalUsageCount":0,"remainingLicenseCount":100}}"#,
    },
    change("GET", "license/enterprise/cloud/cvad/ud/historicalusage"),
    Canned {
        method: "GET",
        path: "license/enterprise/cloud/*/*/*",
        status: StatusCode::BAD_REQUEST,
        body: r#"{"error_description":"{\"Code\":400,\"Message\":\"The product is not supported.\"}"}"#,
    },
];

const NOTES: &str = r#"{"items":[{"id":"c1700011-0000-4000-8000-000000000001","component":"Citrix Cloud",
    "severity":"Information","createdDate":"2025-01-15T08:30:00Z","content":[{"languageTag":"en-US",
    "title":"Connector updated","description":"A connector was updated."}]}],"continuationToken":null}"#;

pub(super) const NOTIFICATIONS: &[Canned] = &[
    get("", NOTES),
    get("items", NOTES),
    post(
        "",
        StatusCode::OK,
        r#"{"id":"c1700011-0000-4000-8000-000000000002"}"#,
    ),
    change("DELETE", "*"),
];

/// A bare array, unlike [`EDGE_SERVERS`] on the classic host.
pub(super) const CONNECTORS: &[Canned] = &[get(
    "",
    r#"[{"id":"c1700012-0000-4000-8000-000000000001","fqdn":"cc1.acme.example","status":"Healthy",
    "location":"c1700005-0000-4000-8000-000000000000","connectorType":"Windows"}]"#,
)];

pub(super) const EDGE_SERVERS: &[Canned] = &[get(
    "",
    r#"{"items":[{"id":"c1700012-0000-4000-8000-000000000001","fqdn":"cc1.acme.example","status":"Healthy",
    "location":"c1700005-0000-4000-8000-000000000000","connectorType":"Windows"}]}"#,
)];

/// Entitlements of the customer.
pub(super) const SERVICE_STATES: &[Canned] = &[get(
    "",
    r#"{"items":[{"serviceName":"xendesktop","state":"Production","type":"Production"},
    {"serviceName":"platform","state":"Production","type":"Production"},
    {"serviceName":"wem","state":"Production","type":"Production"}]}"#,
)];

pub(super) const IDENTITY_PROVIDERS: &[Canned] = &[get(
    "",
    r#"{"items":[{"idpInstanceId":"c1700013-0000-4000-8000-000000000001","idpType":"AzureAd","idpNickname":"aad"}],
    "continuationToken":null}"#,
)];

pub(super) const AUTH_DOMAINS: &[Canned] = &[get(
    "",
    r#"{"items":[{"authDomainName":"{customer}.cloud.com","isDefault":true}]}"#,
)];

pub(super) const SUBSCRIPTIONS: &[Canned] = &[
    get("", r#"{"items":[]}"#),
    // The webhook's `url` is the customer's data, not a link into the cloud (contract §5).
    post(
        "",
        StatusCode::OK,
        r#"{"id":"c1700014-0000-4000-8000-000000000001","url":"https://hooks.acme.example/citrix","eTag":"\"1\""}"#,
    ),
    change("DELETE", "*"),
];

pub(super) const CATALOGS: &[Canned] = &[
    get("", r#"{"Items":[]}"#),
    get(
        "images",
        r#"{"Items":[{"Id":"c1700015-0000-4000-8000-000000000001","Name":"Windows 2022",
        "TransactionId":"c1700015-0000-4000-8000-0000000000ff"}]}"#,
    ),
    get("*", r#"{"Items":[]}"#),
    post(
        "*",
        StatusCode::ACCEPTED,
        r#"{"Id":"c1700015-0000-4000-8000-000000000002","Status":"Pending"}"#,
    ),
    post(
        "*/*",
        StatusCode::ACCEPTED,
        r#"{"Id":"c1700015-0000-4000-8000-000000000002","Status":"Pending"}"#,
    ),
    change("DELETE", "*/*"),
];

pub(super) const QUICK_CREATE: &[Canned] = &[
    get(
        "accounts",
        r#"{"items":[{"accountId":"c1700016-0000-4000-8000-000000000001","name":"aws-eu","status":"OK"}]}"#,
    ),
    get(
        "tasks/*",
        r#"{"taskId":"c1700016-0000-4000-8000-0000000000ff","taskState":"Completed","percentComplete":100}"#,
    ),
    get("*", r#"{"items":[]}"#),
    post(
        "accounts",
        StatusCode::CREATED,
        r#"{"accountId":"c1700016-0000-4000-8000-000000000002"}"#,
    ),
    post(
        "*",
        StatusCode::ACCEPTED,
        r#"{"taskId":"c1700016-0000-4000-8000-0000000000ff"}"#,
    ),
    post(
        "*/*",
        StatusCode::ACCEPTED,
        r#"{"taskId":"c1700016-0000-4000-8000-0000000000ff"}"#,
    ),
];

pub(super) const WEM: &[Canned] = &[
    get(
        "sites",
        r#"{"items":[{"id":1,"name":"Default Site","description":""}]}"#,
    ),
    get("*", r#"{"items":[]}"#),
    get("*/*", r#"{"items":[]}"#),
    post("*", StatusCode::CREATED, r#"{"id":2}"#),
    change("PUT", "*"),
    change("DELETE", "*"),
];

pub(super) const SESSION_RECORDING: &[Canned] = &[
    get(
        "",
        r#"[{"SiteId":"c1700017-0000-4000-8000-000000000001","SiteName":"Recordings","ServerId":"1"}]"#,
    ),
    get("*", r#"{"RecordingId":"1","UserName":"ACME\\ada"}"#),
];

pub(super) const APP_LAYERING: &[Canned] = &[
    get("", r#"{"Items":[]}"#),
    get("Tasks/*", r#"{"Id":"1","Status":"Completed"}"#),
    get("*", r#"{"Items":[{"Id":1,"Name":"Base layer"}]}"#),
];

pub(super) const ADM: &[Canned] = &[
    get("*", r#"{"errorcode":0,"message":"Done","severity":"NONE"}"#),
    post(
        "*",
        StatusCode::CREATED,
        r#"{"errorcode":0,"message":"Done","severity":"NONE"}"#,
    ),
];

pub(super) const ENDPOINT_MANAGEMENT: &[Canned] = &[
    post(
        "$search",
        StatusCode::OK,
        r#"{"items":[],"totalCount":0,"batchSize":500}"#,
    ),
    get("$search", r#"{"items":[],"totalCount":0,"batchSize":500}"#),
];

/// Returns the first matching response, 405 if only other methods match, or 404.
pub(super) fn respond(call: &Call<'_>, list: &[Canned]) -> Response {
    let mut matching = list
        .iter()
        .filter(|canned| matches_path(&call.rest, canned.path))
        .peekable();
    if matching.peek().is_none() {
        return responses::not_found();
    }
    let method = if call.is_get() {
        "GET"
    } else {
        call.parts.method.as_str()
    };
    match matching.find(|canned| canned.method == method) {
        None => responses::method_not_allowed("GET"),
        Some(canned) if canned.body.is_empty() => responses::empty(canned.status),
        Some(canned) => {
            // Removes the line breaks of the source code.
            let lines: Vec<_> = canned.body.lines().map(str::trim_start).collect();
            let body = lines.concat().replace("{customer}", call.tenant().id());
            let response = responses::text(canned.status, body);
            responses::with(
                response,
                CONTENT_TYPE,
                HeaderValue::from_static("application/json; charset=utf-8"),
            )
        }
    }
}

fn matches_path(rest: &[&str], path: &str) -> bool {
    // Ignores one trailing slash.
    let rest = rest.strip_suffix(&[""]).unwrap_or(rest);
    let wanted: Vec<_> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    rest.len() == wanted.len()
        && rest
            .iter()
            .zip(wanted)
            .all(|(segment, wanted)| wanted == "*" || segment.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canned_bodies_are_json() {
        for service in [
            PING,
            ADMINISTRATORS,
            LICENSING,
            NOTIFICATIONS,
            CONNECTORS,
            EDGE_SERVERS,
            SERVICE_STATES,
            IDENTITY_PROVIDERS,
            AUTH_DOMAINS,
            SUBSCRIPTIONS,
            CATALOGS,
            QUICK_CREATE,
            WEM,
            SESSION_RECORDING,
            APP_LAYERING,
            ADM,
            ENDPOINT_MANAGEMENT,
        ] {
            for canned in service.iter().filter(|canned| !canned.body.is_empty()) {
                let parsed = serde_json::from_str::<serde_json::Value>(canned.body);
                assert!(parsed.is_ok(), "{} {}", canned.path, canned.body);
            }
        }
    }

    #[test]
    fn star_matches_one_segment() {
        assert!(
            matches_path(&[], "")
                && matches_path(&[""], "")
                && matches_path(&["tasks", "7"], "tasks/*")
        );
        assert!(!matches_path(&["tasks"], "tasks/*") && !matches_path(&["a", "b"], "*"));
    }
}
