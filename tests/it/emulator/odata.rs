//! Monitor OData: what Power BI and Grafana read before the rows (contract §4).

use serde_json::json;

use super::{header, json, lab};

const SETS: [&str; 6] = [
    "Machines",
    "Sessions",
    "Connections",
    "Users",
    "DesktopGroups",
    "Applications",
];

#[tokio::test]
async fn service_document_lists_every_entity_set_that_metadata_describes() {
    let lab = lab().await;
    let metadata = lab.get("/monitorodata/$metadata").send().await.unwrap();
    assert_eq!(header(&metadata, "content-type"), Some("application/xml"));
    assert_eq!(header(&metadata, "odata-version"), Some("4.0"));
    let metadata = metadata.text().await.unwrap();
    for path in ["/monitorodata", "/monitorodata/"] {
        let document = lab.get_json(path).await;
        assert_eq!(
            document["@odata.context"],
            lab.url("/monitorodata/$metadata")
        );
        let names: Vec<_> = document["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|set| set["url"].as_str().unwrap())
            .collect();
        assert_eq!(names, SETS);
    }
    for set in SETS {
        assert!(metadata.contains(&format!("<EntitySet Name=\"{set}\"")));
        let page = lab.get_json(&format!("/monitorodata/{set}?$top=1")).await;
        for name in page["value"][0].as_object().unwrap().keys() {
            assert!(metadata.contains(&format!("<Property Name=\"{name}\"")));
        }
    }
    assert_eq!(metadata.matches("<EntityType ").count(), SETS.len());
}

#[tokio::test]
async fn count_is_plain_text_and_follows_the_filter() {
    let lab = lab().await;
    for set in SETS {
        for (query, count) in [
            ("", "2500"),
            ("?$top=3&$skip=7", "2500"),
            ("?$filter=endswith(Name,'-0007')", "1"),
        ] {
            let path = format!("/monitorodata/{set}/$count{query}");
            let response = lab.get(&path).send().await.unwrap();
            assert!(
                header(&response, "content-type")
                    .unwrap()
                    .starts_with("text/plain")
            );
            assert_eq!(response.text().await.unwrap(), count, "{path}");
        }
    }
    assert_eq!(
        lab.status(lab.get("/monitorodata/Nothing/$count")).await,
        404
    );
}

#[tokio::test]
async fn query_options_select_order_and_filter_rows() {
    let lab = lab().await;
    let page = lab
        .get_json("/monitorodata/Machines?$select=Name,LifecycleState&$orderby=LifecycleState,Name desc&$top=2&$skip=1&$count=true&$filter=LifecycleState eq 0 and Name lt 'ACME\\Machines-0100'")
        .await;
    assert_eq!(page["@odata.count"], 100);
    assert_eq!(
        page["value"],
        json!([
            { "Name": "ACME\\Machines-0098", "LifecycleState": 0 },
            { "Name": "ACME\\Machines-0097", "LifecycleState": 0 },
        ])
    );
    let context = page["@odata.context"].as_str().unwrap();
    assert!(context.ends_with("$metadata#Machines(Name,LifecycleState)"));
    for query in [
        "$filter=Name is 1",
        "$select=Nothing",
        "$orderby=Name up",
        "$skip=-1",
    ] {
        let path = format!("/monitorodata/Machines?{query}");
        assert_eq!(lab.status(lab.get(&path)).await, 400, "{query}");
    }
}

#[tokio::test]
async fn key_addresses_an_entity_its_property_and_its_value() {
    let lab = lab().await;
    let page = lab.get_json("/monitorodata/Users?$skip=5&$top=1").await;
    let key = page["value"][0]["Id"].as_str().unwrap();
    let path = format!("/monitorodata/Users({key})");
    let entity = lab.get_json(&path).await;
    assert_eq!(entity["Name"], "ACME\\Users-0005");
    let property = lab.get_json(&format!("{path}/Name")).await;
    assert_eq!(property["value"], "ACME\\Users-0005");
    let value = lab
        .get(&format!("{path}/Name/$value"))
        .send()
        .await
        .unwrap();
    assert_eq!(value.text().await.unwrap(), "ACME\\Users-0005");
    for path in [
        "/monitorodata/Users(x)",
        &format!("{path}/Nothing"),
        &format!("{path}/Name/x"),
    ] {
        assert_eq!(lab.status(lab.get(path)).await, 404, "{path}");
    }
}

#[tokio::test]
async fn analytics_have_the_same_format() {
    let lab = lab().await;
    let document = lab.get_json("/casodata/").await;
    assert_eq!(document["value"][0]["name"], "sessions");
    let metadata = lab.get("/casodata/$metadata").send().await.unwrap();
    assert!(metadata.text().await.unwrap().contains("Citrix.Analytics"));
    let count = lab.get("/casodata/users/$count").send().await.unwrap();
    assert_eq!(count.text().await.unwrap(), "2500");
    assert_eq!(
        json(lab.get("/casodata/users?$top=1").send().await.unwrap()).await["value"][0]["LifecycleState"],
        0
    );
}
