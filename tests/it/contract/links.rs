//! Citrix links of every kind and format (contract §5).

use citrix_emulator::{LinkBase, Links, Options};
use serde_json::json;

use super::{emulated, json_of, post};
use crate::harness::{Gateway, Upstream, get, get_with};

/// Returns the path of a link, which must point to the gateway.
fn local_target<'l>(gateway: &Gateway, link: &'l str) -> &'l str {
    let path = link.strip_prefix("http://localhost");
    path.unwrap_or_else(|| panic!("{link} does not point to {}", gateway.address()))
}

#[tokio::test]
async fn contract_4_5_analytics_next_links_are_rewritten() {
    let (_cloud, gateway) = emulated(Options::default()).await;
    let (mut rows, mut next) = (0, "/casodata/sessions?year=2025&month=01&day=15".to_owned());
    loop {
        let page = json_of(&gateway.raw(get(&next)).await);
        rows += page["value"].as_array().unwrap().len();
        let Some(link) = page["@odata.nextLink"].as_str() else {
            break;
        };
        local_target(&gateway, link).clone_into(&mut next);
    }
    assert_eq!(rows, 2500);
}

/// Returns every format of links.
pub(super) fn kinds_of_links() -> [Links; 4] {
    let of = |base, escaped| Links {
        base,
        escaped,
        ..Links::default()
    };
    [
        of(LinkBase::Own, false),
        of(
            LinkBase::Origin("https://API.cloud.com:443".to_owned()),
            true,
        ),
        of(LinkBase::Origin("http://api.cloud.com".to_owned()), false),
        Links {
            relative: true,
            ..Links::default()
        },
    ]
}

#[tokio::test]
async fn contract_5_next_links_can_be_followed_verbatim_to_the_end() {
    for links in kinds_of_links() {
        let relative = links.relative;
        let (cloud, gateway) = emulated(Options {
            links,
            ..Options::default()
        })
        .await;
        for start in [
            "/monitorodata/Machines?$filter=Name%20ne%20'+'",
            "/Citrix/Monitor/OData/v4/Data/Machines",
        ] {
            for coding in ["identity", "gzip", "deflate", "br"] {
                let (mut rows, mut next) = (0, start.to_owned());
                loop {
                    let fields = format!("Customer: acme\r\nAccept-Encoding: {coding}\r\n");
                    let page = json_of(&gateway.raw(get_with(&next, &fields)).await);
                    rows += page["value"].as_array().unwrap().len();
                    let context = page["@odata.context"].as_str().unwrap();
                    let expected = if relative {
                        ""
                    } else {
                        "http://localhost/monitorodata/"
                    };
                    assert_eq!(context, format!("{expected}$metadata#Machines"));
                    let Some(link) = page["@odata.nextLink"].as_str() else {
                        break;
                    };
                    next = if relative {
                        // To the path of the request (RFC 3986 section 5.2.3).
                        format!(
                            "{}/{link}",
                            next.split('?').next().unwrap().rsplit_once('/').unwrap().0
                        )
                    } else {
                        local_target(&gateway, link).to_owned()
                    };
                }
                assert_eq!(rows, 2500, "{start} {coding}");
            }
        }
        let stats = cloud.emulator.stats();
        assert_eq!((stats.retired, stats.monitor_rate_limited), (0, 0));
    }
}

