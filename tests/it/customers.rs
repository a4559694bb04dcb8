//! Several customers behind one gateway: each has its own login, token, API gateway, metrics and
//! readiness, and none affects another.

use crate::harness::{
    Gateway, Message, OK, TOKEN, TokenEndpoint, Upstream, client, get, get_with, wait_until,
};

/// A customer, its token endpoint and its API gateway.
struct Customer {
    id: &'static str,
    logins: TokenEndpoint,
    api: Upstream,
}

impl Customer {
    async fn new(id: &'static str, logins: TokenEndpoint) -> Self {
        Self {
            id,
            logins,
            api: Upstream::responding(OK).await,
        }
    }

    /// Uses up token 1, so that its tokens differ from those of the other customer.
    async fn use_up_a_token(&self) {
        assert_eq!(
            client()
                .post(self.logins.url())
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    }

    fn block(&self, more: &str) -> String {
        format!(
            "[[customer]]\ncustomer_id = '{}'\nclient_id = 'client'\nclient_secret = {{ env = 'SECRET' }}\n\
             api_url = '{}'\ntoken_url = '{}'\n{more}\n",
            self.id,
            self.api.url(),
            self.logins.url(),
        )
    }
}

async fn gateway(blocks: &[String]) -> Gateway {
    Gateway::for_customers(&blocks.concat())
        .set("SECRET", "s3cret")
        .start()
        .await
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

#[tokio::test]
async fn built_in_routes_depend_on_the_customers_cloud() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("contoso", TokenEndpoint::granting().await).await;
    let direct = Upstream::responding(OK).await;
    let route = format!(
        "[[route]]\nprefix = '/direct/acme'\nupstream = '{}'\n",
        direct.url()
    );
    let gateway = gateway(&[acme.block(""), contoso.block("cloud = 'gov'"), route]).await;
    wait_until_ready(&gateway).await;
    // The other customer's cloud has these services; this one's does not.
    for path in [
        "/wem/services/wem/x",
        "/region/eu/cvad/manage/me",
        "/gac/aca/x",
    ] {
        let request = get_with(path, "Citrix-CustomerId: contoso\r\n");
        gateway.raw(request).await.problem(404, "no_route");
    }
    // A customer's own host and a customer in the path select the customer.
    assert_eq!(gateway.raw(get("/direct/acme/x")).await.status(), 200);
    assert_eq!(
        direct.request().await.field("citrix-customerid").as_deref(),
        Some("acme")
    );
    assert_eq!(
        gateway
            .raw(get("/citrix/orchestration/api/Contoso/site/x"))
            .await
            .status(),
        200
    );
    let request = contoso.api.request().await;
    assert_eq!(request.line(), "GET /cvad/manage/x HTTP/1.1");
    assert_eq!(
        request.field("citrix-customerid").as_deref(),
        Some("contoso")
    );
    gateway
        .raw(get("/direct/fabrikam/x"))
        .await
        .problem(404, "no_route");
    gateway
        .raw(get("/classic/registry/fabrikam/x"))
        .await
        .problem(403, "customer_forbidden");
    acme.api.assert_no_more_requests().await;
}

#[tokio::test]
async fn each_request_uses_its_customers_api_gateway_and_token() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("Contoso", TokenEndpoint::granting().await).await;
    contoso.use_up_a_token().await;
    let gateway = gateway(&[acme.block(""), contoso.block("authorization = 'bearer'")]).await;
    wait_until_ready(&gateway).await;
    for (named, customer, authorization) in [
        ("acme", &acme, format!("CwsAuth Bearer={TOKEN}1")),
        ("CONTOSO", &contoso, format!("Bearer {TOKEN}2")),
        ("contoso", &contoso, format!("Bearer {TOKEN}2")),
        ("ACME", &acme, format!("CwsAuth Bearer={TOKEN}1")),
    ] {
        assert_eq!(request_as(&gateway, named).await.status(), 200, "{named}");
        let request = customer.api.request().await;
        assert_eq!(
            request.field("authorization"),
            Some(authorization),
            "{named}"
        );
        assert_eq!(request.field("host"), Some(customer.api.host()));
        // In the configured case, whatever the caller sent.
        assert_eq!(
            request.field("citrix-customerid").as_deref(),
            Some(customer.id)
        );
    }
    // A customer in the path counts like one in the header.
    assert_eq!(
        gateway.raw(get("/catalogservice/contoso/x")).await.status(),
        200
    );
    assert_eq!(
        contoso.api.request().await.line(),
        "GET /catalogservice/contoso/x HTTP/1.1"
    );
    acme.api.assert_no_more_requests().await;
}

