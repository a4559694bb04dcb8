//! The egress proxy of the environment, in the log of the real program.

use crate::gateway::{FREE_PORTS, Gateway, SECRET, environment};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::Upstream;

#[tokio::test]
async fn a_proxy_that_is_down_is_named_in_the_log_and_its_password_is_not() {
    let down = Upstream::refusing();
    let url = down.url().replace("http://", "http://user:c4nary@");
    let mut variables = vec![
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "client"),
        ("CITRIX_CLIENT_SECRET", SECRET),
        ("HTTPS_PROXY", &url),
        ("NO_PROXY", "10.0.0.0/8"),
    ];
    variables.extend(FREE_PORTS);
    let mut program = Program::start(&[], &variables);
    let leaves = program
        .logged("connections to Citrix use the egress proxy")
        .await;
    assert_eq!(leaves["proxy"], down.host(), "{leaves}");
    let failed = program.logged("login failed").await;
    let named = format!("egress proxy {}: TCP connection failed: ", down.host());
    assert!(
        failed["cause"].as_str().unwrap().starts_with(&named),
        "{failed}"
    );
    assert_eq!(failed["outcome"], "egress_proxy");
    program.signal("TERM");
    let ended = program.end().await;
    assert!(!format!("{ended:?}").contains("c4nary"), "{ended:?}");
}

#[tokio::test]
async fn a_request_that_it_does_not_let_out_is_logged_with_its_name_and_what_it_answered() {
    let (down, logins) = (Upstream::refusing(), TokenEndpoint::granting().await);
    let (proxy, url) = (
        down.url().replace("http://", "http://user:c4nary@"),
        logins.url(),
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
    let ended = gateway.end().await;
    assert!(
        !format!("{ended:?} {}", response.text()).contains("c4nary"),
        "{ended:?}"
    );
    let log = ended.log();
    let line = log
        .iter()
        .find(|line| line["reason"] == "upstream_connect")
        .unwrap();
    // What we say, then what the system says, each once.
    let named = format!("egress proxy {}: TCP connection failed", down.host());
    assert_eq!(
        line["cause"],
        format!("{named}: Connection refused (os error 111)"),
        "{line}"
    );
}
