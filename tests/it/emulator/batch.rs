//! `$batch`: several operations in one request (contract §5).

use citrix_emulator::{EmulatedCustomer, Options};
use serde_json::{Value, json};

use super::{Lab, json, lab, lab_with};

/// Sends the items to a path; the items of the response.
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
async fn every_item_has_an_answer_of_its_own() {
    let lab = lab().await;
    let items = json!([
        { "Reference": "0", "Method": "GET", "RelativeUrl": "Machines?limit=2" },
        { "Reference": "1", "Method": "POST", "RelativeUrl": "/Machines/m/$reboot?async=true", "Headers": [] },
        { "Reference": "2", "Method": "GET", "RelativeUrl": "Nothing" },
    ]);
    let answers = batch(&lab, "/cvad/manage/$batch", &items).await;
    let codes: Vec<_> = answers
        .iter()
        .map(|item| (item["Reference"].as_str().unwrap(), &item["Code"]))
        .collect();
    assert_eq!(
        codes,
        [("0", &json!(200)), ("1", &json!(202)), ("2", &json!(404))]
    );
    let machines: Value = serde_json::from_str(answers[0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(machines["Items"].as_array().unwrap().len(), 2);
    let location = &answers[1]["Headers"][0];
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
async fn an_items_own_token_must_be_good() {
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
    let answers = batch(&lab, "/cvad/manage/$batch", &items).await;
    let codes: Vec<_> = answers
        .iter()
        .map(|item| item["Code"].as_u64().unwrap())
        .collect();
    assert_eq!(codes, [200, 200, 200, 401, 401]);
    assert_eq!(lab.emulator.stats().refused_batch_items, 2);
}

#[tokio::test]
async fn on_the_direct_hosts_items_name_customer_and_site() {
    let lab = lab().await;
    let site = format!("acme/{}", lab.emulator.site_id());
    let path = format!("/citrix/orchestration/api/{site}/$batch");
    let url = format!("{site}/Machines/m/$reboot?async=true");
    let answers = batch(
        &lab,
        &path,
        &json!([{ "Method": "POST", "RelativeUrl": url }]),
    )
    .await;
    let location = answers[0]["Headers"][0]["Value"].as_str().unwrap();
    let jobs = lab.url(&format!("/citrix/orchestration/api/{site}/Jobs/"));
    assert!(location.starts_with(&jobs), "{location}");
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused() {
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
