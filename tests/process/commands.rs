//! The commands that run to completion: `help`, `check`, `healthcheck`, `completions`.

use crate::gateway::{Gateway, environment};
use crate::program::Program;
use testkit::token_endpoint::TokenEndpoint;
use testkit::upstream::{OK, Upstream};

#[tokio::test]
async fn help_and_version_print_to_stdout_and_exit_with_0() {
    let version = format!(
        "citrix-auth-proxy {} ({})\n",
        env!("CARGO_PKG_VERSION"),
        env!("BUILD_COMMIT")
    );
    for (arguments, expected) in [
        (&["--version"][..], version.as_str()),
        (&["--help"], "Usage:"),
        (&["help"], "Usage:"),
        (&["run", "--help"], "--config"),
        (&["check", "--help"], "--online"),
    ] {
        let exit = Program::run(arguments, &[]).await;
        assert_eq!(
            (exit.code, exit.stderr.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
        assert!(
            exit.stdout.contains(expected),
            "{arguments:?}: {}",
            exit.stdout
        );
    }
    let help = Program::run(&["--help"], &[]).await.stdout;
    for command in [
        "run",
        "check",
        "demo",
        "emulator",
        "caller",
        "ca",
        "config",
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
async fn invalid_command_line_exits_with_64() {
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
        let exit = Program::run(arguments, &[]).await;
        assert_eq!(
            (exit.code, exit.stdout.as_str()),
            (Some(64), ""),
            "{arguments:?}: {}",
            exit.stderr
        );
        assert_ne!(exit.stderr, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn check_of_an_invalid_configuration_prints_every_problem_and_exits_with_64() {
    let exit = Program::run(
        &[
            "check",
            "--config",
            "tests/fixtures/config/five-mistakes.toml",
        ],
        &[],
    )
    .await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(64), ""));
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
            exit.stderr.contains(expected),
            "{expected} in {}",
            exit.stderr
        );
    }
    let last = exit.stderr.lines().last().unwrap();
    assert_eq!(
        last,
        format!("{} problems found", exit.stderr.lines().count() - 1),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn check_of_a_valid_configuration_prints_its_meaning() {
    let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    let exit = Program::run(&["check"], &variables).await;
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for expected in [
        "acme",
        "http://127.0.0.1:9/token",
        "127.0.0.1:0",
        "admits     every client that can connect\n",
    ] {
        assert!(
            exit.stdout.contains(expected),
            "{expected} in {}",
            exit.stdout
        );
    }
    assert!(!exit.stdout.contains("c4nary"), "{}", exit.stdout);
}

#[tokio::test]
async fn check_prints_token_endpoint_and_routes_of_each_customer() {
    let secrets = [
        ("CONTOSO_SECRET", "c4nary-1"),
        ("FABRIKAM_SECRET", "c4nary-2"),
    ];
    let exit = Program::run(
        &["check", "--config", "tests/fixtures/config/customers.toml"],
        &secrets,
    )
    .await;
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for line in [
        "customer   contoso logs in at https://api.cloud.com/cctrustoauth2/contoso/tokens/clients",
        "customer   fabrikam logs in at https://api.citrixcloud.jp/cctrustoauth2/fabrikam/tokens/clients \
         (default)",
        "route      / of contoso -> https://api.cloud.com",
        "route      / of fabrikam -> https://api.citrixcloud.jp",
    ] {
        assert!(
            exit.stdout.lines().any(|printed| printed == line),
            "{line} in {}",
            exit.stdout
        );
    }
    assert!(!exit.stdout.contains("c4nary"), "{}", exit.stdout);
}

#[tokio::test]
async fn check_prints_the_conditions_that_admit_each_caller() {
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
    let exit = Program::run(&["check", "--config", config.to_str().unwrap()], &variables).await;
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for line in [
        "admits     a, by its secret, from 10.0.0.0/8 or ::1/128",
        "admits     b, from 192.0.2.1/32",
    ] {
        assert!(
            exit.stdout.lines().any(|printed| printed == line),
            "{line} in {}",
            exit.stdout
        );
    }
    assert!(
        !exit.stdout.contains(hash) && !exit.stdout.contains("every client that can connect"),
        "{}",
        exit.stdout
    );
}

#[tokio::test]
async fn healthcheck_exits_with_0_only_for_a_ready_gateway() {
    let upstream = Upstream::responding(OK).await;
    let gateway = Gateway::in_front_of(&upstream, &[]).await;
    let admin = gateway.admin.to_string();
    let exit = Program::run(&["healthcheck", "--admin", &admin], &[]).await;
    assert_eq!(
        (exit.code, exit.stdout.as_str(), exit.stderr.as_str()),
        (Some(0), "", "")
    );
    let exit = Program::run(
        &["healthcheck"],
        &[("CITRIX_AUTH_PROXY_ADMIN__ADDRESS", &admin)],
    )
    .await;
    assert_eq!(exit.code, Some(0));

    let closed_port = Upstream::refusing().host();
    let exit = Program::run(&["healthcheck", "--admin", &closed_port], &[]).await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains(&closed_port), "{}", exit.stderr);
}

#[tokio::test]
async fn healthcheck_prints_the_unmet_conditions_of_an_unready_gateway() {
    let token_endpoint = TokenEndpoint::rejecting().await;
    let url = token_endpoint.url();
    let mut program = Program::start(&[], &environment("http://127.0.0.1:9", &url));
    let (_, admin) = crate::gateway::addresses(&mut program).await;
    program.logged("login failed").await;
    let exit = Program::run(&["healthcheck", "--admin", &admin.to_string()], &[]).await;
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("customer acme"), "{}", exit.stderr);
}

#[tokio::test]
async fn config_show_prints_origins_and_no_secret() {
    const CANARY: &str = "c4nary-secret-of-the-client";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let text = format!(
        "[citrix]\ncustomer_id = 'acme'\nclient_id = 'id'\nclient_secret = '{CANARY}'\n\
         [limits]\nmax_queued = 7\n"
    );
    std::fs::write(&file, text).unwrap();
    let arguments = ["config", "show", "--config", file.to_str().unwrap()];
    let settings = [
        ("CITRIX_CLIENT_SECRET", CANARY),
        ("CITRIX_AUTH_PROXY_LOG__LEVEL", "warn"),
    ];
    let exit = Program::run(&arguments, &settings).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    for (setting, origin) in [
        ("max_queued = 7", "file"),
        ("max_in_flight = 1024", "default"),
        ("level = \"warn\"", "CITRIX_AUTH_PROXY_LOG__LEVEL"),
        ("client_secret = \"[redacted]\"", "CITRIX_CLIENT_SECRET"),
    ] {
        let line = exit.stdout.lines().find(|line| line.starts_with(setting));
        assert!(line.unwrap().ends_with(&format!("# {origin}")), "{line:?}");
    }
    assert!(!exit.stdout.contains("c4nary"), "{}", exit.stdout);
    let shown: toml::Table = exit.stdout.parse().unwrap();
    assert_eq!(shown["limits"]["max_queued"].as_integer(), Some(7));
    let exit = Program::run(&arguments[..2], &[]).await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(64), ""));
}

