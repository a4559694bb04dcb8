//! `check --online`: each failure is reported with advice and does not prevent independent checks.

mod store;

use serde_json::Value;
use tokio::net::TcpListener;

use crate::cloud::{Cloud, printed_settings};
use crate::gateway::environment;
use crate::program::{Exit, Program};
use testkit::egress::EgressProxy;
use testkit::firewall::{Block, Firewall};
use testkit::pki::{TestCa, TlsFiles};
use testkit::token_endpoint::{REJECTED_TRANSACTION_ID, TokenEndpoint};
use testkit::upstream::Upstream;
use testkit::wire::Wire;

/// Results of `check --online --format json`.
#[derive(Debug)]
struct Findings {
    exit: Exit,
    checks: Vec<Value>,
}

impl Findings {
    async fn of(variables: &[(&str, &str)]) -> Self {
        Self::with_arguments(&[], variables).await
    }

    async fn with_arguments(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments = [&["check", "--online", "--format", "json"], arguments].concat();
        let exit = Program::run(&arguments, variables).await;
        let report: Value =
            serde_json::from_str(&exit.stdout).unwrap_or_else(|_| panic!("{exit:?}"));
        assert_eq!(report["ok"], exit.code == Some(0), "{report}");
        assert!(!format!("{exit:?}").contains("c4nary"), "{exit:?}");
        let checks = report["checks"].as_array().unwrap().clone();
        Self { exit, checks }
    }

    /// Returns the kind and state of each check, in order.
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

    /// Returns detail and advice of the first check of `kind`, which must be in `state`.
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
        self.exit.code.unwrap()
    }
}

/// Returns `variables` with those of `more` added or replaced.
fn with<'a>(
    mut variables: Vec<(&'a str, &'a str)>,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    variables.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    variables.extend(more);
    variables
}

