//! The smaller services (contract §3 and §4).

use reqwest::Method;
use serde_json::json;

use super::{header, json, lab};

/// Paths, and the field with the transaction id.
const READABLE: [(&str, Option<&str>); 21] = [
    ("/administrators/", Some("citrix-transactionid")),
    ("/administrators/invitations", Some("citrix-transactionid")),
    (
        "/licensing/license/enterprise/cloud/cvad/ud/current",
        Some("cc-transactionid"),
    ),
    ("/notifications/", Some("x-cws-transactionid")),
    ("/acme/notifications/items", Some("x-cws-transactionid")),
    ("/connectors", Some("citrix-transactionid")),
    (
        "/acme/edgeservers?connectorType=All",
        Some("x-cws-transactionid"),
    ),
    ("/acme/serviceStates", Some("x-cws-transactionid")),
    ("/acme/identityProviders", Some("x-cws-transactionid")),
    ("/acme/AuthDomains", Some("x-cws-transactionid")),
    ("/acme/subscriptions", Some("x-cws-transactionid")),
    (
        "/catalogservice/acme/site/images",
        Some("citrix-transactionid"),
    ),
    (
        "/quickcreateservice/acme/accounts",
        Some("citrix-transactionid"),
    ),
    (
        "/quickcreateservice/acme/tasks/7",
        Some("citrix-transactionid"),
    ),
    ("/services/wem/sites", Some("citrix-transactionid")),
    ("/aca/settings", Some("citrix-transactionid")),
    ("/api/site", Some("citrix-transactionid")),
    ("/accessSecurity/applications", Some("citrix-transactionid")),
    ("/casodata/sessions?year=2025&month=01&day=15&hour=08", None),
    ("/cvad/manage/about", Some("citrix-transactionid")),
    ("/cvad/manage/tenants", Some("citrix-transactionid")),
];

#[tokio::test]
async fn every_service_responds_to_get() {
    let lab = lab().await;
    for (path, id_field) in READABLE {
        let response = lab.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        for name in [
            "citrix-transactionid",
            "x-cws-transactionid",
            "cc-transactionid",
        ] {
            assert_eq!(
                header(&response, name).is_some(),
                id_field == Some(name),
                "{path} {name}"
            );
        }
        assert!(!json(response).await.is_null(), "{path}");
        assert_eq!(
            lab.status(lab.client.get(lab.url(path))).await,
            401,
            "{path}"
        );
    }
}

#[tokio::test]
async fn other_requests_return_documented_status() {
    let lab = lab().await;
    let history = "/licensing/license/enterprise/cloud/cvad/ud/historicalusage";
    for (method, path, status) in [
        (Method::GET, history, 204),
        (
            Method::GET,
            "/licensing/license/enterprise/cloud/xyz/ud/current",
            400,
        ),
        (Method::GET, "/administrators/unknown", 404),
        (Method::POST, "/notifications/", 200),
        (Method::POST, "/acme/subscriptions", 200),
        (Method::POST, "/catalogservice/acme/site/images", 202),
        (Method::POST, "/quickcreateservice/acme/accounts", 201),
        (Method::POST, "/quickcreateservice/acme/deployments", 202),
        (Method::POST, "/services/wem/sites", 201),
        (Method::DELETE, "/services/wem/sites", 204),
        (Method::POST, "/connectors", 405),
        (Method::GET, "/licensing/nothing", 404),
        (Method::GET, "/quickcreateservice/contoso/accounts", 403),
    ] {
        let request = lab.authorize(lab.client.request(method.clone(), lab.url(path)));
        let request = if method == Method::POST {
            request.header("content-length", "0")
        } else {
            request
        };
        assert_eq!(lab.status(request).await, status, "{method} {path}");
    }
    let problem = json(lab.get("/administrators/unknown").send().await.unwrap()).await;
    assert_eq!(
        (&problem["title"], &problem["status"]),
        (&json!("Not Found"), &json!(404))
    );
    let error = lab
        .get("/licensing/license/enterprise/cloud/xyz/ud/current")
        .send()
        .await
        .unwrap();
    assert!(
        json(error).await["error_description"]
            .as_str()
            .unwrap()
            .starts_with("{\"Code\":400,")
    );
}