#[tokio::test]
async fn each_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let exit = Program::run(&["completions", shell], &[]).await;
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(exit.stdout.contains("healthcheck"), "{shell}");
    }
}

#[tokio::test]
async fn healthcheck_waits_until_the_gateway_is_ready() {
    let upstream = Upstream::responding(OK).await;
    // Known before the gateway starts.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = socket.local_addr().unwrap().to_string();
    drop(socket);
    let waiting = Program::start(&["healthcheck", "--admin", &admin, "--wait", "30s"], &[]);
    let settings = [("CITRIX_AUTH_PROXY_ADMIN__ADDRESS", admin.as_str())];
    let _gateway = Gateway::in_front_of(&upstream, &settings).await;
    let exit = waiting.wait().await;
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn healthcheck_fails_when_the_wait_is_over_and_names_the_last_problem() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = closed.local_addr().unwrap().to_string();
    drop(closed);
    for (arguments, after) in [(&[][..], ""), (&["--wait", "300ms"], " (after 300ms)")] {
        let arguments = [&["healthcheck", "--admin", &admin], arguments].concat();
        let exit = Program::run(&arguments, &[]).await;
        assert_eq!(exit.code, Some(1));
        assert_eq!(
            exit.stderr,
            format!(
                "no response from the admin listener at {admin}: Connection refused (os error 111){after}\n"
            )
        );
    }
    // It accepts and never responds. Without the wait, that takes 3 s to detect.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = silent.local_addr().unwrap().to_string();
    let exit = Program::run(&["healthcheck", "--admin", &admin, "--wait", "300ms"], &[]).await;
    let expected = format!("no response from the admin listener at {admin} (after 300ms)\n");
    assert_eq!((exit.code, exit.stderr), (Some(1), expected));
    let exit = Program::run(&["healthcheck", "--admin", &admin, "--wait", "1x"], &[]).await;
    assert_eq!(exit.code, Some(64));
    assert!(
        exit.stderr
            .contains("not a duration; expected, for example, 30s"),
        "{}",
        exit.stderr
    );
}