const ALL_OK: [(&str, &str); 9] = [
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
async fn success_prints_a_line_and_an_object_per_check() {
    let cloud = Cloud::start(&[]).await;
    let found = Findings::of(&cloud.settings()).await;
    assert_eq!((found.states(), found.code()), (ALL_OK.to_vec(), 0));
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

    let exit = Program::run(&["check", "--online"], &cloud.settings()).await;
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let lines: Vec<(&str, &str)> = exit
        .stdout
        .lines()
        .filter_map(|line| Some((line.get(..11)?.trim(), line.get(11..20)?.trim())))
        .filter(|line| ALL_OK.contains(line))
        .collect();
    assert_eq!(lines, ALL_OK, "{}", exit.stdout);
}

#[tokio::test]
async fn rotation_tries_both_secrets_and_names_the_wrong_one() {
    let cloud = Cloud::start(&[]).await;
    let settings = with(
        cloud.settings(),
        &[("CITRIX_AUTH_PROXY_CITRIX__CLIENT_SECRET_NEXT", "c4nary")],
    );
    let found = Findings::of(&settings).await;
    let tokens: Vec<_> = found
        .checks
        .iter()
        .filter(|check| check["check"] == "token")
        .collect();
    assert_eq!(
        (&tokens[0]["of"], &tokens[0]["state"]),
        (&"acme, client_secret".into(), &"ok".into())
    );
    assert_eq!(
        (&tokens[1]["of"], &tokens[1]["state"]),
        (&"acme, client_secret_next".into(), &"failed".into())
    );
    assert!(
        tokens[1]["advice"]
            .as_str()
            .unwrap()
            .contains("the id or secret is wrong"),
        "{}",
        tokens[1]
    );
    // The other checks use the token of the valid secret.
    found.finding("site", "ok");
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn rejected_login_reports_the_transaction_id_and_skips_dependent_checks() {
    let token_endpoint = TokenEndpoint::rejecting().await;
    let url = token_endpoint.url();
    let api = Upstream::responding("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    let found = Findings::of(&environment(&api.url(), &url)).await;
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
    assert_eq!((found.code(), token_endpoint.count()), (1, 1));
    api.assert_no_more_requests().await;
}

#[tokio::test]
async fn clock_skew_is_a_warning() {
    for (skew, expected) in [("90", "s behind Citrix's"), ("-90", "s ahead of Citrix's")] {
        let cloud = Cloud::start(&["--clock-skew", skew]).await;
        let found = Findings::of(&cloud.settings()).await;
        let skew = found.finding("skew", "warning");
        assert!(skew.contains(expected) && skew.contains("NTP"), "{skew}");
        assert_eq!(found.code(), 0);
    }
}

#[tokio::test]
async fn token_of_another_customer_fails_and_skips_the_site() {
    let cloud = Cloud::start(&[]).await;
    let found = Findings::of(&with(
        cloud.settings(),
        &[("CITRIX_CUSTOMER_ID", "contoso")],
    ))
    .await;
    assert!(
        found
            .finding("customer", "failed")
            .starts_with("the token belongs to customer acme")
    );
    // Citrix would respond as in a wrong region, so the site check is skipped.
    assert!(
        found
            .finding("site", "skipped")
            .starts_with("the token belongs to another customer"),
        "{found:?}"
    );
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn unreachable_host_does_not_prevent_checks_of_other_hosts() {
    let (down, token_endpoint) = (Upstream::refusing(), TokenEndpoint::granting().await);
    let (url, reachable) = (token_endpoint.url(), Upstream::responding("").await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let gone = "[[route]]\nprefix = \"/gone\"\nupstream = \"https://gone.invalid\"";
    let here = format!(
        "[[route]]\nprefix = \"/here\"\nupstream = \"{}\"",
        reachable.url()
    );
    std::fs::write(&file, format!("{gone}\n{here}\n")).unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let found = Findings::with_arguments(&arguments, &environment(&down.url(), &url)).await;
    let states_of = |host: &str| -> Vec<(&str, &str)> {
        let states = found.states();
        let checks = found.checks.iter().zip(states);
        checks
            .filter(|(check, _)| check["of"] == host)
            .map(|(_, state)| state)
            .collect()
    };
    let skipped = ("tls", "skipped");
    assert_eq!(
        states_of(&down.host()),
        [
            ("dns", "ok"),
            ("tcp", "failed"),
            ("egress", "skipped"),
            skipped
        ]
    );
    let unresolved = [
        ("dns", "failed"),
        ("tcp", "skipped"),
        ("egress", "skipped"),
        skipped,
    ];
    assert_eq!(states_of("gone.invalid:443"), unresolved);
    assert_eq!(
        states_of(&reachable.host()),
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
async fn untrusted_authority_is_named_with_the_ca_file_to_extend() {
    let cloud = Cloud::start(&[]).await;
    let mut settings = cloud.settings();
    settings.retain(|(name, _)| *name != "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE");
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), TestCa::new("Another CA").pem()).unwrap();
    let file = other.path().to_str().unwrap();
    // The environment is empty, so these are the only roots.
    settings.push(("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", file));
    let found = Findings::of(&settings).await;
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

/// Starts an emulator behind a TLS-inspecting proxy: its certificate for api.cloud.com is signed by
/// `corporate`.
async fn behind_inspecting_proxy(
    corporate: &TestCa,
) -> (Program, TlsFiles, EgressProxy, Vec<(String, String)>) {
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
    let api_url = settings
        .iter()
        .find(|(name, _)| name.ends_with("__API_URL"))
        .unwrap()
        .1
        .clone();
    let port = api_url.rsplit_once(':').unwrap().1.parse().unwrap();
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
async fn tls_inspecting_proxy_is_named_whether_trusted_or_not() {
    let corporate = TestCa::new("Corporate Inspection CA");
    let (_emulator, files, proxy, settings) = behind_inspecting_proxy(&corporate).await;
    files.write("ca.pem", &corporate.pem());
    files.write("other.pem", &TestCa::new("Another CA").pem());
    let (corporate_file, other_file) = (files.path("ca.pem"), files.path("other.pem"));
    let with_file = |path| {
        let mut variables = borrowed(&settings);
        variables.push(("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", path));
        variables
    };

    let found = Findings::of(&with_file(corporate_file.to_str().unwrap())).await;
    // The worldwide gateway serves every region; some hosts of other services do not.
    let expected = [&ALL_OK[..], &[("region", "warning")]].concat();
    assert_eq!((found.states(), found.code()), (expected, 0), "{found:#?}");
    let us_hosts = found.checks.last().unwrap();
    let (detail, advice) = (&us_hosts["detail"], &us_hosts["advice"]);
    assert!(
        detail
            .as_str()
            .unwrap()
            .starts_with("/wem and /applayering"),
        "{us_hosts}"
    );
    assert!(
        advice.as_str().unwrap().contains("/region/eu/wem"),
        "{us_hosts}"
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
    // One tunnel each for the TLS check, the login and the site lookup.
    assert_eq!(proxy.tunnel_count("api.cloud.com:443"), 3);

    let found = Findings::of(&with_file(other_file.to_str().unwrap())).await;
    let tls = found.finding("tls", "failed");
    assert!(
        tls.contains("CN=Corporate Inspection CA") && tls.contains("TLS-inspecting proxy"),
        "{tls}"
    );
    assert_eq!(found.code(), 1);
}

#[tokio::test]
async fn rejecting_or_unreachable_proxy_is_named() {
    let rejecting = EgressProxy::responding("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").await;
    let login = [
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "c"),
        ("CITRIX_CLIENT_SECRET", "c4nary"),
    ];
    let url = rejecting.url("user:c4nary@");
    let found = Findings::of(&[&login[..], &[("HTTPS_PROXY", &url)]].concat()).await;
    let egress = found.finding("egress", "failed");
    assert!(
        egress.contains(&format!(
            "{}: CONNECT rejected with 407",
            rejecting.address()
        )),
        "{egress}"
    );
    assert!(egress.contains("user and password"), "{egress}");
    found.finding("tls", "skipped");

    let down = Upstream::refusing();
    let url = down.url();
    let found = Findings::of(&[&login[..], &[("HTTPS_PROXY", &url)]].concat()).await;
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
async fn wrong_region_is_reported_for_403_and_307() {
    let cloud = Cloud::start(&["--fault", "/cvad/manage=403-region"]).await;
    let found = Findings::of(&cloud.settings()).await;
    assert!(
        found
            .finding("region", "failed")
            .contains("set cloud to the customer's region"),
        "{found:?}"
    );
    assert_eq!(found.code(), 1);

    let redirect = "HTTP/1.1 307 Moved\r\nLocation: https://api-eu.cloud.com/cvad/manage/me\r\nContent-Length: 0\r\n\r\n";
    let (api, token_endpoint) = (
        Upstream::responding(redirect).await,
        TokenEndpoint::granting().await,
    );
    let found = Findings::of(&environment(&api.url(), &token_endpoint.url())).await;
    let region = found.finding("region", "warning");
    assert!(
        region.contains("redirects to api-eu.cloud.com")
            && region.contains("set cloud = \"eu\"; until then /wem and /applayering lead to"),
        "{region}"
    );
    found.finding("site", "skipped");
    assert_eq!(found.code(), 0);
}

#[tokio::test]
async fn sites_are_listed_and_an_unknown_instance_id_fails() {
    const ONE: &str = "61603f15-cdf9-4c7f-99ff-91636601a795";
    const OTHER: &str = "71603f15-cdf9-4c7f-99ff-91636601a795";
    const VARIABLE: &str = "CITRIX_AUTH_PROXY_CITRIX__INSTANCE_ID";
    let cloud = Cloud::start(&["--site-id", ONE, "--site-id", OTHER]).await;
    let found = Findings::of(&cloud.settings()).await;
    let site = found.finding("site", "warning");
    assert!(
        site.contains(ONE) && site.contains(OTHER) && site.contains("instance_id"),
        "{site}"
    );
    let found = Findings::of(&with(cloud.settings(), &[(VARIABLE, OTHER)])).await;
    found.finding("site", "ok");
    let unknown = "81603f15-cdf9-4c7f-99ff-91636601a795";
    let found = Findings::of(&with(cloud.settings(), &[(VARIABLE, unknown)])).await;
    assert!(
        found
            .finding("site", "failed")
            .starts_with("instance_id is not among"),
        "{found:?}"
    );
    let found = Findings::of(&with(cloud.settings(), &[(VARIABLE, "")])).await;
    found.finding("site", "skipped");
    assert_eq!(found.code(), 0);
}

#[tokio::test]
async fn invalid_configuration_is_reported_as_json() {
    let exit = Program::run(
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
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(
        (exit.code, exit.stderr.as_str(), &report["ok"]),
        (Some(64), "", &Value::Bool(false))
    );
    assert_eq!(
        (
            report["problems"].as_array().map(Vec::len),
            report["checks"].as_array().map(Vec::len)
        ),
        (Some(6), Some(0))
    );
    let login = [
        ("CITRIX_CUSTOMER_ID", "acme"),
        ("CITRIX_CLIENT_ID", "c"),
        ("CITRIX_CLIENT_SECRET", "s"),
    ];
    let exit = Program::run(&["check", "--format", "json"], &login).await;
    let report: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(
        (exit.code, &report["ok"], &report["problems"]),
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
    let api_url = &settings
        .iter()
        .find(|(name, _)| name.ends_with("__API_URL"))
        .unwrap()
        .1;
    let port: u16 = api_url.rsplit_once(':').unwrap().1.parse().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plaintext = plain.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = plain.accept().await {
            let mut wire = Wire::new(socket);
            wire.bytes(1).await;
            wire.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            wire.rest().await;
        }
    });
    for (target, expected) in [
        (
            format!("127.0.0.1:{port}"),
            "the certificate, signed by CN=Corporate CA, is for another host | another server",
        ),
        (plaintext, "no handshake: "),
    ] {
        let proxy = EgressProxy::tunnelling_to(target.parse().unwrap()).await;
        let url = proxy.url("");
        let found = Findings::of(&[
            ("CITRIX_CUSTOMER_ID", "acme"),
            ("CITRIX_CLIENT_ID", "client"),
            ("CITRIX_CLIENT_SECRET", "c4nary"),
            ("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", ca.to_str().unwrap()),
            ("HTTPS_PROXY", &url),
        ])
        .await;
        let tls = found.finding("tls", "failed");
        assert!(tls.starts_with(expected), "{tls}");
        assert_eq!(found.code(), 1);
    }
}

#[tokio::test]
async fn network_without_large_client_hellos_is_a_warning() {
    let corporate = TestCa::new("Corporate CA");
    let (_emulator, files, proxy, settings) = behind_inspecting_proxy(&corporate).await;
    files.write("ca.pem", &corporate.pem());
    let ca = files.path("ca.pem");
    let mut variables = borrowed(&settings);
    variables.push(("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE", ca.to_str().unwrap()));
    let firewall = Firewall::start(Block::Reset, proxy.destination().unwrap()).await;
    proxy.tunnel_to(firewall.address());
    let found = Findings::of(&variables).await;
    let tls = found.finding("tls", "warning");
    assert!(
        tls.contains("rejects a ClientHello with a post-quantum key share | "),
        "{tls}"
    );
    assert_eq!(found.code(), 0);
    let hellos = firewall.large_hellos();
    assert_eq!((hellos[0], hellos.contains(&false)), (true, true));
    assert!(!hellos[1..].contains(&true), "{hellos:?}");
}
