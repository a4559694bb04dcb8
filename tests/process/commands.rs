//! The commands that do something and end.

use crate::gateway::{Gateway, environment};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

#[tokio::test]
async fn help_and_version_go_to_stdout_and_are_no_failure() {
    let version = format!("citrix-auth-proxy {}\n", env!("CARGO_PKG_VERSION"));
    for (arguments, expected) in [
        (&["--version"][..], version.as_str()),
        (&["--help"], "Usage:"),
        (&["help"], "Usage:"),
        (&["run", "--help"], "--config"),
        (&["check", "--help"], "--online"),
    ] {
        let ended = Program::run(arguments, &[]).await;
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
        assert!(
            ended.stdout.contains(expected),
            "{arguments:?}: {}",
            ended.stdout
        );
    }
    let help = Program::run(&["--help"], &[]).await.stdout;
    for command in [
        "run",
        "check",
        "demo",
        "emulator",
        "caller",
        "healthcheck",
        "completions",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} in {help}"
        );
    }
}

#[tokio::test]
async fn a_mistake_on_the_command_line_is_64() {
    for arguments in [
        &["--no-such-flag"][..],
        &["run", "--no-such-flag"],
        &["no-such-command"],
        &["run", "--config"],
        &["completions"],
        &["completions", "no-such-shell"],
        &["healthcheck", "--admin", "nonsense"],
        &["demo", "--listen", "nonsense"],
        &["check", "extra"],
    ] {
        let ended = Program::run(arguments, &[]).await;
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(64), ""),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert_ne!(ended.stderr, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn check_reports_every_problem_at_once() {
    let ended = Program::run(
        &[
            "check",
            "--config",
            "tests/fixtures/config/five-mistakes.toml",
        ],
        &[],
    )
    .await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""));
    for expected in [
        "custmer_id",
        "customer_id",
        "citrix.client_secret",
        "0.0.0.0:8080",
        "limits.max_in_flight",
        "limits.max_header_bytes",
        "upstream.connect_timeout",
    ] {
        assert!(
            ended.stderr.contains(expected),
            "{expected} in {}",
            ended.stderr
        );
    }
    let told = ended.stderr.lines().last().unwrap();
    assert_eq!(
        told,
        format!("{} problems found", ended.stderr.lines().count() - 1),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn check_says_what_the_configuration_means() {
    let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    let ended = Program::run(&["check"], &variables).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for expected in [
        "acme",
        "http://127.0.0.1:9/token",
        "127.0.0.1:0",
        "admits     every client that can connect\n",
    ] {
        assert!(
            ended.stdout.contains(expected),
            "{expected} in {}",
            ended.stdout
        );
    }
    assert!(!ended.stdout.contains("c4nary"), "{}", ended.stdout);
}

#[tokio::test]
async fn check_says_where_each_customer_logs_in_and_goes() {
    let secrets = [
        ("CONTOSO_SECRET", "c4nary-1"),
        ("FABRIKAM_SECRET", "c4nary-2"),
    ];
    let ended = Program::run(
        &["check", "--config", "tests/fixtures/config/customers.toml"],
        &secrets,
    )
    .await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for line in [
        "customer   contoso logs in at https://api.cloud.com/cctrustoauth2/contoso/tokens/clients",
        "customer   fabrikam logs in at https://api.citrixcloud.jp/cctrustoauth2/fabrikam/tokens/clients \
         (default)",
        "route      / of contoso -> https://api.cloud.com",
        "route      / of fabrikam -> https://api.citrixcloud.jp",
    ] {
        assert!(
            ended.stdout.lines().any(|told| told == line),
            "{line} in {}",
            ended.stdout
        );
    }
    assert!(!ended.stdout.contains("c4nary"), "{}", ended.stdout);
}

#[tokio::test]
async fn check_says_who_may_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    let hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2";
    let blocks = format!(
        "[listen]\nhosts = [\"gw\"]\n\
         [[caller]]\nname = \"a\"\nsecret_sha256 = \"{hash}\"\nnetworks = [\"10.0.0.0/8\", \"::1\"]\n\
         [[caller]]\nname = \"b\"\nnetworks = [\"192.0.2.1\"]\n"
    );
    std::fs::write(&config, blocks).unwrap();
    let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    let ended = Program::run(&["check", "--config", config.to_str().unwrap()], &variables).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for line in [
        "admits     a, by its secret, from 10.0.0.0/8 or ::1/128",
        "admits     b, from 192.0.2.1/32",
    ] {
        assert!(
            ended.stdout.lines().any(|told| told == line),
            "{line} in {}",
            ended.stdout
        );
    }
    assert!(
        !ended.stdout.contains(hash) && !ended.stdout.contains("whoever"),
        "{}",
        ended.stdout
    );
}

#[tokio::test]
async fn healthcheck_tells_a_ready_gateway_from_others() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    let admin = gateway.admin.to_string();
    let ended = Program::run(&["healthcheck", "--admin", &admin], &[]).await;
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "", "")
    );
    let ended = Program::run(
        &["healthcheck"],
        &[("CITRIX_AUTH_PROXY_ADMIN__ADDRESS", &admin)],
    )
    .await;
    assert_eq!(ended.code, Some(0));

    let nobody = Upstream::refusing().host();
    let ended = Program::run(&["healthcheck", "--admin", &nobody], &[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(&nobody), "{}", ended.stderr);
}

#[tokio::test]
async fn healthcheck_says_what_a_gateway_that_is_not_ready_lacks() {
    let logins = TokenEndpoint::rejecting().await;
    let url = logins.url();
    let mut program = Program::start(&[], &environment("http://127.0.0.1:9", &url));
    let (_, admin) = crate::gateway::addresses(&mut program).await;
    program.logged("login failed").await;
    let ended = Program::run(&["healthcheck", "--admin", &admin.to_string()], &[]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("customer acme"), "{}", ended.stderr);
}

#[tokio::test]
async fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Program::run(&["completions", shell], &[]).await;
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{shell}"
        );
        assert!(ended.stdout.contains("healthcheck"), "{shell}");
    }
}
