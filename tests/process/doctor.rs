//! `check --online`: what is in the way is named, and what to do; what is not is looked at all the same.

use serde_json::Value;
use tokio::net::TcpListener;

use crate::cloud::{Cloud, printed_settings};
use crate::gateway::environment;
use crate::program::{Ended, Program};
use testkit::egress::EgressProxy;
use testkit::pki::{TestCa, TlsFiles};
use testkit::token_endpoint::{REJECTED_TRANSACTION_ID, TokenEndpoint};
use testkit::upstream::Upstream;
use testkit::wire::Wire;

/// What `check --online --format json` found.
#[derive(Debug)]
struct Findings {
    ended: Ended,
    checks: Vec<Value>,
}

impl Findings {
    async fn with(variables: &[(&str, &str)]) -> Self {
        Self::of(&[], variables).await
    }

    async fn of(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = [&["check", "--online", "--format", "json"], arguments].concat();
        let ended = Program::run(&arguments, variables).await;
        let told: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        assert_eq!(told["ok"], ended.code == Some(0), "{told}");
        assert!(!format!("{ended:?}").contains("c4nary"), "{ended:?}");
        let checks = told["checks"].as_array().unwrap().clone();
        Self { ended, checks }
    }

    /// Names of checks and states, in order.
    fn states(&self) -> Vec<(&str, &str)> {
        self.checks
            .iter()
            .map(|check| {
                (
                    check["check"].as_str().unwrap(),
                    check["state"].as_str().unwrap(),
                )
            })
            .collect()
    }

    /// The first finding of a kind, which has to be in this state; its words.
    #[track_caller]
    fn finding(&self, kind: &str, state: &str) -> String {
        let found = self.checks.iter().find(|check| check["check"] == kind);
        let found = found.unwrap_or_else(|| panic!("no {kind} in {:#?}", self.checks));
        assert_eq!(found["state"], state, "{found}");
        format!(
            "{} | {}",
            found["detail"].as_str().unwrap(),
            found["advice"].as_str().unwrap_or_default()
        )
    }

    fn code(&self) -> i32 {
        self.ended.code.unwrap()
    }
}

/// `variables`, some of them changed.
fn but<'a>(
    mut variables: Vec<(&'a str, &'a str)>,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    variables.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    variables.extend(more);
    variables
}

const ALL_WELL: [(&str, &str); 9] = [
    ("dns", "ok"),
    ("tcp", "ok"),
    ("egress", "ok"),
    ("tls", "ok"),
    ("token", "ok"),
    ("skew", "ok"),
    ("customer", "ok"),
    ("region", "ok"),
    ("site", "ok"),
];

#[tokio::test]
async fn when_all_is_well_each_step_is_a_line_and_an_object() {
    let cloud = Cloud::start(&[]).await;
    let found = Findings::with(&cloud.settings()).await;
    assert_eq!((found.states(), found.code()), (ALL_WELL.to_vec(), 0));
    let [dns, tcp, .., site] = &found.checks[..] else {
        panic!("{found:?}")
    };
    assert_eq!(dns["facts"]["addresses"][0], "127.0.0.1", "{dns}");
    assert!(
        tcp["of"].as_str().unwrap().starts_with("localhost:") && tcp["ms"].is_u64(),
        "{tcp}"
    );
    assert_eq!(
        site["facts"]["sites"].as_array().map(Vec::len),
        Some(1),
        "{site}"
    );

    let ended = Program::run(&["check", "--online"], &cloud.settings()).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let lines: Vec<(&str, &str)> = ended
        .stdout
        .lines()
        .filter_map(|line| Some((line.get(..11)?.trim(), line.get(11..20)?.trim())))
        .filter(|line| ALL_WELL.contains(line))
        .collect();
    assert_eq!(lines, ALL_WELL, "{}", ended.stdout);
}

