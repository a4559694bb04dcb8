//! Faults of paths, sites, regions and clocks (contract §1.6, §4 and §8).

use std::time::{Duration, SystemTime};

use citrix_emulator::{Emulator, Faults, Options, RedirectTarget, TokenFault};
use reqwest::{Response, Url};
use serde_json::{Value, json};

use super::{Lab, header, json, lab, lab_with};

fn inject(emulator: &Emulator, fault: &str) {
    emulator.add_fault(fault.parse().unwrap());
}

/// Injects a fault into one request and returns the response.
async fn with_fault(lab: &Lab, fault: &str) -> Response {
    inject(&lab.emulator, &format!("/resourcelocations={fault}*1"));
    lab.get("/resourcelocations").send().await.unwrap()
}

#[tokio::test]
async fn retry_delay_has_every_format() {
    let lab = lab().await;
    for (status, silent_body) in [
        (429, "Rate limit is exceeded."),
        (503, "common/serviceUnavailable"),
    ] {
        for format in ["", "-date", "-rfc3339", "-body", "-silent"] {
            let response = with_fault(&lab, &format!("{status}{format}:7")).await;
            assert_eq!(response.status(), status, "{format}");
            let hint = header(&response, "retry-after").map(str::to_owned);
            let body = response.text().await.unwrap();
            match (format, hint.as_deref()) {
                ("", Some(hint)) => assert_eq!(hint, "7"),
                ("-date", Some(hint)) => assert!(httpdate::parse_http_date(hint).is_ok(), "{hint}"),
                ("-rfc3339", Some(hint)) => {
                    assert!(humantime::parse_rfc3339(hint).is_ok(), "{hint}")
                }
                ("-body", None) => assert!(
                    body.contains(r#"{"name":"retryDelay","value":"7"}"#),
                    "{body}"
                ),
                ("-silent", None) => {
                    assert!(body.contains(silent_body) && !body.contains('7'), "{body}")
                }
                _ => panic!("{status}{format}: {hint:?}"),
            }
        }
    }
    assert_eq!(lab.status(lab.get("/resourcelocations")).await, 200);
    let stats = lab.emulator.stats();
    assert_eq!(stats.faults_met, 10);
    // Faults do not count as limits.
    assert_eq!(
        stats.customers["acme"].services["resource-locations"].rate_limited,
        0
    );
}

#[tokio::test]
async fn bad_gateway_has_no_transaction_id() {
    let lab = lab().await;
    let response = with_fault(&lab, "502").await;
    assert_eq!(
        (
            response.status().as_u16(),
            header(&response, "citrix-transactionid")
        ),
        (502, None)
    );
    let response = with_fault(&lab, "500").await;
    assert_eq!(
        (
            response.status().as_u16(),
            json(response).await["statusCode"].clone()
        ),
        (500, json!(500))
    );
    let response = with_fault(&lab, "401").await;
    assert_eq!(response.status(), 401);
    let response = with_fault(&lab, "403-region").await;
    let detail = "User is not authenticated for the specified resource.";
    assert_eq!(
        (response.status().as_u16(), &json(response).await["detail"]),
        (403, &json!(detail))
    );
}

#[tokio::test]
async fn cut_off_fault_truncates_body() {
    let lab = lab().await;
    for coding in ["identity", "gzip"] {
        inject(&lab.emulator, "/monitorodata=cut-off*1");
        let request = lab
            .get("/monitorodata/Machines")
            .header("accept-encoding", coding);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.bytes().await.is_err(), "{coding}");
    }
    assert_eq!(lab.status(lab.get("/monitorodata/Machines")).await, 200);
}

#[tokio::test]
async fn path_fault_affects_logins_but_not_control_paths() {
    let lab = lab().await;
    inject(&lab.emulator, "/=502");
    assert_eq!(
        lab.status(lab.client.post(lab.emulator.token_url("root")))
            .await,
        502
    );
    assert_eq!(
        lab.status(lab.client.get(lab.url("/_emulator/stats")))
            .await,
        200
    );
    // A missing token takes precedence over the fault.
    assert_eq!(
        lab.status(lab.client.get(lab.url("/resourcelocations")))
            .await,
        401
    );
}

#[tokio::test(start_paused = true)]
async fn frozen_site_thaws_after_activation() {
    let lab = lab().await;
    lab.emulator.freeze(Duration::from_secs(60));
    let paths = [
        "/cvad/manage/me",
        "/cvad/manage/Machines",
        "/citrix/orchestration/api/me",
    ];
    for path in paths {
        assert_eq!(lab.status(lab.get(path)).await, 530, "{path}");
    }
    assert_eq!(lab.status(lab.get("/resourcelocations")).await, 200);
    let activate = || {
        let path = "/resourceprovider/acme/site/activation?customerId=acme";
        lab.status(lab.post(path).header("content-length", "0"))
    };
    assert_eq!(activate().await, 202);
    assert_eq!(lab.status(lab.get("/cvad/manage/me")).await, 530);
    tokio::time::advance(Duration::from_secs(60)).await;
    for path in paths {
        assert_eq!(lab.status(lab.get(path)).await, 200, "{path}");
    }
    assert_eq!(activate().await, 200);
    assert_eq!(lab.emulator.stats().customers["acme"].site_activations, 2);
}

