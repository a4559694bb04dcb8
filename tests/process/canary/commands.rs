//! Output of commands with an invalid configuration or environment.

use super::{Secrets, assert_no_secret, full_text, post, send};
use crate::gateway::environment;
use crate::program::Program;

#[tokio::test]
async fn invalid_configuration_discloses_no_secret() {
    let secrets = Secrets::at("http://127.0.0.1:9", "http://127.0.0.1:9/login", "");
    let valid = std::fs::read_to_string(&secrets.config).unwrap();
    let client_secret = valid
        .lines()
        .find(|line| line.starts_with("client_secret "))
        .unwrap();
    let token_url = valid
        .lines()
        .find(|line| line.starts_with("token_url "))
        .unwrap();
    for (original, invalid) in [
        (client_secret, "client_secret = \"c4nary"),
        (client_secret, "client_secret = c4nary"),
        (client_secret, "client_secret c4nary"),
        (client_secret, "client_secret = [\"c4nary\"]"),
        (client_secret, "client_secret = { fil = \"c4nary\" }"),
        (client_secret, "client_secret = { file = \"c4nary\" }"),
        (client_secret, "client_secret = { env = \"c4nary\" }"),
        (client_secret, "client_secert = \"c4nary\""),
        (
            client_secret,
            "client_secret = \"c4nary\"\nclient_secret = \"c4nary\"",
        ),
        (client_secret, "client_secret = \"c4nary\"\nno_such_key = 1"),
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
        std::fs::write(&secrets.config, valid.replace(original, invalid)).unwrap();
        for command in ["check", "run"] {
            let exit = Program::run(&[command, "--config", secrets.config()], &[]).await;
            assert_eq!(exit.code, Some(64), "{command}, {invalid}: {exit:?}");
            assert_no_secret(&format!("{exit:?}"));
        }
    }
    std::fs::write(&secrets.config, &valid).unwrap();
    for (name, content) in [
        ("secret", "c4nary\0c4nary"),
        ("next", "c4nary\nc4nary"),
        ("secret", "\n"),
    ] {
        std::fs::write(secrets.folder().join(name), content).unwrap();
        for arguments in [&["check"][..], &["check", "--online"]] {
            let arguments = [arguments, &["--config", secrets.config()]].concat();
            assert_no_secret(&format!("{:?}", Program::run(&arguments, &[]).await));
        }
    }
}

#[tokio::test]
async fn invalid_environment_discloses_no_secret() {
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
            variables.retain(|(other, _)| *other != name);
            variables.push((name, value));
            assert_no_secret(&format!("{:?}", Program::run(arguments, &variables).await));
        }
    }
    for arguments in [
        &["run", "--client-secret=c4nary"][..],
        &["check", "--client-secret=c4nary"],
    ] {
        assert_no_secret(&Program::run(arguments, &[]).await.stderr);
    }
}

#[tokio::test]
async fn demo_prints_neither_tokens_nor_request_content() {
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
        let response = send(address, &post(path, "")).await;
        assert!(
            !full_text(&response).contains("eyJ"),
            "{}",
            full_text(&response)
        );
    }
    demo.signal("INT");
    let exit = demo.wait().await;
    assert_eq!(exit.code, Some(0));
    let output = format!("{exit:?}");
    assert_no_secret(&output);
    assert!(!output.contains("eyJ"), "{output}");
}
