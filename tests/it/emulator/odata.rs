//! Monitor OData: what Power BI and Grafana read before the rows (contract §4).

use serde_json::json;

use super::{header, json, lab};

/// Entity sets with their number of rows.
const SETS: [(&str, usize); 7] = [
    ("Machines", 2500),
    ("Sessions", 2500),
    ("Connections", 2500),
    ("Users", 2500),
    ("DesktopGroups", 12),
    ("Catalogs", 5),
    ("Applications", 40),
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
        assert_eq!(names, SETS.map(|(name, _)| name));
    }
    for (set, _) in SETS {
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
    for (set, rows) in SETS {
        for (query, count) in [
            ("", rows),
            ("?$top=3&$skip=7", rows),
            ("?$filter=ModifiedDate lt 2000-01-01T00:00:00Z", 0),
        ] {
            let path = format!("/monitorodata/{set}/$count{query}");
            let response = lab.get(&path).send().await.unwrap();
            assert!(
                header(&response, "content-type")
                    .unwrap()
                    .starts_with("text/plain")
            );
            let text = response.text().await.unwrap();
            assert_eq!(text, count.to_string(), "{path}");
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
        .get_json("/monitorodata/Machines?$select=Name,LifecycleState&$orderby=LifecycleState,Name desc&$top=2&$skip=1&$count=true&$filter=LifecycleState eq 0 and Name lt 'ACME\\VDA-0100'")
        .await;
    assert_eq!(page["@odata.count"], 100);
    assert_eq!(
        page["value"],
        json!([
            { "Name": "ACME\\VDA-0098", "LifecycleState": 0 },
            { "Name": "ACME\\VDA-0097", "LifecycleState": 0 },
        ])
    );
    let context = page["@odata.context"].as_str().unwrap();
    assert!(context.ends_with("$metadata#Machines(Name,LifecycleState)"));
    // Null sorts first.
    for (direction, address) in [("", json!(null)), (" desc", json!("10.168.9.99"))] {
        let path = format!("/monitorodata/Machines?$orderby=IPAddress{direction}&$top=1");
        let page = lab.get_json(&path).await;
        assert_eq!(page["value"][0]["IPAddress"], address);
    }
}

#[tokio::test]
async fn expand_includes_the_related_row() {
    let lab = lab().await;
    let path = "/monitorodata/Sessions?$top=1&$skip=2&$select=UserId&$expand=User($select=UserName),Machine($select=Name;$expand=DesktopGroup($select=Name))";
    let page = lab.get_json(path).await;
    assert_eq!(
        page["value"][0],
        json!({
            "UserId": 15,
            "User": { "UserName": "user0014" },
            "Machine": { "Name": "ACME\\VDA-0002", "DesktopGroup": { "Name": "Group 2" } },
        })
    );
    let context = page["@odata.context"].as_str().unwrap();
    assert!(
        context.ends_with(
            "$metadata#Sessions(UserId,User(UserName),Machine(Name,DesktopGroup(Name)))"
        )
    );
}

#[tokio::test]
async fn invalid_and_unsupported_options_are_rejected() {
    let lab = lab().await;
    let sets = "/monitorodata/Machines";
    for (path, status, reason) in [
        (format!("{sets}?$filter=Name is 1"), 400, "Syntax error"),
        (format!("{sets}?$filter=Nothing eq 1"), 400, "'Nothing' on type 'Machine'"),
        (format!("{sets}?$select=Nothing"), 400, "'Nothing'"),
        (format!("{sets}?$orderby=Nothing"), 400, "'Nothing'"),
        (format!("{sets}?$orderby=Name up"), 400, "'Name up'"),
        (format!("{sets}?$orderby=Name,Name"), 400, "more than once"),
        (format!("{sets}?$expand=Sessions"), 400, "'Sessions'"),
        (format!("{sets}?$expand=Catalog($top=1)"), 501, "'$top'"),
        (format!("{sets}?$expand=Catalog("), 400, "'Catalog('"),
        (
            "/monitorodata/Sessions?$expand=CurrentConnection($expand=Session($expand=CurrentConnection($expand=Session)))".to_owned(),
            400,
            "too deeply nested",
        ),
        (format!("{sets}?$top=-1"), 400, "'-1' for '$top'"),
        (format!("{sets}?$skip=x"), 400, "'x' for '$skip'"),
        (format!("{sets}?$count=maybe"), 400, "'maybe' for '$count'"),
        (format!("{sets}?$top=1&%24TOP=1"), 400, "more than once"),
        (format!("{sets}?$apply=aggregate($count as n)"), 501, "'$apply'"),
        (format!("{sets}?$search=x"), 501, "'$search'"),
        (format!("{sets}?$skiptoken=x"), 400, "'$skiptoken'"),
        (format!("{sets}?$inlinecount=allpages"), 400, "'$inlinecount'"),
        (format!("{sets}?$format=atom"), 406, "'atom'"),
        ("/monitorodata/Users(1)?$filter=true".to_owned(), 400, "'$filter'"),
        ("/monitorodata?$top=1".to_owned(), 400, "'$top'"),
        ("/monitorodata/$metadata?$format=json".to_owned(), 406, "'json'"),
    ] {
        let response = lab.get(&path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let message = json(response).await["error"]["message"].to_string();
        assert!(message.contains(reason), "{path}: {message}");
    }
    for path in [
        "/monitorodata?$format=json",
        "/monitorodata/Machines?$format=application/json;odata.metadata=minimal&$top=1&x=y",
        "/monitorodata/$metadata?$format=application/xml",
    ] {
        assert_eq!(lab.status(lab.get(path)).await, 200, "{path}");
    }
}

#[tokio::test]
async fn next_links_keep_all_options() {
    let lab = lab().await;
    let options = "$filter=IsAssigned&$orderby=Name%20desc&$select=Name&$expand=Catalog($select=Name)&$count=true&x=a+b";
    let mut next = lab.url(&format!(
        "/monitorodata/Machines?{options}&$top=1100&$skip=10"
    ));
    let mut names = Vec::new();
    loop {
        let response = lab.authorize(lab.client.get(&next)).send().await.unwrap();
        let page = json(response).await;
        assert_eq!(page["@odata.count"], 1250);
        for row in page["value"].as_array().unwrap() {
            assert!(row["Catalog"]["Name"].is_string() && row.get("Id").is_none());
            names.push(row["Name"].as_str().unwrap().to_owned());
        }
        let Some(link) = page["@odata.nextLink"].as_str() else {
            break;
        };
        let expected = format!("/monitorodata/Machines?{options}&$top=100&$skip=1010");
        assert_eq!(link, lab.url(&expected));
        link.clone_into(&mut next);
    }
    assert_eq!(names.len(), 1100);
    assert_eq!(names[0], "ACME\\VDA-2478");
    assert!(names.is_sorted_by(|left, right| left > right));
}

#[tokio::test]
async fn key_addresses_an_entity_its_property_and_its_value() {
    let lab = lab().await;
    let sessions = lab.get_json("/monitorodata/Sessions?$top=1&$skip=2").await;
    let key = sessions["value"][0]["SessionKey"].as_str().unwrap();
    let session = format!("/monitorodata/Sessions({key})");
    for path in [
        "/monitorodata/Users(15)",
        "/monitorodata/Users(Id=15)",
        &format!("{session}/User"),
    ] {
        let entity = lab.get_json(path).await;
        assert_eq!(entity["UserName"], "user0014", "{path}");
        let context = entity["@odata.context"].as_str().unwrap();
        assert!(context.ends_with("$metadata#Users/$entity"), "{path}");
    }
    let path = "/monitorodata/Users(15)?$select=Domain,Domain";
    let selected = lab.get_json(path).await;
    let context = lab.url("/monitorodata/$metadata#Users(Domain)/$entity");
    assert_eq!(
        selected,
        json!({ "@odata.context": context, "Domain": "ACME" })
    );

    let property = lab.get_json("/monitorodata/Users(15)/UserName").await;
    assert_eq!(property["value"], "user0014");
    for (path, text) in [
        ("/monitorodata/Users(15)/UserName/$value", "user0014"),
        ("/monitorodata/Users(15)/Id/$value", "15"),
        (&format!("{session}/User/Id/$value"), "15"),
        (
            &format!("{session}/MachineId/$value"),
            "c1700003-0000-4000-8000-000000000002",
        ),
        (
            &format!("{session}/StartDate/$value"),
            "2025-01-15T08:32:00Z",
        ),
    ] {
        let value = lab.get(path).send().await.unwrap();
        assert_eq!(value.text().await.unwrap(), text, "{path}");
    }
    for (path, status) in [
        ("/monitorodata/Users(x)", 404),
        ("/monitorodata/Users(2501)", 404),
        ("/monitorodata/Users(15", 404),
        ("/monitorodata/Users(15)/Nothing", 404),
        ("/monitorodata/Users(15)/UserName/x", 404),
        (&format!("{session}/FailureDate"), 204),
        (&format!("{session}/FailureDate/$value"), 204),
    ] {
        assert_eq!(lab.status(lab.get(path)).await, status, "{path}");
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
    let page = lab.get_json("/casodata/users?year=2025&$top=1").await;
    assert_eq!(page["value"][0]["UserName"], "user0000");
    let user = lab.get_json("/casodata/users('user0007')").await;
    assert_eq!(user["TotalSessions"], 4);
}