#[tokio::test]
async fn request_without_customer_returns_400_with_advice() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("contoso", TokenEndpoint::granting().await).await;
    let gateway = gateway(&[acme.block(""), contoso.block("")]).await;
    let problem = gateway.raw(get("/")).await.problem(400, "bad_request");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("Citrix-CustomerId") && detail.contains("default = true"),
        "{detail}"
    );
    request_as(&gateway, "initech")
        .await
        .problem(403, "customer_forbidden");
    let both = "Citrix-CustomerId: acme\r\nCitrix-CustomerId: contoso\r\n";
    gateway
        .raw(get_with("/", both))
        .await
        .problem(403, "customer_forbidden");
    let other = gateway
        .raw(get_with(
            "/catalogservice/acme/x",
            "Citrix-CustomerId: contoso\r\n",
        ))
        .await;
    other.problem(403, "customer_forbidden");
    acme.api.assert_no_more_requests().await;
    contoso.api.assert_no_more_requests().await;
}

#[tokio::test]
async fn legacy_header_selects_a_customer() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("contoso", TokenEndpoint::granting().await).await;
    let gateway = gateway(&[acme.block("default = true"), contoso.block("")]).await;
    for path in ["/x", "/Citrix/Monitor/OData/v4/Data/Machines"] {
        assert_eq!(
            gateway
                .raw(get_with(path, "Customer: Contoso\r\n"))
                .await
                .status(),
            200
        );
        let request = contoso.api.request().await;
        assert_eq!(
            request.field("citrix-customerid").as_deref(),
            Some("contoso")
        );
        assert!(!request.has("customer"));
        for fields in [
            "Customer: initech\r\n",
            "Customer: contoso\r\nCitrix-CustomerId: acme\r\n",
        ] {
            gateway
                .raw(get_with(path, fields))
                .await
                .problem(403, "customer_forbidden");
        }
    }
    acme.api.assert_no_more_requests().await;
}

#[tokio::test]
async fn single_customer_rejects_foreign_names_in_either_header() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let gateway = gateway(&[acme.block("")]).await;
    for path in ["/x", "/Citrix/Monitor/OData/v4/Data/Machines"] {
        for fields in [
            "Customer: other\r\n",
            "Citrix-CustomerId: other\r\n",
            "Customer: other\r\nCitrix-CustomerId: acme\r\n",
            "Customer: acme\r\nCitrix-CustomerId: other\r\n",
            "Customer: acme\r\nCustomer: other\r\n",
            "Customer: acme, acme\r\n",
        ] {
            let response = gateway.raw(get_with(path, fields)).await;
            response.problem(403, "customer_forbidden");
        }
        for fields in [
            "Customer: ACME\r\n",
            "Customer:\r\n",
            "Customer: acme\r\nCustomer: Acme\r\nCitrix-CustomerId:\r\n",
        ] {
            let response = gateway.raw(get_with(path, fields)).await;
            assert_eq!(response.status(), 200, "{path} {fields}");
            let request = acme.api.request().await;
            assert_eq!(request.fields("citrix-customerid"), ["acme"]);
            assert!(!request.has("customer"));
        }
    }
    acme.api.assert_no_more_requests().await;
}

#[tokio::test]
async fn empty_customer_headers_select_the_default() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("contoso", TokenEndpoint::granting().await).await;
    let gateway = gateway(&[acme.block("default = true"), contoso.block("")]).await;
    for (fields, customer) in [
        ("Citrix-CustomerId:\r\n", &acme),
        ("Customer:\r\n", &acme),
        ("Customer:\r\nCitrix-CustomerId: contoso\r\n", &contoso),
        ("Customer: contoso\r\nCitrix-CustomerId:\r\n", &contoso),
    ] {
        assert_eq!(gateway.raw(get_with("/x", fields)).await.status(), 200);
        customer.api.request().await;
    }
}

#[tokio::test]
async fn request_without_customer_uses_the_default() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("contoso", TokenEndpoint::granting().await).await;
    let gateway = gateway(&[acme.block(""), contoso.block("default = true")]).await;
    assert_eq!(gateway.raw(get("/")).await.status(), 200);
    let request = contoso.api.request().await;
    assert_eq!(
        request.field("citrix-customerid").as_deref(),
        Some("contoso")
    );
    acme.api.assert_no_more_requests().await;
}

