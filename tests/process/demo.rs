//! `demo` and `emulator`: their output works when pasted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use reqwest::{Method, Response};

use crate::cloud;
use crate::gateway::{EPHEMERAL_PORTS, addresses, get};
use crate::program::Program;
use testkit::wire::wait_until;

/// Splits a command line at spaces, except within single quotes, as a shell does.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words
}

/// Sends the request of a `curl` command line.
async fn curl(line: &str) -> Response {
    let mut client = cloud::client(None).timeout(Duration::from_secs(20));
    let (mut fields, mut url) = (Vec::new(), None);
    let mut words = words(line).into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-i" | "-s" => {}
            "-H" => fields.push(words.next().unwrap()),
            "--http2-prior-knowledge" => client = client.http2_prior_knowledge(),
            _ if word.starts_with('-') => panic!("unsupported option {word} in {line}"),
            _ => assert!(url.replace(word).is_none(), "two URLs in {line}"),
        }
    }
    let mut request = client
        .build()
        .unwrap()
        .request(Method::GET, url.unwrap())
        .header("accept", "*/*");
    for field in fields {
        let (name, value) = field.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn curl_commands_of_the_demo_succeed() {
    let mut demo = Program::start(&["demo", "--listen", "127.0.0.1:0"], &[]);
    let mut lines = Vec::new();
    loop {
        let line = demo.line().await;
        if line.starts_with("Ctrl-C") {
            break;
        }
        lines.push(line);
    }
    let lines: Vec<_> = lines
        .into_iter()
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert!(lines.len() >= 5, "{lines:#?}");
    let ready = lines.iter().find(|line| line.ends_with("/readyz")).unwrap();
    wait_until("the demo is ready", || async {
        curl(ready).await.status() == 200
    })
    .await;
    for line in &lines {
        let response = curl(line).await;
        assert_eq!(response.status(), 200, "{line}");
        if line.contains("--http2-prior-knowledge") {
            assert_eq!(response.version(), reqwest::Version::HTTP_2);
        }
        assert!(!response.text().await.unwrap().is_empty(), "{line}");
    }
    demo.signal("INT");
    let exit = demo.wait().await;
    assert_eq!(exit.code, Some(0));
    // An access log would scroll the commands away.
    assert!(!exit.stderr.contains("/cvad/manage"), "{}", exit.stderr);
}

#[tokio::test]
async fn status_page_of_the_demo_gets_another_port_while_9090_is_in_use() {
    // If this fails, another process uses it.
    let _listener = std::net::TcpListener::bind("127.0.0.1:9090");
    let mut demo = Program::start(&["demo", "--listen", "127.0.0.1:0"], &[]);
    let page = loop {
        let line = demo.line().await;
        if line.contains("status page at") {
            break line;
        }
    };
    assert!(!page.ends_with(":9090/"), "{page}");
    demo.signal("INT");
    assert_eq!(demo.wait().await.code, Some(0));
}

#[tokio::test]
async fn settings_printed_by_the_emulator_start_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let with_tls = ["emulator", "--tls", "--ca-out", ca.to_str().unwrap()];
    for arguments in [&["emulator"][..], &with_tls] {
        let mut emulator = Program::start(arguments, &[]);
        let printed = cloud::printed_settings(&mut emulator).await;
        let mut variables: Vec<_> = printed
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        variables.extend(EPHEMERAL_PORTS);
        let mut gateway = Program::start(&["run"], &variables);
        let (address, _) = addresses(&mut gateway).await;
        let response = get(address, "/cvad/manage/me").await;
        assert_eq!(response.status(), 200, "{arguments:?}: {}", response.text());
        for program in [gateway, emulator] {
            program.signal("TERM");
            assert_eq!(program.wait().await.code, Some(0), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn demo_ca_file_is_in_a_private_folder_until_exit() {
    for signal in ["INT", "TERM"] {
        let temporary = tempfile::tempdir().unwrap();
        let variables = [("TMPDIR", temporary.path().to_str().unwrap())];
        let mut demo = Program::start(&["demo", "--listen", "127.0.0.1:0"], &variables);
        demo.line().await;
        let entries: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
        let [Ok(folder)] = &entries[..] else {
            panic!("{entries:?}")
        };
        let metadata = folder.metadata().unwrap();
        assert!(metadata.is_dir());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
        let ca = folder.path().join("ca.pem");
        let mode = fs::metadata(&ca).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let ca = fs::read_to_string(ca).unwrap();
        assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
        demo.signal(signal);
        assert_eq!(demo.wait().await.code, Some(0));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }
}
