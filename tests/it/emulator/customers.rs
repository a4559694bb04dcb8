//! Several customers, their clients and secrets (contract §1.5 and §7).

use std::time::Duration;

use citrix_emulator::{EmulatedCustomer, Options};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{Lab, json, lab_with};

const CONTOSO: &str =
    "contoso,site=c-site,client=contoso-client,secret=old==,secret=new==,client=second,secret=s==";

/// Starts an emulator with two customers: one has two sites, the other two clients.
async fn two_customers() -> Lab {
    let acme = "acme,site=first,site=second,client=emulator-client,secret=a==";
    let more_customers = vec![parse(CONTOSO)];
    lab_with(Options {
        customer: parse(acme),
        more_customers,
        ..Options::default()
    })
    .await
}

fn parse(text: &str) -> EmulatedCustomer {
    text.parse().ok().unwrap()
}

impl Lab {
    async fn try_login(&self, customer: &str, client: &str, secret: &str) -> Result<String, u16> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", secret),
        ];
        let response = self
            .client
            .post(self.emulator.token_url(customer))
            .form(&form)
            .send()
            .await
            .unwrap();
        match response.status().as_u16() {
            200 => Ok(json(response).await["access_token"]
                .as_str()
                .unwrap()
                .to_owned()),
            status => Err(status),
        }
    }

    /// Returns a GET with a token and a customer.
    fn get_as(&self, token: &str, customer: &str, path: &str) -> RequestBuilder {
        let request = self
            .client
            .get(self.url(path))
            .header("accept", "application/json");
        request
            .header("authorization", format!("CwsAuth Bearer={token}"))
            .header("citrix-customerid", customer)
    }
}

#[tokio::test]
async fn client_logs_in_only_for_its_own_customer() {
    let lab = two_customers().await;
    for (customer, client, secret, expected) in [
        ("contoso", "contoso-client", "old==", None),
        ("contoso", "contoso-client", "new==", None),
        ("CONTOSO", "second", "s==", None),
        ("root", "second", "s==", None),
        ("acme", "second", "s==", Some(400)),
        ("contoso", "second", "old==", Some(400)),
        ("contoso", "unknown", "old==", Some(400)),
    ] {
        let refused = lab.try_login(customer, client, secret).await.err();
        assert_eq!(refused, expected, "{customer} {client} {secret}");
    }
    let stats = lab.emulator.stats();
    assert_eq!(
        (
            stats.customers["contoso"].token_requests,
            stats.customers["contoso"].tokens_issued
        ),
        (6, 4)
    );
    assert_eq!(stats.customers["acme"].token_requests, 1);
}

#[tokio::test(start_paused = true)]
async fn secrets_expire_independently() {
    let contoso = parse("contoso,secret=old==@90s,secret=new==");
    let lab = lab_with(Options {
        more_customers: vec![contoso],
        ..Options::default()
    })
    .await;
    assert!(
        lab.try_login("contoso", "contoso-client", "old==")
            .await
            .is_ok()
    );
    tokio::time::advance(Duration::from_secs(91)).await;
    assert_eq!(
        lab.try_login("contoso", "contoso-client", "old==").await,
        Err(400)
    );
    assert!(
        lab.try_login("contoso", "contoso-client", "new==")
            .await
            .is_ok()
    );
    // Tokens issued for an expired secret remain valid.
    assert!(lab.emulator.expire_secret(lab.emulator.client_id(), 0));
    assert_eq!(lab.status(lab.get("/echo")).await, 200);
    assert!(!lab.emulator.expire_secret(lab.emulator.client_id(), 1));
}

