//! Errors of the configuration: `check` and `run` report the same ones with exit code 64.

use std::path::Path;

use citrix_auth_proxy::system::clock::Clock;

use crate::gateway::environment;
use crate::program::{Exit, Program};
use testkit::pki::{TestCa, TestCertificate, TlsFiles};
use testkit::wire::within_timeout;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/");

/// Runs `check` and `run` with this configuration file.
async fn check_and_run(text: &str) -> (Exit, Exit) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    let check = Program::run(&["check", "--config", file], &variables).await;
    assert_eq!(check.code, Some(64), "{text}");
    let run = Program::run(&["run", "--config", file], &variables).await;
    (check, run)
}

/// Asserts that both commands exit with 64 and name `expected`.
async fn assert_rejected(text: &str, expected: &[&str]) {
    let (check, run) = within_timeout(check_and_run(text)).await;
    assert_eq!(
        (check.code, run.code),
        (Some(64), Some(64)),
        "{text}\n{}\n{}",
        check.stderr,
        run.stderr
    );
    let logged: Vec<String> = run
        .log()
        .iter()
        .filter_map(|line| line["problem"].as_str().map(str::to_owned))
        .collect();
    for line in check
        .stderr
        .lines()
        .filter(|line| !line.ends_with(" found"))
    {
        assert!(
            logged.iter().any(|problem| problem == line),
            "{line} in {logged:#?}"
        );
    }
    for expected in expected {
        assert!(
            check.stderr.contains(expected),
            "{expected} in {}",
            check.stderr
        );
    }
}

fn issued() -> TestCertificate {
    TestCa::new("CA").issue("gateway", &["localhost"])
}

#[tokio::test]
async fn invalid_settings_exit_with_64_in_check_and_run() {
    for (text, expected) in [
        ("[listen]\npublic_url = \"nonsense\"\n", "listen.public_url"),
        (
            "[upstream]\nproxy_url = \"ftp://proxy\"\n",
            "upstream.proxy_url",
        ),
        (
            "[upstream]\nproxy_url = { file = \"/no/such/file\" }\n",
            "upstream.proxy_url",
        ),
        (
            "[upstream]\nca_file = \"/no/such/file\"\n",
            "upstream.ca_file",
        ),
        ("[upstream]\nca_file = \"/\"\n", "upstream.ca_file"),
        (
            "[citrix]\nclient_secret_next = { file = \"/no/such/file\" }\n",
            "client_secret_next",
        ),
        ("[login]\nsigning_key = \"short\"\n", "login.signing_key"),
        (
            "[[route]]\nprefix = \"/x\"\nupstream = \"https://a..b/\"\n",
            "a..b",
        ),
        (
            "[[route]]\nprefix = \"/x\"\nupstream = \"https://-a.example/\"\n",
            "-a.example",
        ),
        (
            "[[caller]]\nname = \"a\"\nclient_certificate = \"CN=a\"\n",
            "caller",
        ),
    ] {
        assert_rejected(text, &[expected]).await;
    }
}

#[tokio::test]
async fn unusable_ca_file_exits_with_64_in_check_and_run() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (path, expected) in [
        (empty.to_str().unwrap(), "the file is empty"),
        (&format!("{FIXTURES}v1.key"), "contains a private key"),
        (&format!("{FIXTURES}store.p12"), "openssl pkcs12"),
        (
            &format!("{FIXTURES}certificate.der"),
            "openssl x509 -inform der",
        ),
    ] {
        assert_rejected(
            &format!("[upstream]\nca_file = {path:?}\n"),
            &["upstream.ca_file: ", path, expected],
        )
        .await;
    }
}