#[tokio::test]
async fn region_redirect_targets_second_listener() {
    let region_listen = Some("127.0.0.1:0".parse().unwrap());
    let lab = lab_with(Options {
        region_listen,
        ..Options::default()
    })
    .await;
    let region = lab.emulator.region_url().unwrap();
    let redirect = async |to| {
        lab.emulator.set_faults(Faults {
            region_redirect: Some(to),
            ..Faults::default()
        });
        let response = lab
            .get("/accessSecurity/sessionPolicy?limit=5")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 307);
        (
            header(&response, "location").unwrap().to_owned(),
            json(response).await,
        )
    };
    let (location, _) = redirect(RedirectTarget::To(
        "https://api-eu.cloud.com/feature-data_accesssecurity".to_owned(),
    ))
    .await;
    assert_eq!(
        location,
        "https://api-eu.cloud.com/feature-data_accesssecurity/sessionPolicy?limit=5"
    );

    let (location, body) = redirect(RedirectTarget::Other).await;
    assert_eq!(
        location,
        format!("{region}/feature-data_accesssecurity/sessionPolicy?limit=5")
    );
    assert_eq!(body["type"], "https://errors-api.cloud.com/common/Redirect");
    let names: Vec<_> = body["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| &pair["name"])
        .collect();
    assert_eq!(
        names,
        [
            "Citrix-CustomerId",
            "customerDataRegion",
            "currentAPIMRegion"
        ]
    );
    // The other region accepts the same token, under both paths.
    for path in ["feature-data_accesssecurity", "accessSecurity"] {
        let url = format!("{region}/{path}/sessionPolicy?limit=5");
        assert_eq!(
            lab.status(lab.authorize(lab.client.get(url))).await,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn region_redirect_without_second_listener_targets_another_path() {
    let lab = lab().await;
    lab.emulator.set_faults(Faults {
        region_redirect: Some(RedirectTarget::Other),
        ..Faults::default()
    });
    let response = lab
        .get("/accessSecurity/applications")
        .send()
        .await
        .unwrap();
    let location = header(&response, "location").unwrap();
    assert_eq!(
        location,
        lab.url("/feature-data_accesssecurity/applications")
    );
    assert_eq!(
        lab.status(lab.authorize(lab.client.get(location))).await,
        200
    );
}

#[tokio::test]
async fn retired_address_returns_410() {
    let lab = lab().await;
    let paths = [
        "/Citrix/Monitor/OData/v4/Data/Machines",
        "/citrix/orchestration/api/v1/acme/site/Machines",
        "/citrix/orchestration/api/techpreview/acme/site/Machines",
        "/cvadapis/me",
        "/cvadapis/61603f15-cdf9-4c7f-99ff-91636601a795/Machines",
    ];
    for path in paths {
        assert_eq!(
            lab.status(lab.get(path).header("customer", "acme")).await,
            410,
            "{path}"
        );
    }
    assert_eq!(lab.emulator.stats().retired, 5);
}

#[tokio::test]
async fn clock_skew_changes_date_and_token_claims() {
    let lab = lab_with(Options {
        faults: Faults {
            clock_skew: -86_400,
            ..Faults::default()
        },
        ..Options::default()
    })
    .await;
    let response = lab.get("/echo").send().await.unwrap();
    let date = httpdate::parse_http_date(header(&response, "date").unwrap()).unwrap();
    assert!(date + Duration::from_secs(80_000) < now(), "{date:?}");
    // The claims follow the same clock, and the token is valid.
    assert_eq!(response.status(), 200);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a wrong clock shows beside the machine's own"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

#[tokio::test]
async fn control_path_changes_faults() {
    let lab = lab().await;
    let url = lab.url("/_emulator/faults");
    let post = async |query: &[(&str, &str)]| {
        let url = Url::parse_with_params(&url, query).unwrap();
        lab.status(lab.client.post(url)).await
    };
    let faults = async || json(lab.client.get(&url).send().await.unwrap()).await;
    let both = [
        ("fault", "/cvad=502*2"),
        ("fault", "/resourcelocations=503-rfc3339:9"),
    ];
    assert_eq!(post(&both).await, 200);
    assert_eq!(
        post(&[
            ("token-fault", "html"),
            ("latency", "1ms"),
            ("clock-skew", "5")
        ])
        .await,
        200
    );
    let now = faults().await;
    assert_eq!(
        now["fault"],
        json!(["/cvad=502:1*2", "/resourcelocations=503-rfc3339:9"])
    );
    assert_eq!(
        (&now["token-fault"], &now["latency"]),
        (&json!("html"), &json!("1ms"))
    );
    assert_eq!(lab.status(lab.get("/cvad/manage/me")).await, 502);
    assert_eq!(faults().await["fault"][0], "/cvad=502:1*1");
    for wrong in [
        ("fault", "/cvad=teapot"),
        ("token-fault", "x"),
        ("latency", "long"),
        ("nothing", "1"),
    ] {
        assert_eq!(post(&[wrong]).await, 400, "{wrong:?}");
    }
    assert_eq!(lab.status(lab.client.delete(&url)).await, 200);
    let now = faults().await;
    assert_eq!(
        (&now["fault"], &now["token-fault"]),
        (&json!([]), &Value::Null)
    );

    let freeze = lab
        .client
        .post(lab.url("/_emulator/freeze?customer=acme&thaws_in=1h"));
    assert_eq!(lab.status(freeze).await, 200);
    assert_eq!(lab.status(lab.get("/cvad/manage/me")).await, 530);
    assert_eq!(
        lab.status(lab.client.get(lab.url("/_emulator/freeze")))
            .await,
        405
    );
    inject(&lab.emulator, "/monitorodata=429*1");
    lab.emulator.set_faults(Faults {
        token: Some(TokenFault::Empty),
        ..Faults::default()
    });
    assert_eq!(lab.status(lab.get("/monitorodata/Machines")).await, 200);
}
