//! Log messages of the egress proxy of the environment.

use crate::gateway::{EPHEMERAL_PORTS, Gateway, SECRET, environment};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::Upstream;

#[tokio::test]
async fn unreachable_proxy_is_logged_without_its_password() {
    let down = Upstream::refusing();
    let url = down.url().replace("http://", "http://user:c4nary@");
    let mut variables = vec![
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "client"),
        ("CITRIX_CLIENT_SECRET", SECRET),
        ("HTTPS_PROXY", &url),
        ("NO_PROXY", "10.0.0.0/8"),
    ];
    variables.extend(EPHEMERAL_PORTS);
    let mut program = Program::start(&[], &variables);
    let line = program
        .logged("connections to Citrix use the egress proxy")
        .await;
    assert_eq!(line["proxy"], down.host(), "{line}");
    let failed = program.logged("login failed").await;
    let expected = format!("egress proxy {}: TCP connection failed: ", down.host());
    assert!(
        failed["cause"].as_str().unwrap().starts_with(&expected),
        "{failed}"
    );
    assert_eq!(failed["outcome"], "egress_proxy");
    program.signal("TERM");
    let exit = program.wait().await;
    assert!(!format!("{exit:?}").contains("c4nary"), "{exit:?}");
}

#[tokio::test]
async fn failed_request_logs_the_proxy_and_the_cause() {
    let (down, token_endpoint) = (Upstream::refusing(), TokenEndpoint::granting().await);
    let (proxy, url) = (
        down.url().replace("http://", "http://user:c4nary@"),
        token_endpoint.url(),
    );
    let mut variables = environment("https://api.invalid", &url);
    variables.push(("HTTPS_PROXY", &proxy));
    let gateway = Gateway::start(&[], &variables).await;
    let mut caller = gateway.connect().await;
    caller
        .write("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let response = caller.response().await;
    response.problem(502, "upstream_connect");
    gateway.program.signal("TERM");
    let exit = gateway.wait().await;
    assert!(
        !format!("{exit:?} {}", response.text()).contains("c4nary"),
        "{exit:?}"
    );
    let log = exit.log();
    let line = log
        .iter()
        .find(|line| line["reason"] == "upstream_connect")
        .unwrap();
    // The failing hop, then the error of the system, each once.
    let expected = format!("egress proxy {}: TCP connection failed", down.host());
    assert_eq!(
        line["cause"],
        format!("{expected}: Connection refused (os error 111)"),
        "{line}"
    );
}