#[tokio::test]
async fn foreign_token_is_rejected_in_error_format_of_service() {
    let lab = two_customers().await;
    let contoso = lab.try_login("contoso", "second", "s==").await.unwrap();
    for (path, status, part) in [
        ("/cvad/manage/me", 403, "common/authorization"),
        ("/resourcelocations", 403, "common/authorization"),
        ("/acme/resourcelocations", 403, "common/authorization"),
        ("/systemlog/records", 401, "invalid"),
        ("/monitorodata/Machines", 403, "Invalid Customer."),
    ] {
        let response = lab.get_as(&contoso, "acme", path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(response.text().await.unwrap().contains(part), "{path}");
        let own = path.replace("/acme/", "/contoso/");
        assert_eq!(
            lab.status(lab.get_as(&contoso, "contoso", &own)).await,
            200,
            "{own}"
        );
    }
    let stats = lab.emulator.stats();
    assert_eq!((stats.tokens.foreign_token, stats.refused_customer), (5, 5));
    assert_eq!(stats.customers["acme"].tokens.foreign_token, 5);
    let contoso = &stats.customers["contoso"];
    assert_eq!((contoso.tokens.foreign_token, contoso.tokens.valid), (0, 5));
    assert_eq!(contoso.services["resource-locations"].requests, 2);
    assert_eq!(contoso.services["monitor"].concurrency_peak, 1);
}

#[tokio::test]
async fn system_log_rejects_wrong_customer_with_401_or_403() {
    for (system_log_forbids, status) in [(false, 401), (true, 403)] {
        let lab = lab_with(Options {
            system_log_forbids,
            ..Options::default()
        })
        .await;
        let request = lab.get_as(&lab.token, "contoso", "/systemlog/records");
        assert_eq!(lab.status(request).await, status);
    }
}

#[tokio::test]
async fn me_lists_all_sites_of_token_customer() {
    let lab = two_customers().await;
    let sites = |me: &Value| -> Vec<String> {
        let sites = me["Customers"][0]["Sites"].as_array().unwrap();
        sites
            .iter()
            .map(|site| site["Id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        sites(&lab.get_json("/cvad/manage/me").await),
        ["first", "second"]
    );
    let contoso = lab.try_login("contoso", "second", "s==").await.unwrap();
    let me = json(
        lab.get_as(&contoso, "contoso", "/cvad/manage/me")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(sites(&me), ["c-site"]);
    let elsewhere = lab
        .get_as(&contoso, "contoso", "/cvad/manage/Machines")
        .header("citrix-instanceid", "first");
    assert_eq!(lab.status(elsewhere).await, 400);
}

#[tokio::test]
async fn job_is_visible_only_to_its_client() {
    let lab = two_customers().await;
    let [one, other] = [("contoso-client", "new=="), ("second", "s==")];
    let one = lab.try_login("contoso", one.0, one.1).await.unwrap();
    let other = lab.try_login("contoso", other.0, other.1).await.unwrap();
    let start = lab
        .client
        .post(lab.url("/cvad/manage/Machines/m/$reboot?async=true"));
    let start = start
        .header("authorization", format!("CwsAuth Bearer={one}"))
        .header("content-length", "0");
    let start = start
        .header("citrix-customerid", "contoso")
        .header("accept", "application/json");
    let response = start.send().await.unwrap();
    let location = super::header(&response, "location").unwrap().to_owned();
    let path = location.strip_prefix(&lab.emulator.base_url()).unwrap();
    assert_eq!(lab.status(lab.get_as(&other, "contoso", path)).await, 404);
    assert_eq!(lab.status(lab.get_as(&one, "contoso", path)).await, 200);
}

#[tokio::test]
async fn control_actions_apply_to_one_customer_or_all() {
    let lab = two_customers().await;
    let contoso = lab.try_login("contoso", "second", "s==").await.unwrap();
    let control = async |path: &str| {
        let response = lab
            .client
            .post(lab.url(&format!("/_emulator/{path}")))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(
        control("revoke?customer=contoso").await,
        (200, json!({ "revoked": 1 }).to_string())
    );
    assert_eq!(
        lab.status(lab.get_as(&contoso, "contoso", "/resourcelocations"))
            .await,
        401
    );
    assert_eq!(lab.status(lab.get("/resourcelocations")).await, 200);
    assert_eq!(control("expire?customer=unknown").await.0, 400);

    let expire = "expire-secret?customer=contoso&client=contoso-client&secret=0";
    assert_eq!(control(expire).await.0, 200);
    assert_eq!(
        lab.try_login("contoso", "contoso-client", "old==").await,
        Err(400)
    );
    assert!(
        lab.try_login("contoso", "contoso-client", "new==")
            .await
            .is_ok()
    );
    assert_eq!(
        control("expire-secret?customer=contoso&client=contoso-client&secret=2")
            .await
            .0,
        400
    );
    assert_eq!(control("expire-secret").await.0, 200);
    assert_eq!(
        lab.try_login("acme", "emulator-client", "a==").await,
        Err(400)
    );
}