#[tokio::test]
async fn missing_service_header_is_rejected() {
    let lab = lab().await;
    let recordings = || lab.get("/api/recordings");
    assert_eq!(lab.status(recordings().header("siteid", "s")).await, 400);
    assert_eq!(
        lab.status(recordings().header("siteid", "s").header("serverid", "1"))
            .await,
        200
    );

    let adm = || lab.get("/massvc/acme/nitro/v2/config/stylebooks");
    assert_eq!(lab.status(adm()).await, 400);
    assert_eq!(lab.status(adm().header("iscloud", "true")).await, 200);

    let layering = "/services/Citrix.AppLayering/master/LayeringServices/OsLayers";
    assert_eq!(lab.status(lab.get(layering)).await, 406);
    let preview = |method| {
        let request = lab
            .client
            .request(method, lab.url(&format!("{layering}?async=true")));
        let request = request.header("authorization", format!("CwsAuth Bearer={}", lab.token));
        let request = request
            .header("citrix-customerid", "acme")
            .header("content-length", "0");
        request
            .header("accept", "application/json;version=preview")
            .send()
    };
    assert_eq!(preview(Method::GET).await.unwrap().status(), 200);
    let started = preview(Method::POST).await.unwrap();
    assert_eq!(started.status(), 202);
    assert!(
        header(&started, "location")
            .unwrap()
            .starts_with(&lab.url("/services/Citrix.AppLayering/"))
    );
}

#[tokio::test]
async fn app_configuration_etag_detects_conflict() {
    let lab = lab().await;
    let path = "/aca/discovery/app/workspace/url/aHR0cHM6Ly9h";
    let response = lab.get(path).send().await.unwrap();
    assert_eq!(
        (
            header(&response, "etag"),
            header(&response, "x-content-type-options")
        ),
        (Some("\"1\""), Some("nosniff"))
    );
    assert_eq!(
        lab.status(lab.get(path).header("if-none-match", "\"1\""))
            .await,
        304
    );

    let put = |known: &str, content_type: &str| {
        let request = lab
            .authorize(lab.client.put(lab.url(path)))
            .header("content-type", content_type);
        request.header("if-match", known).body("{\"items\":[1]}")
    };
    assert_eq!(lab.status(put("\"1\"", "text/plain")).await, 415);
    assert_eq!(lab.status(put("\"1\"", "application/json")).await, 204);
    let conflict = put("\"1\"", "application/json").send().await.unwrap();
    assert_eq!(conflict.status(), 409);
    assert!(
        json(conflict).await["type"]
            .as_str()
            .unwrap()
            .ends_with("/optimisticConcurrency")
    );
    assert_eq!(
        lab.status(lab.get(path).header("if-none-match", "\"1\""))
            .await,
        200
    );
    assert_eq!(lab.get_json(path).await, json!({ "items": [1] }));
}

#[tokio::test]
async fn citrix_host_serves_only_its_own_services() {
    let lab = lab().await;
    for (host, path, status) in [
        (
            "registry.citrixworkspacesapi.net",
            "/acme/resourcelocations",
            200,
        ),
        (
            "registry.citrixworkspacesapi.net",
            "/resourcelocations",
            404,
        ),
        (
            "core.citrixworkspacesapi.net",
            "/acme/resourcelocations",
            404,
        ),
        ("api.cloud.com", "/resourcelocations", 200),
        ("api.cloud.com", "/acme/resourcelocations", 404),
        ("acme.xendesktop.net", "/citrix/orchestration/api/me", 200),
        ("acme.xendesktop.net", "/cvad/manage/me", 404),
        ("catalogs.apps.cloud.com", "/acme/site/images", 200),
        ("gateway.example.net", "/acme/resourcelocations", 200),
    ] {
        assert_eq!(
            lab.status(lab.get(path).header("host", host)).await,
            status,
            "{host}{path}"
        );
    }
}