#[tokio::test]
async fn both_secrets_of_a_rotation_are_tried_and_the_wrong_one_is_named() {
    let cloud = Cloud::start(&[]).await;
    let settings = but(
        cloud.settings(),
        &[("CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET_NEXT", "c4nary")],
    );
    let found = Findings::with(&settings).await;
    let of: Vec<_> = found
        .checks
        .iter()
        .filter(|check| check["check"] == "token")
        .collect();
    assert_eq!(
        (&of[0]["of"], &of[0]["state"]),
        (&"acme, client_secret".into(), &"ok".into())
    );
    assert_eq!(
        (&of[1]["of"], &of[1]["state"]),
        (&"acme, client_secret_next".into(), &"failed".into())
    );
    assert!(
        of[1]["advice"]
            .as_str()
            .unwrap()
            .contains("the id or secret is wrong"),
        "{}",
        of[1]
    );
    // The token of the other is good for the rest.
    found.finding("site", "ok");
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn a_refused_login_comes_with_citrix_transaction_id_and_without_consequences_for_clocks() {
    let logins = TokenEndpoint::rejecting().await;
    let url = logins.url();
    let api = Upstream::responding("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    let found = Findings::with(&environment(&api.url(), &url)).await;
    let token = found.finding("token", "failed");
    assert!(
        token.contains(REJECTED_TRANSACTION_ID) && token.contains("400"),
        "{token}"
    );
    found.finding("tls", "skipped");
    for kind in ["customer", "region", "site"] {
        assert!(
            found.finding(kind, "skipped").starts_with("no token"),
            "{found:?}"
        );
    }
    assert_eq!((found.code(), logins.count()), (1, 1));
    api.assert_no_more_requests().await;
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_a_warning() {
    for (skew, says) in [("90", "s behind Citrix's"), ("-90", "s ahead of Citrix's")] {
        let cloud = Cloud::start(&["--clock-skew", skew]).await;
        let found = Findings::with(&cloud.settings()).await;
        let skew = found.finding("skew", "warning");
        assert!(skew.contains(says) && skew.contains("NTP"), "{skew}");
        assert_eq!(found.code(), 0);
    }
}

#[tokio::test]
async fn a_token_of_another_customer_is_found_out() {
    let cloud = Cloud::start(&[]).await;
    let found = Findings::with(&but(cloud.settings(), &[("CITRIX_CUSTOMER_ID", "contoso")])).await;
    assert!(
        found
            .finding("customer", "failed")
            .starts_with("the token belongs to customer acme")
    );
    // What Citrix answers then is what it answers in a wrong region, so it is not asked.
    assert!(
        found
            .finding("site", "skipped")
            .starts_with("the token belongs to another customer"),
        "{found:?}"
    );
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn a_host_that_is_down_does_not_keep_others_from_being_looked_at() {
    let (down, logins) = (Upstream::refusing(), TokenEndpoint::granting().await);
    let (url, alive) = (logins.url(), Upstream::responding("").await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let gone = "[[route]]\nprefix = \"/gone\"\nupstream = \"https://gone.invalid\"";
    let here = format!(
        "[[route]]\nprefix = \"/here\"\nupstream = \"{}\"",
        alive.url()
    );
    std::fs::write(&file, format!("{gone}\n{here}\n")).unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let found = Findings::of(&arguments, &environment(&down.url(), &url)).await;
    let of = |place: &str| -> Vec<(&str, &str)> {
        let states = found.states();
        let places = found.checks.iter().zip(states);
        places
            .filter(|(check, _)| check["of"] == place)
            .map(|(_, state)| state)
            .collect()
    };
    let skipped = ("tls", "skipped");
    assert_eq!(
        of(&down.host()),
        [
            ("dns", "ok"),
            ("tcp", "failed"),
            ("egress", "skipped"),
            skipped
        ]
    );
    let nowhere = [
        ("dns", "failed"),
        ("tcp", "skipped"),
        ("egress", "skipped"),
        skipped,
    ];
    assert_eq!(of("gone.invalid:443"), nowhere);
    assert_eq!(
        of(&alive.host()),
        [("dns", "ok"), ("tcp", "ok"), ("egress", "ok"), skipped]
    );
    found.finding("token", "ok");
    assert!(
        found
            .finding("site", "skipped")
            .starts_with("tcp failed at the API gateway"),
        "{found:?}"
    );
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn an_authority_that_nobody_vouches_for_is_named_with_the_file_to_put_it_into() {
    let cloud = Cloud::start(&[]).await;
    let mut settings = cloud.settings();
    settings.retain(|(name, _)| *name != "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE");
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), TestCa::new("Another CA").pem()).unwrap();
    let file = other.path().to_str().unwrap();
    // Of an empty environment, so that there are roots at all.
    settings.push(("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", file));
    let found = Findings::with(&settings).await;
    let tls = found.finding("tls", "failed");
    assert!(
        tls.contains("CN=Citrix Cloud emulator CA, which is not trusted"),
        "{tls}"
    );
    assert!(tls.contains(&format!("{file} (upstream.ca_file)")), "{tls}");
    assert!(
        found
            .finding("token", "skipped")
            .starts_with("tls failed at the token endpoint")
    );
    assert_eq!(found.code(), 1);
}

/// Citrix's own names behind a proxy that inspects TLS: the emulator, with a certificate that the company signed.
async fn inspected(corporate: &TestCa) -> (Program, TlsFiles, EgressProxy, Vec<(String, String)>) {
    let files = TlsFiles::new(&corporate.issue("api.cloud.com", &["api.cloud.com"]));
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let arguments = [
        "emulator",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let mut emulator = Program::start(&arguments, &[]);
    let mut settings = printed_settings(&mut emulator).await;
    let at = settings
        .iter()
        .find(|(name, _)| name.ends_with("__API_URL"))
        .unwrap()
        .1
        .clone();
    let port = at.rsplit_once(':').unwrap().1.parse().unwrap();
    let proxy = EgressProxy::tunnelling_to(([127, 0, 0, 1], port).into()).await;
    settings.retain(|(name, _)| !name.starts_with("CITRIX_AUTH_PROXY_"));
    settings.push(("HTTPS_PROXY".to_owned(), proxy.url("user:c4nary@")));
    (emulator, files, proxy, settings)
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[tokio::test]
async fn a_proxy_that_inspects_tls_is_named_whether_it_is_trusted_or_not() {
    let corporate = TestCa::new("Corporate Inspection CA");
    let (_emulator, files, proxy, settings) = inspected(&corporate).await;
    files.write("ca.pem", &corporate.pem());
    files.write("other.pem", &TestCa::new("Another CA").pem());
    let (ours, other) = (files.path("ca.pem"), files.path("other.pem"));
    let with = |file: &'static str, path| {
        let mut variables = borrowed(&settings);
        variables.push((file, path));
        variables
    };
    let variable = "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE";

    let found = Findings::with(&with(variable, ours.to_str().unwrap())).await;
    assert_eq!(
        (found.states(), found.code()),
        (ALL_WELL.to_vec(), 0),
        "{found:#?}"
    );
    let egress = found.finding("egress", "ok");
    assert!(
        egress.starts_with(&format!(
            "the egress proxy {} opened a tunnel",
            proxy.address()
        )),
        "{egress}"
    );
    let tls = found.finding("tls", "ok");
    assert!(
        tls.contains("CN=Corporate Inspection CA, trusted through upstream.ca_file only"),
        "{tls}"
    );
    // For the look at the host, the login and the question.
    assert_eq!(proxy.tunnel_count("api.cloud.com:443"), 3);

    let found = Findings::with(&with(variable, other.to_str().unwrap())).await;
    let tls = found.finding("tls", "failed");
    assert!(
        tls.contains("CN=Corporate Inspection CA") && tls.contains("TLS-inspecting proxy"),
        "{tls}"
    );
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_down_is_named() {
    let refusing = EgressProxy::responding("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").await;
    let login = [
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "c"),
        ("CITRIX_CLIENT_SECRET", "c4nary"),
    ];
    let url = refusing.url("user:c4nary@");
    let found = Findings::with(&[&login[..], &[("HTTPS_PROXY", &url)]].concat()).await;
    let egress = found.finding("egress", "failed");
    assert!(
        egress.contains(&format!(
            "{}: CONNECT rejected with 407",
            refusing.address()
        )),
        "{egress}"
    );
    assert!(egress.contains("user and password"), "{egress}");
    found.finding("tls", "skipped");

    let down = Upstream::refusing();
    let url = down.url();
    let found = Findings::with(&[&login[..], &[("HTTPS_PROXY", &url)]].concat()).await;
    let tcp = found.finding("tcp", "failed");
    assert!(
        tcp.starts_with(&format!(
            "the egress proxy {}: no connection: ",
            down.host()
        )),
        "{tcp}"
    );
}

#[tokio::test]
async fn a_wrong_region_is_told_in_both_of_its_shapes() {
    let cloud = Cloud::start(&["--fault", "/cvad/manage=403-region"]).await;
    let found = Findings::with(&cloud.settings()).await;
    assert!(
        found
            .finding("region", "failed")
            .contains("set cloud to the customer's region"),
        "{found:?}"
    );
    assert_eq!(found.code(), 1);

    let redirect = "HTTP/1.1 307 Moved\r\nLocation: https://api-eu.cloud.com/cvad/manage/me\r\nContent-Length: 0\r\n\r\n";
    let (api, logins) = (
        Upstream::responding(redirect).await,
        TokenEndpoint::granting().await,
    );
    let found = Findings::with(&environment(&api.url(), &logins.url())).await;
    let region = found.finding("region", "warning");
    assert!(
        region.contains("redirects to api-eu.cloud.com") && region.contains("set cloud = \"eu\""),
        "{region}"
    );
    found.finding("site", "skipped");
    assert_eq!(found.code(), 0);
}

#[tokio::test]
async fn sites_are_told_and_one_that_is_not_there_fails() {
    const ONE: &str = "61603f15-cdf9-4c7f-99ff-91636601a795";
    const OTHER: &str = "71603f15-cdf9-4c7f-99ff-91636601a795";
    const VARIABLE: &str = "CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID";
    let cloud = Cloud::start(&["--site-id", ONE, "--site-id", OTHER]).await;
    let found = Findings::with(&cloud.settings()).await;
    let site = found.finding("site", "warning");
    assert!(
        site.contains(ONE) && site.contains(OTHER) && site.contains("instance_id"),
        "{site}"
    );
    let found = Findings::with(&but(cloud.settings(), &[(VARIABLE, OTHER)])).await;
    found.finding("site", "ok");
    let nobodys = "81603f15-cdf9-4c7f-99ff-91636601a795";
    let found = Findings::with(&but(cloud.settings(), &[(VARIABLE, nobodys)])).await;
    assert!(
        found
            .finding("site", "failed")
            .starts_with("instance_id is not among"),
        "{found:?}"
    );
    let found = Findings::with(&but(cloud.settings(), &[(VARIABLE, "")])).await;
    found.finding("site", "skipped");
    assert_eq!(found.code(), 0);
}

#[tokio::test]
async fn a_wrong_configuration_is_an_object_as_well() {
    let ended = Program::run(
        &[
            "check",
            "--online",
            "--format",
            "json",
            "--config",
            "tests/fixtures/config/five-mistakes.toml",
        ],
        &[],
    )
    .await;
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, ended.stderr.as_str(), &told["ok"]),
        (Some(64), "", &Value::Bool(false))
    );
    assert_eq!(
        (
            told["problems"].as_array().map(Vec::len),
            told["checks"].as_array().map(Vec::len)
        ),
        (Some(6), Some(0))
    );
    let login = [
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "c"),
        ("CITRIX_CLIENT_SECRET", "s"),
    ];
    let ended = Program::run(&["check", "--format", "json"], &login).await;
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, &told["ok"], &told["problems"]),
        (Some(0), &Value::Bool(true), &Value::Array(vec![]))
    );
}