#[tokio::test]
async fn contract_5_job_location_leads_from_202_to_its_result() {
    for links in kinds_of_links() {
        let (_cloud, gateway) = emulated(Options {
            links,
            ..Options::default()
        })
        .await;
        let machines = json_of(&gateway.raw(get("/cvad/manage/Machines?limit=1")).await);
        let machine = format!(
            "/cvad/manage/Machines/{}",
            machines["Items"][0]["Id"].as_str().unwrap()
        );
        let started = gateway
            .raw(post(&format!("{machine}/$reboot?async=true"), "{}"))
            .await;
        assert_eq!(
            (started.status(), started.field("content-length").as_deref()),
            (202, Some("0"))
        );
        let location = started.field("location").unwrap();
        for (coding, status) in [
            ("gzip", "NotStarted"),
            ("br", "InProgress"),
            ("identity", "Complete"),
        ] {
            let fields = format!("Accept-Encoding: {coding}\r\n");
            let job = json_of(
                &gateway
                    .raw(get_with(local_target(&gateway, &location), &fields))
                    .await,
            );
            assert_eq!(job["Status"], status);
            if let Some(results) = job["ResultLocation"].as_str() {
                let result = gateway.raw(get(local_target(&gateway, results))).await;
                assert_eq!(result.status(), 303);
                let object = result.field("location").unwrap();
                assert_eq!(local_target(&gateway, &object), machine);
                assert_eq!(gateway.raw(get(&machine)).await.status(), 200);
            }
        }
    }
}

#[tokio::test]
async fn contract_5_nested_and_app_layering_locations_are_rewritten() {
    for links in kinds_of_links() {
        let (_cloud, gateway) = emulated(Options {
            links: links.clone(),
            ..Options::default()
        })
        .await;
        let item = json!({ "Method": "POST", "RelativeUrl": "/Machines/m/$reboot?async=true" });
        let batch = gateway
            .raw(post(
                "/cvad/manage/$batch",
                &json!({ "Items": [item] }).to_string(),
            ))
            .await;
        let done = &json_of(&batch)["Items"][0];
        assert_eq!(done["Code"], 202);
        let headers = done["Headers"].as_array().unwrap();
        let location = headers
            .iter()
            .find(|header| header["Name"] == "Location")
            .unwrap();
        let job = gateway
            .raw(get(local_target(
                &gateway,
                location["Value"].as_str().unwrap(),
            )))
            .await;
        assert_eq!(json_of(&job)["Status"], "NotStarted");

        // Its host differs from the API gateway's, so a link with a foreign name is not rewritten.
        if links.base == LinkBase::Own {
            let path = "/applayering/services/Citrix.AppLayering/master/LayeringServices/OsLayers";
            let request = post(&format!("{path}?async=true"), "{}");
            let accept = "Accept: application/json;version=preview\r\nContent-Type";
            let started = gateway.raw(request.replace("Content-Type", accept)).await;
            let location = started.field("location").unwrap();
            assert_eq!(started.status(), 202, "{}", started.text());
            let followed = local_target(&gateway, &location).to_owned();
            let response = gateway
                .raw(get_with(
                    &followed,
                    "Accept: application/json;version=preview\r\n",
                ))
                .await;
            assert_eq!(response.status(), 200, "{followed}");
        }
    }
}

#[tokio::test]
async fn contract_5_identifiers_and_tenant_text_are_unchanged() {
    let body = r#"{"type":"https://errors-api.cloud.com/common/x","storeFrontUrl":"https://api.cloud.com/x",
        "url":"https://api.cloud.com/hook","imgUrl":"https://api.cloud.com/i","Location ":"https://api.cloud.com/x",
        "Description":"see \"ResultLocation\":\"https://api.cloud.com/x\"","items":["https://api.cloud.com/y"],
        "@odata.context":"https://identifiers-api.cloud.com/x"}"#;
    let upstream = Upstream::responding(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for path in ["/monitorodata/x", "/cvad/manage/me"] {
        assert_eq!(gateway.raw(get(path)).await.text(), body, "{path}");
    }
    let options = Options {
        machine_bytes: 2000,
        ..Options::default()
    };
    let (cloud, gateway) = emulated(options).await;
    let machine = &json_of(&gateway.raw(get("/cvad/manage/Machines?limit=1")).await)["Items"][0];
    let written = machine["Description"].as_str().unwrap();
    assert!(
        written.contains("https://api.cloud.com/cvad/manage/Machines"),
        "{written}"
    );
    drop(cloud);
}
