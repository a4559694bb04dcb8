//! `$batch`: several operations in one request (contract §5).

use citrix_emulator::{EmulatedCustomer, Options};
use serde_json::{Value, json};

use super::{Lab, json, lab, lab_with};

/// Sends a batch and returns the items of the response.
async fn batch(lab: &Lab, path: &str, items: &Value) -> Vec<Value> {
    let request = lab
        .post(path)
        .header("content-type", "application/json; charset=utf-8");
    let response = request
        .body(json!({ "Items": items }).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    json(response).await["Items"].as_array().unwrap().clone()
}

fn authorized(value: &str) -> Value {
    json!([{ "Name": "Authorization", "Value": value }])
}

#[tokio::test]
async fn batch_returns_one_response_per_item() {
    let lab = lab().await;
    let items = json!([
        { "Reference": "0", "Method": "GET", "RelativeUrl": "Machines?limit=2" },
        { "Reference": "1", "Method": "POST", "RelativeUrl": "/Machines/m/$reboot?async=true", "Headers": [] },
        { "Reference": "2", "Method": "GET", "RelativeUrl": "Nothing" },
    ]);
    let responses = batch(&lab, "/cvad/manage/$batch", &items).await;
    let codes: Vec<_> = responses
        .iter()
        .map(|item| (item["Reference"].as_str().unwrap(), &item["Code"]))
        .collect();
    assert_eq!(
        codes,
        [("0", &json!(200)), ("1", &json!(202)), ("2", &json!(404))]
    );
    let machines: Value = serde_json::from_str(responses[0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(machines["Items"].as_array().unwrap().len(), 2);
    let location = &responses[1]["Headers"][0];
    assert_eq!(location["Name"], "Location");
    let job = location["Value"]
        .as_str()
        .unwrap()
        .strip_prefix(&lab.url(""))
        .unwrap();
    assert!(job.starts_with("/cvad/manage/Jobs/"), "{job}");
    assert_eq!(lab.get_json(job).await["Status"], "NotStarted");
}

#[tokio::test]
async fn invalid_token_of_item_returns_401_for_item() {
    let contoso: EmulatedCustomer = "contoso,client=c,secret=s==".parse().ok().unwrap();
    let lab = lab_with(Options {
        more_customers: vec![contoso],
        ..Options::default()
    })
    .await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "c"),
        ("client_secret", "s=="),
    ];
    let response = lab
        .client
        .post(lab.emulator.token_url("contoso"))
        .form(&form)
        .send()
        .await
        .unwrap();
    let foreign = json(response).await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let me = |headers| json!({ "Reference": "r", "Method": "GET", "RelativeUrl": "me", "Headers": headers });
    let items = json!([
        me(authorized(&format!("Bearer {}", lab.token))),
        me(authorized(&format!("CwsAuth Bearer={}", lab.token))),
        me(json!([])),
        me(authorized("Bearer a-dummy")),
        me(authorized(&format!("Bearer {foreign}"))),
    ]);
    let responses = batch(&lab, "/cvad/manage/$batch", &items).await;
    let codes: Vec<_> = responses
        .iter()
        .map(|item| item["Code"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [200, 200, 200, 401, 401]);
    assert_eq!(lab.emulator.stats().refused_batch_items, 2);
}

#[tokio::test]
async fn direct_host_items_include_customer_and_site() {
    let lab = lab().await;
    let site = format!("acme/{}", lab.emulator.site_id());
    let path = format!("/citrix/orchestration/api/{site}/$batch");
    let url = format!("{site}/Machines/m/$reboot?async=true");
    let responses = batch(
        &lab,
        &path,
        &json!([{ "Method": "POST", "RelativeUrl": url }]),
    )
    .await;
    let location = responses[0]["Headers"][0]["Value"].as_str().unwrap();
    let jobs = lab.url(&format!("/citrix/orchestration/api/{site}/Jobs/"));
    assert!(location.starts_with(&jobs), "{location}");
}

#[tokio::test]
async fn invalid_batch_returns_400() {
    let lab = lab().await;
    for (content_type, body, status) in [
        ("application/json", "{", 400),
        ("application/json", "{}", 400),
        ("text/plain", "{}", 415),
        ("application/json; charset=latin-1", "{}", 415),
    ] {
        let request = lab
            .post("/cvad/manage/$batch")
            .header("content-type", content_type)
            .body(body);
        assert_eq!(lab.status(request).await, status, "{content_type} {body}");
    }
}
