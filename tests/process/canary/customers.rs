//! Several customers, one in trouble: nothing of either is told.

use super::{FIELDS, ask, end, holds_none, look_at_the_admin_side, post, said};
use crate::gateway::{FREE_PORTS, addresses};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

#[tokio::test]
async fn several_customers_keep_their_secrets_from_each_other_and_from_the_log() {
    let (good, bad) = (
        TokenEndpoint::granting().await,
        TokenEndpoint::rejecting().await,
    );
    let api = Upstream::responding(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let mut toml = String::from("[log]\nlevel = \"trace\"\n[token]\nstartup_wait = \"0s\"\n");
    for (customer, logins) in [("acme", &good), ("contoso", &bad)] {
        let secret = folder.path().join(customer);
        std::fs::write(&secret, format!("c4nary-secret-of-{customer}\n")).unwrap();
        toml += &format!(
            "[[customer]]\ncustomer_id = {customer:?}\nclient_id = \"client\"\n\
             client_secret = {{ file = {secret:?} }}\napi_url = {:?}\ntoken_url = {:?}\n",
            api.url(),
            logins.url(),
        );
    }
    let config = folder.path().join("gateway.toml");
    std::fs::write(&config, toml).unwrap();
    let mut gateway = Program::start(&["run", "--config", config.to_str().unwrap()], &FREE_PORTS);
    let (address, admin) = addresses(&mut gateway).await;
    good.wait_for_logins(1).await;
    bad.wait_for_logins(1).await;
    for fields in [
        "Citrix-CustomerId: contoso\r\n",
        "Citrix-CustomerId: fabrikam\r\n",
        "",
    ] {
        let response = ask(address, &post("/x", fields)).await;
        assert!(
            response.has("x-proxy-error"),
            "{fields}: {}",
            said(&response)
        );
        holds_none(&said(&response));
    }
    let two = format!(
        "GET /acme/serviceStates HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}\
         Citrix-CustomerId: contoso\r\n\r\n"
    );
    holds_none(&said(&ask(address, &two).await));
    look_at_the_admin_side(admin).await;
    end(gateway).await;
}
