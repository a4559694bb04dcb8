//! Limits of the services (contract §4).

use std::time::Duration;

use citrix_emulator::{EmulatedCustomer, Faults, Options, Rate, ServiceLimits};
use serde_json::json;

use super::{Lab, header, json, lab_with};

async fn limited(limits: ServiceLimits) -> Lab {
    lab_with(Options {
        limits,
        ..Options::default()
    })
    .await
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

#[tokio::test]
async fn monitor_processes_one_query_per_customer() {
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
    let token = json(response).await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();

    // Longer than the test: the query of acme runs until its client cancels it.
    let monitor_latency = Duration::from_secs(600);
    lab.emulator.set_faults(Faults {
        monitor_latency,
        ..Faults::default()
    });
    let acme = tokio::spawn(lab.get("/monitorodata/Machines").send());
    while lab.emulator.stats().monitor_in_flight == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lab.status(lab.get("/resourcelocations")).await, 200);
    lab.emulator.set_faults(Faults::default());
    let contoso = lab
        .client
        .get(lab.url("/monitorodata/Machines"))
        .header("citrix-customerid", "contoso");
    let contoso = contoso.header("authorization", format!("CwsAuth Bearer={token}"));
    assert_eq!(lab.status(contoso).await, 200);
    assert_eq!(lab.status(lab.get("/monitorodata/Machines")).await, 429);
    acme.abort();

    let stats = lab.emulator.stats();
    let monitor = |customer: &str| stats.customers[customer].services["monitor"];
    assert_eq!(
        (
            monitor("acme").concurrency_peak,
            monitor("acme").rate_limited
        ),
        (2, 1)
    );
    assert_eq!(
        (
            monitor("contoso").concurrency_peak,
            monitor("contoso").rate_limited
        ),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn secure_private_access_limits_requests_per_window() {
    let lab = limited(ServiceLimits {
        access_security: rate("2/10s"),
        ..ServiceLimits::default()
    })
    .await;
    let ask = || lab.get("/accessSecurity/applications").send();
    for _ in 0..2 {
        assert_eq!(ask().await.unwrap().status(), 200);
    }
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), 429);
    let seconds: u64 = header(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    let message = format!("Rate limit is exceeded. Try again in {seconds} seconds.");
    assert_eq!(
        json(refused).await,
        json!({ "statusCode": 429, "message": message })
    );
    tokio::time::advance(Duration::from_secs(seconds)).await;
    assert_eq!(ask().await.unwrap().status(), 200);
    assert_eq!(
        lab.emulator.stats().customers["acme"].services["access-security"].rate_limited,
        1
    );
}

#[tokio::test]
async fn endpoint_management_returns_rate_and_rfc3339_date() {
    let lab = limited(ServiceLimits {
        endpoint_management: rate("1/1m"),
        ..ServiceLimits::default()
    })
    .await;
    let ask = || {
        let request = lab
            .post("/api/endpoint-management/report/$search")
            .header("content-length", "0");
        request.send()
    };
    let first = ask().await.unwrap();
    assert_eq!(
        (
            first.status().as_u16(),
            header(&first, "citrix-ratelimit-limit")
        ),
        (200, Some("1"))
    );
    assert_eq!(header(&first, "citrix-ratelimit-remaining"), Some("0"));
    let second = ask().await.unwrap();
    assert_eq!(second.status(), 429);
    let date = header(&second, "retry-after").unwrap();
    assert!(humantime::parse_rfc3339(date).is_ok(), "{date}");
}

#[tokio::test(start_paused = true)]
async fn login_rate_limits_logins() {
    let lab = limited(ServiceLimits {
        logins: Some(rate("2/1m")),
        ..ServiceLimits::default()
    })
    .await;
    lab.login().await;
    let form = lab.form(lab.emulator.client_secret());
    let refused = lab
        .client
        .post(lab.emulator.token_url("root"))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 429);
    assert!(header(&refused, "retry-after").is_some());
    tokio::time::advance(Duration::from_secs(60)).await;
    lab.login().await;
}
