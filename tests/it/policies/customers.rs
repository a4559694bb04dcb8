//! A caller cannot discover customers of other callers, and no path variant reaches one.

use super::*;
use crate::harness::TokenEndpoint;

/// Returns a gateway for acme (the default) and contoso, each with its own host, whose caller `a`
/// acts for acme only.
async fn start(upstream: &Upstream, rules: &str) -> Gateway {
    let logins = TokenEndpoint::granting().await;
    let customer = |id: &str, more: &str| {
        format!(
            "[[customer]]\ncustomer_id = '{id}'\nclient_id = 'c'\nclient_secret = {{ env = 'SECRET' }}\n\
             api_url = '{api}'\ntoken_url = '{}'\ninstance_id = ''\n{more}\n\
             [[route]]\nprefix = '/direct/{id}'\nupstream = '{api}'\n",
            logins.url(),
            api = upstream.url(),
        )
    };
    let blocks = customer("acme", "default = true")
        + &customer("contoso", "")
        + &format!(
            "[[route]]\nprefix = '/api'\nupstream = '{}'\n",
            upstream.url()
        )
        + &block("a", &format!("customers = ['acme']\n{rules}"));
    Gateway::for_customers(&blocks)
        .set("SECRET", "s")
        .start()
        .await
}

#[tokio::test]
async fn foreign_customer_gets_the_response_of_an_unknown_one() {
    let upstream = Upstream::responding(OK).await;
    let gateway = start(&upstream, "methods = ['GET']\npaths = ['/x/**']").await;
    let header = |id: &str, more: &str| format!("Citrix-CustomerId: {id}\r\n{more}");
    let too_large = "Content-Length: 99999999999\r\n";
    let requests = |id: &str| {
        [
            ("GET /x".to_owned(), header(id, "")),
            ("DELETE /x".to_owned(), header(id, "")),
            ("GET /y".to_owned(), header(id, "")),
            ("GET /x//y".to_owned(), header(id, "")),
            ("GET /x/%zz".to_owned(), header(id, "")),
            ("POST /x".to_owned(), header(id, too_large)),
            (format!("GET /direct/{id}/x"), String::new()),
            (format!("GET /DIRECT/{id}/x"), String::new()),
            (format!("GET /classic/registry/{id}/x"), String::new()),
            (format!("GET /classic/none/{id}/x"), String::new()),
            (format!("DELETE /catalogservice/{id}//x"), String::new()),
            (
                format!("GET /citrix/orchestration/api/{id}/site/x"),
                String::new(),
            ),
        ]
    };
    for ((line, fields), (unknown_line, unknown_fields)) in
        requests("contoso").into_iter().zip(requests("fabrikam"))
    {
        let summary = |response: Message| {
            let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            (
                response.status(),
                response.field("x-proxy-error"),
                problem["detail"].clone(),
            )
        };
        let foreign = summary(send_as(&gateway, "a", &line, &fields).await);
        assert_eq!(
            foreign,
            summary(send_as(&gateway, "a", &unknown_line, &unknown_fields).await),
            "{line} {fields}"
        );
        assert!([403, 413].contains(&foreign.0), "{line}: {foreign:?}");
    }
    upstream.assert_no_more_requests().await;
}

#[tokio::test]
async fn no_path_variant_is_forwarded_with_another_customer() {
    let upstream = Upstream::responding(OK).await;
    let gateway = start(&upstream, "").await;
    for path in [
        "/direct/acme/citrix/orchestration/api/contoso/site/Machines",
        "/direct/acme/citrix/orchestration/api/%63ontoso/site/Machines",
        "/direct/acme/citrix/%6Frchestration/api/contoso/site/Machines",
        // The upstream has customers in its paths, which the rules cannot detect.
        "/api/catalogservice/contoso/x",
        "/api/%63atalogservice/contoso/x",
        "/api/catalogservice/%63ontoso/x",
        "/api/citrix/orchestration/api/%63ontoso/site/x",
    ] {
        send_as(&gateway, "a", &format!("GET {path}"), "")
            .await
            .problem(403, "customer_forbidden");
    }
    upstream.assert_no_more_requests().await;
    for path in [
        "/api/catalogservice/acme/x%20y",
        "/direct/acme/citrix/orchestration/api/%61cme/site/x",
    ] {
        assert_eq!(
            send_as(&gateway, "a", &format!("GET {path}"), "")
                .await
                .status(),
            200,
            "{path}"
        );
        upstream.request().await;
    }
}
