//! Profile-guided builds can be trained: the gateway responds to their traffic as it should.

use std::path::Path;

#[test]
fn gateway_responds_to_the_training_as_expected() {
    let binary = Path::new(env!("CARGO_BIN_EXE_citrix-auth-proxy"));
    let sent = training::train(binary, 1).unwrap();
    assert!(sent > 1000, "{sent}");
}