#[tokio::test]
async fn fixed_route_uses_each_customers_token() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let contoso = Customer::new("contoso", TokenEndpoint::granting().await).await;
    contoso.use_up_a_token().await;
    let reports = Upstream::responding(OK).await;
    let route = format!(
        "[[route]]\nprefix = '/reports'\nupstream = '{}/base'\n",
        reports.url()
    );
    let gateway = gateway(&[acme.block(""), contoso.block(""), route]).await;
    wait_until_ready(&gateway).await;
    for (customer, token) in [("acme", 1), ("contoso", 2)] {
        let fields = format!("Citrix-CustomerId: {customer}\r\n");
        assert_eq!(
            gateway.raw(get_with("/reports/a", &fields)).await.status(),
            200
        );
        let request = reports.request().await;
        assert_eq!(request.line(), "GET /base/a HTTP/1.1");
        assert_eq!(
            request.field("authorization"),
            Some(format!("CwsAuth Bearer={TOKEN}{token}"))
        );
        assert_eq!(
            request.field("citrix-customerid").as_deref(),
            Some(customer)
        );
    }
    assert_eq!((acme.api.connections(), contoso.api.connections()), (0, 0));
}

#[tokio::test]
async fn failing_login_of_one_customer_affects_no_other() {
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let rejected = Customer::new("rejected", TokenEndpoint::rejecting().await).await;
    let silent = Customer::new("silent", TokenEndpoint::stalling().await).await;
    let blocks = [
        acme.block("default = true"),
        rejected.block(""),
        silent.block(""),
    ];
    let token = "[token]\nstartup_wait = '50ms'\n".to_owned();
    let gateway = gateway(&[blocks.concat(), token]).await;
    wait_until("acme has a token", || async {
        gateway.raw(get("/")).await.status() == 200
    })
    .await;
    rejected.logins.wait_for_logins(1).await;
    silent.logins.wait_for_logins(1).await;

    let responses = (0..10).map(|_| async {
        let (acme, rejected, silent) = tokio::join!(
            request_as(&gateway, "acme"),
            request_as(&gateway, "rejected"),
            request_as(&gateway, "silent")
        );
        assert_eq!(acme.status(), 200);
        rejected.problem(503, "token_unavailable");
        silent.problem(503, "token_unavailable");
    });
    futures_util::future::join_all(responses).await;
    rejected.api.assert_no_more_requests().await;
    silent.api.assert_no_more_requests().await;

    let metrics = gateway.metrics().await;
    for line in [
        "token_refreshes_total{customer=\"acme\",outcome=\"ok\"} 1",
        "token_refreshes_total{customer=\"acme\",outcome=\"invalid_client\"} 0",
        "token_generation{customer=\"acme\"} 1",
        "token_consecutive_failures{customer=\"acme\"} 0",
        "token_refreshes_total{customer=\"rejected\",outcome=\"ok\"} 0",
        "token_generation{customer=\"rejected\"} 0",
        "token_expiry_timestamp_seconds{customer=\"rejected\"} 0",
        "token_generation{customer=\"silent\"} 0",
        "token_consecutive_failures{customer=\"silent\"} 0",
    ] {
        assert!(
            metrics.contains(&format!("citrix_auth_proxy_{line}\n")),
            "{line}\n{metrics}"
        );
    }
    assert!(
        !metrics.contains("token_consecutive_failures{customer=\"rejected\"} 0\n"),
        "{metrics}"
    );
    let readiness = gateway.admin(get("/readyz")).await;
    assert_eq!(readiness.status(), 503);
}

#[tokio::test]
async fn one_customers_401_triggers_no_login_of_another() {
    const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let acme = Customer::new("acme", TokenEndpoint::granting().await).await;
    let api = Upstream::responding(UNAUTHORIZED).await;
    let contoso = Customer {
        id: "contoso",
        logins: TokenEndpoint::granting().await,
        api,
    };
    let gateway = gateway(&[acme.block(""), contoso.block("")]).await;
    wait_until_ready(&gateway).await;
    assert_eq!(request_as(&gateway, "contoso").await.status(), 401);
    contoso.logins.wait_for_logins(2).await;
    assert_eq!(request_as(&gateway, "acme").await.status(), 200);
    assert_eq!(acme.logins.count(), 1);
}