#[tokio::test]
async fn log_is_text_in_a_terminal_unless_the_format_is_set() {
    let program = env!("CARGO_BIN_EXE_citrix-auth-proxy");
    for (format, is_json) in [("", false), ("json", true), ("text", false)] {
        let set = match format {
            "" => String::new(),
            format => format!("CITRIX_AUTH_PROXY_LOG__FORMAT={format} "),
        };
        // An invalid address logs a problem and exits.
        let command = format!(
            "{set}CITRIX_CUSTOMER_ID=a CITRIX_CLIENT_ID=b CITRIX_CLIENT_SECRET=c \
             CITRIX_AUTH_PROXY_LISTEN__ADDRESS=192.0.2.1:1 CITRIX_AUTH_PROXY_INSECURE__ALLOW_ANONYMOUS=true {program} run"
        );
        let output = std::process::Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&output.stdout);
        let first = output.lines().next().unwrap_or_default();
        assert_eq!(first.starts_with('{'), is_json, "{format}: {output}");
        assert!(output.contains("not started"), "{output}");
    }
}

#[tokio::test]
async fn ca_new_creates_an_authority_once_and_keeps_its_key_private() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let arguments = ["ca", "new", "--out", out, "--domain", "Reports.example.net"];
    let exit = Program::run(&arguments, &[]).await;
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for part in [
        "cloud.com",
        "reports.example.net",
        "[intercept]",
        "certutil",
        "keytool",
    ] {
        assert!(exit.stdout.contains(part), "{part} in {}", exit.stdout);
    }
    let mode = |name: &str| {
        let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
    };
    assert_eq!(
        ["ca.key", "ca.pem", "ca-root.pem"].map(mode),
        [0o600, 0o644, 0o644]
    );
    assert_check_compares_hosts_with_name_constraints(folder.path()).await;
    let before = std::fs::read(folder.path().join("ca.key")).unwrap();
    let again = Program::run(&arguments, &[]).await;
    assert_eq!(again.code, Some(64));
    assert!(
        again.stderr.contains("is not overwritten"),
        "{}",
        again.stderr
    );
    assert_eq!(std::fs::read(folder.path().join("ca.key")).unwrap(), before);
    let missing = folder.path().join("missing");
    let missing = ["ca", "new", "--out", missing.to_str().unwrap()];
    let exit = Program::run(&missing, &[]).await;
    assert_eq!(exit.code, Some(1));
    for domain in ["10.0.0.1", "a..b", "*.example.net", "-a.example", ""] {
        let exit = Program::run(&["ca", "new", "--out", out, "--domain", domain], &[]).await;
        assert_eq!(exit.code, Some(64), "{domain}");
    }
}

/// The authority permits Citrix's domains and that of the first route.
async fn assert_check_compares_hosts_with_name_constraints(folder: &std::path::Path) {
    let [certificate, key] = ["ca.pem", "ca.key"].map(|name| folder.join(name));
    let route = |prefix: &str, host: &str| {
        format!("[[route]]\nprefix = \"/{prefix}\"\nupstream = \"https://{host}\"\n")
    };
    let [permitted, outside] = [
        route("reports", "reports.example.net"),
        route("others", "others.example.net"),
    ];
    for (more, expected) in [("", ""), (&*outside, "do not permit others.example.net; ")] {
        let toml = format!(
            "[citrix]\ncustomer_id = \"acme\"\nclient_id = \"c\"\nclient_secret = {{ env = \"S\" }}\n\
             [intercept]\naddress = \"127.0.0.1:0\"\nca = {{ certificate = {certificate:?}, key = {key:?} }}\n\
             {permitted}{more}"
        );
        let file = folder.join("config.toml");
        std::fs::write(&file, toml).unwrap();
        let exit = Program::run(
            &["check", "--config", file.to_str().unwrap()],
            &[("S", "s")],
        )
        .await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert_eq!(
            exit.stderr.contains("name constraints"),
            !expected.is_empty(),
            "{}",
            exit.stderr
        );
        assert!(exit.stderr.contains(expected), "{}", exit.stderr);
    }
}
