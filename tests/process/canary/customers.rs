//! Secrets of several customers, one of which cannot log in.

use super::{FIELDS, assert_no_secret, check_admin_listener, full_text, post, send, stop};
use crate::gateway::{EPHEMERAL_PORTS, addresses};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

#[tokio::test]
async fn several_customers_disclose_no_secret() {
    let (good, bad) = (
        TokenEndpoint::granting().await,
        TokenEndpoint::rejecting().await,
    );
    let api = Upstream::responding(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let mut toml = String::from("[log]\nlevel = \"trace\"\n[token]\nstartup_wait = \"0s\"\n");
    for (customer, token_endpoint) in [("acme", &good), ("contoso", &bad)] {
        let secret = folder.path().join(customer);
        std::fs::write(&secret, format!("c4nary-secret-of-{customer}\n")).unwrap();
        toml += &format!(
            "[[customer]]\ncustomer_id = {customer:?}\nclient_id = \"client\"\n\
             client_secret = {{ file = {secret:?} }}\napi_url = {:?}\ntoken_url = {:?}\n",
            api.url(),
            token_endpoint.url(),
        );
    }
    let config = folder.path().join("gateway.toml");
    std::fs::write(&config, toml).unwrap();
    let mut gateway = Program::start(
        &["run", "--config", config.to_str().unwrap()],
        &EPHEMERAL_PORTS,
    );
    let (address, admin) = addresses(&mut gateway).await;
    good.wait_for_logins(1).await;
    bad.wait_for_logins(1).await;
    for fields in [
        "Citrix-CustomerId: contoso\r\n",
        "Citrix-CustomerId: fabrikam\r\n",
        "",
    ] {
        let response = send(address, &post("/x", fields)).await;
        assert!(
            response.has("x-proxy-error"),
            "{fields}: {}",
            full_text(&response)
        );
        assert_no_secret(&full_text(&response));
    }
    let two = format!(
        "GET /acme/serviceStates HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}\
         Citrix-CustomerId: contoso\r\n\r\n"
    );
    assert_no_secret(&full_text(&send(address, &two).await));
    check_admin_listener(admin).await;
    stop(gateway).await;
}
