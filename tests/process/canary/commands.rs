//! What the commands say, on both of their outputs, when something is wrong.

use super::{Secrets, ask, holds_none, post, said};
use crate::gateway::environment;
use crate::program::Program;

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_told_without_a_secret() {
    let secrets = Secrets::at("http://127.0.0.1:9", "http://127.0.0.1:9/login", "");
    let right = std::fs::read_to_string(&secrets.config).unwrap();
    let line = right
        .lines()
        .find(|line| line.starts_with("client_secret "))
        .unwrap();
    let token_url = right
        .lines()
        .find(|line| line.starts_with("token_url "))
        .unwrap();
    for (instead_of, wrong) in [
        (line, "client_secret = \"c4nary"),
        (line, "client_secret = c4nary"),
        (line, "client_secret c4nary"),
        (line, "client_secret = [\"c4nary\"]"),
        (line, "client_secret = { fil = \"c4nary\" }"),
        (line, "client_secret = { file = \"/run/c4nary\" }"),
        (line, "client_secret = { env = \"c4nary\" }"),
        (line, "client_secert = \"c4nary\""),
        (
            line,
            "client_secret = \"c4nary\"\nclient_secret = \"c4nary\"",
        ),
        (line, "client_secret = \"c4nary\"\nno_such_key = 1"),
        (
            token_url,
            "token_url = \"https://x:c4nary@trust.example/login\"",
        ),
        (
            token_url,
            "token_url = \"https://trust.example/login?secret=c4nary\"",
        ),
        (
            token_url,
            "token_url = \"https://trust.example/login#c4nary\"",
        ),
    ] {
        std::fs::write(&secrets.config, right.replace(instead_of, wrong)).unwrap();
        for command in ["check", "run"] {
            let ended = Program::run(&[command, "--config", secrets.config()], &[]).await;
            assert_eq!(ended.code, Some(64), "{command}, {wrong}: {ended:?}");
            holds_none(&format!("{ended:?}"));
        }
    }
    std::fs::write(&secrets.config, &right).unwrap();
    for (name, content) in [
        ("secret", "c4nary\0c4nary"),
        ("next", "c4nary\nc4nary"),
        ("secret", "\n"),
    ] {
        std::fs::write(secrets.folder().join(name), content).unwrap();
        for arguments in [&["check"][..], &["check", "--online"]] {
            let arguments = [arguments, &["--config", secrets.config()]].concat();
            holds_none(&format!("{:?}", Program::run(&arguments, &[]).await));
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_environment_is_told_without_a_secret() {
    for (name, value) in [
        ("CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECERT", "c4nary"),
        (
            "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET",
            "{ file = \"c4nary",
        ),
        (
            "CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET_NEXT",
            "c4nary\nc4nary",
        ),
        (
            "CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL",
            "https://x:c4nary@trust.example/",
        ),
        (
            "CITRIX_AUTH_PROXY_UPSTREAM__PROXY_URL",
            "http://x:c4nary@proxy.example:3128",
        ),
        ("CITRIX_AUTH_PROXY_ADMIN__SECRET_SHA256", "c4nary"),
    ] {
        for arguments in [
            &["check"][..],
            &["check", "--online"],
            &["healthcheck", "--admin", "127.0.0.1:1"],
        ] {
            let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
            holds_none(&format!("{:?}", Program::run(arguments, &variables).await));
        }
    }
    for arguments in [
        &["run", "--client-secret=c4nary"][..],
        &["check", "--client-secret=c4nary"],
    ] {
        holds_none(&Program::run(arguments, &[]).await.stderr);
    }
}

#[tokio::test]
async fn the_demo_prints_no_token_and_nothing_a_caller_sent() {
    let mut demo = Program::start(&["demo", "--listen", "127.0.0.1:0"], &[]);
    let mut address = None;
    loop {
        let line = demo.line().await;
        if let Some((_, rest)) = line.split_once("The gateway in front of it at     http://") {
            address = Some(rest.parse().unwrap());
        }
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let address = address.unwrap();
    for path in ["/cvad/manage/me", "/echo", "/status/401", "/upload"] {
        let response = ask(address, &post(path, "")).await;
        assert!(!said(&response).contains("eyJ"), "{}", said(&response));
    }
    demo.signal("INT");
    let ended = demo.end().await;
    assert_eq!(ended.code, Some(0));
    let told = format!("{ended:?}");
    holds_none(&told);
    assert!(!told.contains("eyJ"), "{told}");
}