/// Content of the certificate and key files, the key and file that are named, and the reason.
type Pair = (Vec<u8>, Vec<u8>, [&'static str; 2], &'static str);

fn unusable_pairs() -> Vec<Pair> {
    let (one, other) = (issued(), issued());
    let fixture = |name: &str| std::fs::read(Path::new(FIXTURES).join(name)).unwrap();
    let bytes = |text: &str| text.as_bytes().to_vec();
    let certificate = ["listen.tls.certificate: ", "tls.crt: "];
    let key = ["listen.tls.key: ", "tls.key: "];
    let ca = TestCa::new("Intermediate");
    let wrong_order = bytes(&format!("{}{}", ca.pem(), one.certificate));
    vec![
        (
            bytes(&one.certificate),
            bytes(&other.key),
            key,
            "the key does not belong to the certificate",
        ),
        (
            fixture("v1.crt"),
            fixture("v1.key"),
            certificate,
            "version 1",
        ),
        (
            fixture("v3.crt"),
            fixture("encrypted.key"),
            key,
            "openssl pkey -in ",
        ),
        (
            fixture("v3.crt"),
            fixture("key.der"),
            key,
            "openssl pkey -inform der",
        ),
        (
            fixture("store.p12"),
            bytes(&one.key),
            certificate,
            "openssl pkcs12",
        ),
        (
            bytes(&one.certificate),
            fixture("store.p12"),
            key,
            "openssl pkcs12",
        ),
        (
            bytes(&one.certificate),
            Vec::new(),
            key,
            "the file is empty",
        ),
        (
            Vec::new(),
            bytes(&one.key),
            certificate,
            "the file is empty",
        ),
        (
            bytes(&one.key),
            bytes(&one.certificate),
            certificate,
            "swapped?",
        ),
        (
            wrong_order,
            bytes(&one.key),
            certificate,
            "is number 2 in the file",
        ),
    ]
}

#[tokio::test]
async fn unusable_listener_files_exit_with_64_in_check_and_run() {
    let one = issued();
    for (crt, private, names, expected) in unusable_pairs() {
        let files = TlsFiles::new(&one);
        std::fs::write(files.path("tls.crt"), crt).unwrap();
        std::fs::write(files.path("tls.key"), private).unwrap();
        assert_rejected(&files.toml(""), &[names[0], names[1], expected]).await;
    }
    let files = TlsFiles::new(&one);
    files.write("client-ca.pem", &one.key);
    let ca = files.path("client-ca.pem");
    let toml = files.toml(&format!("client_ca = {ca:?}\n"));
    assert_rejected(&toml, &["listen.tls.client_ca: ", "client-ca.pem: "]).await;
}

#[tokio::test]
async fn problems_of_both_sides_are_reported_together() {
    let files = TlsFiles::new(&issued());
    files.write("tls.key", "");
    let ca = files.path("tls.key");
    let toml = format!("{}\n[upstream]\nca_file = {ca:?}\n", files.toml(""));
    assert_rejected(
        &toml,
        &["listen.tls.key: ", "upstream.ca_file: ", "2 problems found"],
    )
    .await;
}

#[tokio::test]
async fn broken_file_is_reported_before_an_address_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(
        &file,
        format!("[upstream]\nca_file = \"{FIXTURES}v1.key\"\n"),
    )
    .unwrap();
    let mut variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
    variables.push(("CITRIX_AUTH_PROXY_LISTEN__ADDRESS", &address));
    let exit = Program::run(&["--config", file.to_str().unwrap()], &variables).await;
    assert_eq!(exit.code, Some(64), "{}", exit.stderr);
}

#[tokio::test]
async fn expired_and_soon_expiring_certificates_are_warnings() {
    let ca = TestCa::new("CA");
    let day = std::time::Duration::from_secs(86_400);
    let now = Clock::SYSTEM.now();
    let certificate = |from, until| ca.issue_valid("gateway", &["localhost"], from, until);
    for (issued, expected) in [
        (
            certificate(now - 9 * day, now - 8 * day),
            Some("expired at"),
        ),
        (certificate(now - day, now + 3 * day), Some("expires soon")),
        (
            certificate(now + day, now + 90 * day),
            Some("is not valid before"),
        ),
        (certificate(now - day, now + 90 * day), None),
    ] {
        let files = TlsFiles::new(&issued);
        let gateway = files.path("gateway.toml");
        let ca_file = files.path("tls.crt");
        let clients = format!("client_ca = {ca_file:?}\n[upstream]\nca_file = {ca_file:?}\n");
        std::fs::write(&gateway, files.toml(&clients)).unwrap();
        let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
        let exit = Program::run(
            &["check", "--config", gateway.to_str().unwrap()],
            &variables,
        )
        .await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        for key in [
            "listen.tls.certificate",
            "listen.tls.client_ca",
            "upstream.ca_file",
        ] {
            let line = exit
                .stderr
                .lines()
                .find(|line| line.starts_with(&format!("warning: {key}: ")));
            match expected {
                Some(expected) => assert!(line.unwrap().contains(expected), "{}", exit.stderr),
                None => assert_eq!(line, None),
            }
        }
    }
}

#[tokio::test]
async fn chain_in_the_wrong_order_is_a_warning() {
    let ca = TestCa::new("CA");
    let issued = ca.issue("gateway", &["localhost"]);
    let other = ca.issue("other", &["other"]).certificate;
    let files = TlsFiles::new(&issued);
    let gateway = files.path("gateway.toml");
    std::fs::write(&gateway, files.toml("")).unwrap();
    let start = "warning: listen.tls.certificate: ";
    for (next, warned) in [("", false), (&*ca.pem(), false), (&*other, true)] {
        files.write("tls.crt", &(issued.certificate.clone() + next));
        let variables = environment("http://127.0.0.1:9", "http://127.0.0.1:9/token");
        let arguments = ["check", "--config", gateway.to_str().unwrap()];
        let exit = Program::run(&arguments, &variables).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        let warning = exit.stderr.lines().find(|line| line.starts_with(start));
        assert_eq!(warning.is_some(), warned, "{}", exit.stderr);
        if let Some(warning) = warning {
            assert!(
                warning.ends_with("certificate 1 is not signed by the one after it; order them from the leaf to the root"),
                "{warning}"
            );
        }
    }
}
