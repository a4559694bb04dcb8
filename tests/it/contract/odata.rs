//! Monitor OData as the libraries of tools request it (contract §4).

use citrix_emulator::Options;
use serde_json::{Value, json};

use super::links::kinds_of_links;
use super::{emulated, json_of};
use crate::harness::{get, get_with};

#[tokio::test]
async fn contract_4_5_service_document_and_metadata_lead_to_the_gateway() {
    for links in kinds_of_links() {
        let relative = links.relative;
        let (_cloud, gateway) = emulated(Options {
            links,
            ..Options::default()
        })
        .await;
        for path in [
            "/monitorodata",
            "/monitorodata/",
            "/Citrix/Monitor/OData/v4/Data/",
            "/casodata",
        ] {
            let service = if path == "/casodata" {
                path
            } else {
                "/monitorodata"
            };
            let document = json_of(&gateway.raw(get(path)).await);
            let base = match relative {
                true => String::new(),
                false => format!("http://localhost{service}/"),
            };
            assert_eq!(document["@odata.context"], format!("{base}$metadata"));
            for set in document["value"].as_array().unwrap() {
                let set = set["url"].as_str().unwrap();
                let page = json_of(&gateway.raw(get(&format!("{service}/{set}?$top=1"))).await);
                assert_eq!(page["@odata.context"], format!("{base}$metadata#{set}"));
            }
            let metadata = gateway.raw(get(&format!("{service}/$metadata"))).await;
            assert_eq!(
                metadata.field("content-type").as_deref(),
                Some("application/xml")
            );
            assert!(metadata.body.starts_with(b"<?xml"));
        }
    }
}

/// Requests for Monitor as libraries and plug-ins encode them: the target, `Accept`, and where in the
/// response which value is.
#[rustfmt::skip]
const REQUESTS: [(&str, &str, &str, &str); 22] = [
    // python-odata
    ("/Machines?%24top=3&%24filter=%28startswith%28Name%2C%20%27ACME%5CVDA-000%27%29%29&%24orderby=Name%20desc", "application/json", "/value/0/Name", r#""ACME\\VDA-0009""#),
    ("/Machines?%24filter=%28IsAssigned%20eq%20true%29&$skip=1000", "application/json", "/value/249/Name", r#""ACME\\VDA-2498""#),
    ("/Sessions?%24filter=%28StartDate%20ge%202025-01-16T00%3A00%3A00%2B00%3A00%29%20and%20%28ConnectionState%20eq%205%29&%24top=1", "application/json", "/value/0/StartDate", r#""2025-01-16T00:00:00Z""#),
    ("/Users?%24filter=%28contains%28UserName%2C%20%27user001%27%29%29", "application/json", "/value/9/Id", "20"),
    ("/Sessions?%24top=2&%24expand=User", "application/json", "/value/1/User/UserName", r#""user0007""#),
    ("/Sessions(c1700008-0000-4000-8000-000000000000)/Machine", "application/json", "/Name", r#""ACME\\VDA-0000""#),
    ("/Sessions?%24filter=%28User%2FUserName%20eq%20%27user0014%27%29", "application/json", "/value/0/UserId", "15"),
    // sqlalchemy-odata
    ("/Machines?%24top=500&%24skip=2500", "application/json", "/value", "[]"),
    // odatapy
    ("/Sessions?$filter=(ConnectionState%20eq%205)%20and%20(UserId%20lt%20100)&$orderby=UserId&$select=UserId,StartDate&$top=2", "application/json", "/value/1/UserId", "3"),
    ("/Users/$count", "text/plain", "", "2500"),
    // o.js
    ("/Machines?%24filter=startswith%28Name%2C%27ACME%5CVDA-000%27%29&%24orderby=Name%20desc&%24top=2&%24select=Name", "*/*", "/value/1", r#"{"Name":"ACME\\VDA-0008"}"#),
    ("/Machines/$count", "*/*", "", "2500"),
    ("/Sessions?%24top=1&%24expand=User%28%24select%3DUserName%29&%24select=UserId&%24count=true", "*/*", "/value/0/User", r#"{"UserName":"user0000"}"#),
    ("/Users(15)", "*/*", "/UserName", r#""user0014""#),
    // @odata/client
    ("/Machines?$filter=Name%20eq%20%27ACME\\VDA-0007%27", "application/json", "/value/0/DnsName", r#""vda-0007.acme.example""#),
    ("/Machines?$filter=IsAssigned%20eq%20true&$top=1&$count=true", "application/json", "/@odata.count", "1250"),
    ("/Machines?$filter=not%20(IsAssigned%20eq%20true)&$count=true&$top=1", "*/*", "/@odata.count", "1250"),
    // odata-query
    ("/Machines?$filter=Id%20in%20(c1700003-0000-4000-8000-000000000005)", "*/*", "/value/0/Name", r#""ACME\\VDA-0005""#),
    ("/Machines?$filter=contains(tolower(Name),%27vda-0001%27)", "*/*", "/value/0/Name", r#""ACME\\VDA-0001""#),
    // The OData data source of Grafana
    ("/Sessions?%24filter=StartDate+ge+2025-01-15T08%3A31%3A00Z+and+StartDate+le+2025-01-15T08%3A33%3A00Z+and+ConnectionState+eq+5&%24select=LogOnDuration%2CStartDate", "*/*", "/value", r#"[{"LogOnDuration":8037,"StartDate":"2025-01-15T08:31:00Z"},{"LogOnDuration":8074,"StartDate":"2025-01-15T08:32:00Z"}]"#),
    // Citrix's own examples
    ("/Users?$filter=Domain%20eq%20%27ACME%27&$top=1", "*/*", "/value/0/Domain", r#""ACME""#),
    ("/Sessions?$filter=(ConnectionState%20eq%205)%20and%20(ModifiedDate%20gt%202025-01-15T08:30:00Z%20and%20ModifiedDate%20le%202025-01-15T08:40:00Z%20)&$count=true", "*/*", "/@odata.count", "5"),
];

#[tokio::test]
async fn contract_4_requests_of_odata_libraries_return_what_they_select() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    for (target, accept, pointer, expected) in REQUESTS {
        let fields = format!("Accept: {accept}\r\nOData-MaxVersion: 4.0\r\n");
        let path = format!("/monitorodata{target}");
        let body = json_of(&gateway.raw(get_with(&path, &fields)).await);
        let found = body.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(found.to_string(), expected, "{target}");
    }
    let error = gateway
        .raw(get("/monitorodata/Machines?%24filter=Nothing%20eq%201"))
        .await;
    assert_eq!(error.status(), 400);
    assert_eq!(json_of(&error)["error"]["code"], json!("BadRequest"));
}
