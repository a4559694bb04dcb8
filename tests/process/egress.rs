//! The egress proxy of the environment, in the log of the real program.

use crate::gateway::{FREE_PORTS, SECRET};
use crate::program::Program;
use crate::upstream::Upstream;

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
    let leaves = program.logged("connections to Citrix leave through the egress proxy").await;
    assert_eq!(leaves["proxy"], down.host(), "{leaves}");
    let failed = program.logged("the login failed").await;
    let named = format!("the egress proxy {} cannot be reached: no TCP connection: ", down.host());
    assert!(failed["cause"].as_str().unwrap().starts_with(&named), "{failed}");
    assert_eq!(failed["outcome"], "egress_proxy");
    program.signal("TERM");
    let ended = program.end().await;
    assert!(!format!("{ended:?}").contains("c4nary"), "{ended:?}");
}
