//! Ids that identify an exchange at Citrix and in the gateway (interface §4.2).

use uuid::Uuid;

use crate::harness::{Gateway, OK, Upstream, get, get_with};

const NAMES: [&str; 3] = [
    "citrix-transactionid",
    "x-cws-transactionid",
    "cc-transactionid",
];

#[tokio::test]
async fn missing_id_is_generated_and_returned_to_the_caller() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = gateway.raw(get("/")).await;
        let id = upstream
            .request()
            .await
            .field("citrix-transactionid")
            .unwrap();
        Uuid::parse_str(&id).unwrap();
        assert_eq!(response.field("citrix-transactionid"), Some(id.clone()));
        assert!(!ids.contains(&id));
        ids.push(id);
    }
}

#[tokio::test]
async fn callers_id_is_forwarded_and_returned_if_citrix_sends_none() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let response = gateway
        .raw(get_with("/", "Citrix-TransactionId: Caller-1\r\n"))
        .await;
    assert_eq!(
        upstream
            .request()
            .await
            .field("citrix-transactionid")
            .as_deref(),
        Some("Caller-1")
    );
    assert_eq!(
        response.field("citrix-transactionid").as_deref(),
        Some("Caller-1")
    );
}

#[tokio::test]
async fn invalid_id_is_replaced() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    for fields in [
        "Citrix-TransactionId: a\r\nCitrix-TransactionId: b\r\n",
        "Citrix-TransactionId: a b\r\n",
    ] {
        gateway.raw(get_with("/", fields)).await;
        let id = upstream
            .request()
            .await
            .field("citrix-transactionid")
            .unwrap();
        Uuid::parse_str(&id).unwrap();
    }
}

#[tokio::test]
async fn every_citrix_id_passes_unchanged() {
    for citrix_name in NAMES {
        let ok = OK.replace(
            "Content-Type",
            &format!("{citrix_name}: of-{citrix_name}\r\nContent-Type"),
        );
        let upstream = Upstream::responding(ok).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let response = gateway
            .raw(get_with("/", "Citrix-TransactionId: caller\r\n"))
            .await;
        for name in NAMES {
            let expected = (name == citrix_name).then(|| format!("of-{citrix_name}"));
            assert_eq!(response.field(name), expected, "{name} with {citrix_name}");
        }
    }
}

#[tokio::test]
async fn contract_3_empty_citrix_id_counts_as_absent() {
    for citrix_name in NAMES {
        let bad =
            format!("HTTP/1.1 502 Bad Gateway\r\n{citrix_name}:\r\nContent-Length: 0\r\n\r\n");
        let upstream = Upstream::responding(bad).await;
        let gateway = Gateway::in_front_of(&upstream).start().await;
        let response = gateway
            .raw(get_with("/", "Citrix-TransactionId: caller\r\n"))
            .await;
        assert_eq!(
            response.field("citrix-transactionid").as_deref(),
            Some("caller"),
            "{citrix_name}"
        );
    }
}

#[tokio::test]
async fn every_response_has_its_own_request_id() {
    let upstream = Upstream::responding(
        OK.replace("Content-Type", "X-Proxy-Request-Id: forged\r\nContent-Type"),
    )
    .await;
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let mut ids = Vec::new();
    for request in [get("/"), get("/"), get_with("/", "Origin: null\r\n")] {
        let response = gateway
            .raw(get_with("/", "X-Proxy-Request-Id: forged\r\n"))
            .await;
        assert_eq!(response.fields("x-proxy-request-id").len(), 1);
        let id = gateway
            .raw(request)
            .await
            .field("x-proxy-request-id")
            .unwrap();
        Uuid::parse_str(&id).unwrap();
        assert!(!ids.contains(&id));
        ids.push(id);
    }
}

#[tokio::test]
async fn gateway_error_has_the_id_in_header_and_body() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::in_front_of(&upstream).start().await;
    let request = get_with("/", "Citrix-TransactionId: caller-2\r\n");
    let problem = gateway.raw(request).await.problem(502, "upstream_connect");
    assert_eq!(problem["parameters"][0]["value"], "caller-2");
    let problem = gateway.raw(get("/")).await.problem(502, "upstream_connect");
    Uuid::parse_str(problem["parameters"][0]["value"].as_str().unwrap()).unwrap();
}