#[tokio::test]
async fn wrong_certificate_and_missing_tls_are_distinguished() {
    let corporate = TestCa::new("Corporate CA");
    let files = TlsFiles::new(&corporate.issue("other.example", &["other.example"]));
    files.write("ca.pem", &corporate.pem());
    let (certificate, key, ca) = (
        files.path("tls.crt"),
        files.path("tls.key"),
        files.path("ca.pem"),
    );
    let arguments = [
        "emulator",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let mut emulator = Program::start(&arguments, &[]);
    let settings = printed_settings(&mut emulator).await;
    let at = &settings
        .iter()
        .find(|(name, _)| name.ends_with("__API_URL"))
        .unwrap()
        .1;
    let port: u16 = at.rsplit_once(':').unwrap().1.parse().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let in_clear = plain.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = plain.accept().await {
            let mut wire = Wire::new(socket);
            wire.bytes(1).await;
            wire.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            wire.rest().await;
        }
    });
    for (behind, says) in [
        (
            format!("127.0.0.1:{port}"),
            "the certificate, signed by CN=Corporate CA, is for another host | another server",
        ),
        (in_clear, "no handshake: "),
    ] {
        let proxy = EgressProxy::tunnelling_to(behind.parse().unwrap()).await;
        let url = proxy.url("");
        let found = Findings::with(&[
            ("CITRIX_CUSTOMER_ID", "acme"),
            ("CITRIX_CLIENT_ID", "client"),
            ("CITRIX_CLIENT_SECRET", "c4nary"),
            ("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", ca.to_str().unwrap()),
            ("HTTPS_PROXY", &url),
        ])
        .await;
        let tls = found.finding("tls", "failed");
        assert!(tls.starts_with(says), "{tls}");
        assert_eq!(found.code(), 1);
    }
}
