//! Shortages of the machine, and their end. Descriptors: `open_files` and `peers`; a full disk behind
//! the log: `log_lines`.

use std::net::SocketAddr;
use std::process::Command;

use tokio::net::TcpStream;

use crate::gateway::{addresses, environment, get};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};
use testkit::wire::{Wire, wait_until, within_timeout};

/// A limit on the size of files stands for a full disk, which tests cannot have without privileges.
#[tokio::test]
async fn full_disk_disables_the_token_cache_until_there_is_space() {
    let upstream = Upstream::responding(OK).await;
    let logins = TokenEndpoint::granting().await;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("token");
    let (api, token) = (upstream.url(), logins.url());
    let mut variables = environment(&api, &token);
    variables.extend([
        (
            "CITRIX_AUTH_PROXY_TOKEN__CACHE_FILE",
            cache.to_str().unwrap(),
        ),
        (
            "CITRIX_AUTH_PROXY_TOKEN__CACHE_KEY",
            "a key of the test, 32 bytes or more",
        ),
        ("CITRIX_AUTH_PROXY_TOKEN__MIN_FORCED_INTERVAL", "1ms"),
    ]);
    let mut program = Program::start_with_limit("-Sf 0", &variables);
    let (callers, admin) = addresses(&mut program).await;
    let warning = program.logged("token cache unusable").await;
    let trouble = warning["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("writing failed"), "{warning}");
    assert_eq!(get(callers, "/").await.status(), 200);
    assert!(!cache.exists());

    let arguments = [
        format!("--pid={}", program.id()),
        "--fsize=unlimited:".into(),
    ];
    let limited = Command::new("prlimit").args(arguments).status();
    assert!(limited.unwrap().success());
    wait_until("the cache is written", || async {
        refresh(admin).await;
        cache.exists()
    })
    .await;
    assert_eq!(get(callers, "/").await.status(), 200);
    program.signal("TERM");
    assert_eq!(program.wait().await.code, Some(0));
}

/// Requests another token.
async fn refresh(admin: SocketAddr) {
    let mut wire = Wire::new(within_timeout(TcpStream::connect(admin)).await.unwrap());
    wire.write(
        "POST /tokens/acme/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n",
    )
    .await;
    wire.response().await;
}
