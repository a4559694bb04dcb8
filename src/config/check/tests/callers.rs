//! `[[caller]]` and `[insecure]`.

use std::num::{NonZeroU32, NonZeroUsize};

use super::*;
use crate::config::{CertificateName, Mode};
use crate::system::digest::Sha256;
use citrix_wire::policy::{Decision, Restriction};

const HASH: &str = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2";

fn block(keys: &str) -> String {
    format!("[[caller]]\n{keys}\n")
}

fn with_secret(name: &str, secret: &str) -> String {
    block(&format!(
        "name = '{name}'\nsecret_sha256 = '{}'",
        Sha256::of(secret.as_bytes()).to_hex()
    ))
}

#[test]
fn caller_has_a_name_and_credentials() {
    let text =
        block(&format!(
            "name = 'Splunk.1@x_y-z'\nsecret_sha256 = '{HASH}'"
        )) + &block(
            "name = 'b'\nnetworks = ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32']\nmode = 'enforce'",
        ) + &block("name = 'c'\nnetworks = '0.0.0.0/0'\nmax_concurrent = 0\nmax_per_second = 0");
    let callers = accept(&text).live.callers.clone();
    assert_eq!(callers[0].name, "Splunk.1@x_y-z");
    assert_eq!(
        callers[0]
            .secrets
            .iter()
            .map(|hash| (hash.as_bytes()[0], hash.as_bytes()[31]))
            .collect::<Vec<_>>(),
        [(0x48, 0xb2)]
    );
    let networks: Vec<String> = callers[1]
        .networks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    assert!(
        !callers[1].has_secret() && callers[1].is_network_only() && !callers[0].is_network_only()
    );
    let all = &callers[2];
    assert!(all.rules.is_empty());
    assert_eq!(all.mode, Mode::Enforce);
    assert_eq!(
        (callers[2].max_concurrent, callers[2].max_per_second),
        (None, None)
    );
}

#[test]
fn caller_has_one_secret_or_two_during_a_rotation() {
    let of = |text: &str| Sha256::of(text.as_bytes()).to_hex();
    let with = |secrets: &str| block(&format!("name = 'a'\nsecret_sha256 = {secrets}"));
    let (old, new) = (of("old"), of("new"));
    for (secrets, count) in [
        (format!("'{old}'"), 1),
        (format!("['{old}']"), 1),
        (format!("['{old}', '{new}']"), 2),
    ] {
        assert_eq!(accept(&with(&secrets)).live.callers[0].secrets.len(), count);
    }
    for (secrets, problem) in [
        ("[]".to_owned(), "a list of 0 hashes"),
        (
            format!("['{old}', '{new}', '{HASH}']"),
            "a list of 3 hashes",
        ),
        (format!("['{old}', '{old}']"), "the same hash twice"),
        (format!("['{old}', 'c4nary']"), "must be the 64 hex digits"),
        (format!("['{old}', 7]"), "must be the 64 hex digits"),
        (
            format!("['{old}', '{}']", of("")),
            "SHA-256 of an empty secret",
        ),
    ] {
        rejects_with(
            &with(&secrets),
            &format!("caller[0].secret_sha256: {problem}"),
        );
    }
    let other = block(&format!("name = 'b'\nsecret_sha256 = '{new}'"));
    rejects_with(
        &(with(&format!("['{old}', '{new}']")) + &other),
        "caller[1].secret_sha256: duplicate secret of caller[0]",
    );
}

/// Invalid blocks, each with the problem.
const INVALID_BLOCKS: [(&str, &str); 11] = [
    (
        "name = 'a'",
        "caller[0].secret_sha256: missing: a caller requires",
    ),
    (
        "name = 'a'\nsecret_sha256 = 'c4nary'",
        "secret_sha256: must be the 64 hex digits",
    ),
    (
        "name = 'a'\nsecret_sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
        "SHA-256 of an empty secret",
    ),
    (
        "name = 'a'\nnetworks = []",
        "networks: must not be an empty list",
    ),
    (
        "name = 'a'\nnetworks = ['10.0.0.1/8']",
        "beyond the prefix; the network is 10.0.0.0/8",
    ),
    (
        "name = 'a'\nnetworks = ['10.0.0.0/33']",
        "invalid network \"10.0.0.0/33\"",
    ),
    ("name = 'a'\nnetworks = ['10.0.0']", "invalid network"),
    ("name = 'a'\nnetworks = ['localhost']", "invalid network"),
    (
        "name = 'a'\nnetworks = ['::ffff:10.0.0.0/104']",
        "write an IPv4-mapped network as IPv4",
    ),
    (
        "name = 'a'\nnetworks = 10",
        "invalid string or list of strings 10",
    ),
    (
        "networks = ['10.0.0.0/8']\nname = 'a'\nsecret = 'c4nary'",
        "caller[0].secret: unknown key",
    ),
];

/// Names in TOML, each with the problem.
const INVALID_NAMES: [(&str, &str); 8] = [
    ("''", "caller[0].name: \"\" is not a valid caller name"),
    ("'a b'", "is not a valid caller name"),
    ("'a:b'", "is not a valid caller name"),
    ("'ä'", "is not a valid caller name"),
    (
        "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'",
        "is not a valid caller name",
    ),
    ("'none'", "\"none\" is reserved"),
    ("'anonymous'", "\"anonymous\" is reserved"),
    ("1", "invalid string 1"),
];

#[test]
fn invalid_caller_is_rejected() {
    for (keys, part) in INVALID_BLOCKS {
        rejects_with(&block(keys), part);
    }
    for (name, part) in INVALID_NAMES {
        let keys = format!("name = {name}\nsecret_sha256 = '{HASH}'");
        rejects_with(&block(&keys), part);
    }
    rejects_with(
        &block(&format!("secret_sha256 = '{HASH}'")),
        "caller[0].name: missing",
    );
    rejects_with("caller = 1", "caller: must be an array of tables");
}

#[test]
fn duplicate_name_or_credentials_are_rejected() {
    let network =
        |name: &str, network: &str| block(&format!("name = '{name}'\nnetworks = ['{network}']"));
    accept(&(with_secret("a", "s") + &with_secret("b", "t") + &with_secret("A", "u")));
    accept(&(network("a", "10.0.0.0/8") + &network("b", "10.0.0.0/16") + &with_secret("c", "s")));
    for (text, part) in [
        (
            with_secret("a", "s") + &with_secret("a", "t"),
            "caller[1].name: duplicate name of caller[0]",
        ),
        (
            with_secret("a", "s") + &with_secret("b", "s"),
            "caller[1].secret_sha256: duplicate secret of caller[0]",
        ),
        (
            network("a", "10.0.0.0/8") + &network("b", "10.0.0.0/8"),
            "caller[1].networks: duplicate network 10.0.0.0/8 of caller[0]",
        ),
    ] {
        rejects_with(&text, part);
    }
    // Indices are those in the file, even after an invalid block.
    let text = block("name = 'a'") + &with_secret("b", "s") + &with_secret("b", "t");
    let problems = printed(&read(&text).expect_err(&text));
    assert!(
        problems.contains("caller[2].name: duplicate name of caller[1]"),
        "{problems}"
    );
    let problems =
        printed(&read(&block("name = 'a'\nnetworks = ['10.0.0.1/8', 'x']")).expect_err("two"));
    assert!(
        problems.contains("beyond the prefix") && problems.contains("network \"x\""),
        "{problems}"
    );

    let many: String = (0..1001)
        .map(|n| with_secret(&format!("c{n}"), &format!("s{n}")))
        .collect();
    rejects_with(&many, "caller: 1001 [[caller]] blocks; the maximum is 1000");
}

#[test]
fn rules_restrict_methods_paths_and_customers() {
    let text = with_secret("a", "s")
        + "methods = ['GET', 'PATCH']\npaths = ['/systemlog/**', '/a b/*']\ncustomers = ['ACME']\n\
           max_concurrent = 3\nmax_per_second = 20\nmode = 'enforce'";
    let config = accept(&text);
    let caller = &config.live.callers[0];
    for (method, path, customer, verdict) in [
        ("GET", "/systemlog/records", "acme", Decision::Allowed),
        ("PATCH", "/a%20b/c", "Acme", Decision::Allowed),
        (
            "POST",
            "/systemlog",
            "acme",
            Decision::Denied(Restriction::Methods),
        ),
        (
            "GET",
            "/monitorodata",
            "acme",
            Decision::Denied(Restriction::Paths),
        ),
        (
            "GET",
            "/systemlog",
            "contoso",
            Decision::Denied(Restriction::Customers),
        ),
    ] {
        assert_eq!(
            caller.rules.evaluate(method, path, customer),
            verdict,
            "{method} {path} {customer}"
        );
    }
    assert_eq!(caller.max_concurrent.map(NonZeroUsize::get), Some(3));
    assert_eq!(caller.max_per_second.map(NonZeroU32::get), Some(20));
    assert_eq!((caller.mode, config.warnings.len()), (Mode::Enforce, 0));
    for one in ["methods = 'GET'", "paths = '/a'", "customers = 'acme'"] {
        assert!(
            !accept(&(with_secret("a", "s") + one)).live.callers[0]
                .rules
                .is_empty(),
            "{one}"
        );
    }
}

#[test]
fn observed_rules_log_a_warning() {
    let config = accept(&(with_secret("a", "s") + "mode = 'observe'"));
    assert_eq!(config.live.callers[0].mode, Mode::Observe);
    assert!(
        config.warnings[0].starts_with("caller[0].mode: observe: "),
        "{:?}",
        config.warnings
    );
}

#[test]
fn all_problems_of_rules_are_reported() {
    for (keys, expected) in [
        ("methods = []", &["methods: must not be an empty list"][..]),
        (
            "methods = ['get', 'GET', 'TRACE']",
            &["\"get\" is not one of GET", "\"TRACE\" is not one of"],
        ),
        (
            "methods = ['BREW']",
            &["methods: \"BREW\" is not one of GET, HEAD, "],
        ),
        ("paths = []", &["paths: must not be an empty list"]),
        ("paths = 1", &["invalid string or list of strings 1"]),
        (
            "paths = ['a', '/ok', '/a**', '/a/../b', '/%61']",
            &[
                "paths: invalid path pattern \"a\": ",
                "invalid path pattern \"/a**\": ",
                "invalid path pattern \"/a/../b\": ",
                "invalid path pattern \"/%61\": ",
            ],
        ),
        (
            "customers = ['contoso', 'acme', 'x']",
            &["unknown customer \"contoso\"", "unknown customer \"x\""],
        ),
        ("customers = []", &["customers: must not be an empty list"]),
        ("max_concurrent = -1", &["is not between 0 and"]),
        ("max_per_second = '1'", &["invalid integer \"1\""]),
        ("mode = 'watch'", &["is not one of enforce, observe"]),
        (
            "methods = ['x']\npaths = ['y']",
            &["caller[0].methods: \"x\"", "caller[0].paths: invalid"],
        ),
    ] {
        let problems = read(&(with_secret("a", "s") + keys)).expect_err(keys);
        let all = printed(&problems);
        assert_eq!(problems.len(), expected.len(), "{keys}\n{all}");
        for expected in expected {
            assert!(all.contains(expected), "{keys}\n{all}");
        }
    }
}

#[test]
fn client_certificate_requires_client_ca() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().display();
    let tls = |keys: &str| {
        format!("[listen]\ntls = {{ certificate = '{file}', key = '{file}'{keys} }}\n")
    };
    let asking = tls(&format!(", client_ca = '{file}'"));
    let with = |name: &str| block(&format!("name = 'a'\nclient_certificate = '{name}'"));
    for (name, expected) in [
        (
            "cn=a, O=b",
            CertificateName::Subject(vec!["CN=a".to_owned(), "O=b".to_owned()]),
        ),
        (
            "a.example.net",
            CertificateName::Dns("a.example.net".to_owned()),
        ),
    ] {
        let config = accept(&(with(name) + &asking));
        assert_eq!(config.live.callers[0].certificate, Some(expected));
        assert_eq!(
            config.live.hosts,
            AllowedHosts::Any,
            "a certificate authenticates the caller"
        );
    }
    for (text, part) in [
        (
            with("CN=a"),
            "caller[0].client_certificate: requires listen.tls.client_ca",
        ),
        (
            with("CN=a") + &tls(""),
            "caller[0].client_certificate: requires listen.tls.client_ca",
        ),
        (
            with(" ") + &asking,
            "caller[0].client_certificate: must not be empty",
        ),
        (
            with("CN=a") + &block("name = 'b'\nclient_certificate = 'CN=a'") + &asking,
            "duplicate certificate of caller[0]",
        ),
    ] {
        rejects_with(&text, part);
    }
}

#[test]
fn remote_address_requires_callers_or_allow_anonymous() {
    let everywhere = "[listen]\naddress = ['0.0.0.0:80', '[::]:80']\n";
    let problems = printed(&read(everywhere).unwrap_err());
    for what in [
        "0.0.0.0:80 is not a loopback address",
        "[[caller]]",
        "caller new",
        "allow_anonymous = true in [insecure]",
    ] {
        assert!(problems.contains(what), "{problems}");
    }
    assert!(
        accept(&(with_secret("a", "s") + everywhere))
            .warnings
            .is_empty()
    );

    let anyone = accept(&format!("{everywhere}[insecure]\nallow_anonymous = true"));
    assert!(anyone.live.callers.is_empty());
    assert_eq!(anyone.warnings.len(), 1);
    assert!(
        anyone.warnings[0].contains("every client that can connect"),
        "{:?}",
        anyone.warnings
    );

    let both = with_secret("a", "s") + "[insecure]\nallow_anonymous = true";
    assert!(accept(&both).warnings[0].contains("has no effect"));
    rejects_with("[insecure]\nallow_anonymous = 1", "invalid boolean 1");
    // An invalid block is the only problem.
    rejects_with(
        &format!("{everywhere}[[caller]]\nname = 'a'"),
        "a caller requires",
    );
}

#[test]
fn any_host_is_allowed_if_all_callers_authenticate() {
    let authenticated = with_secret("a", "s");
    let by_network = block("name = 'n'\nnetworks = ['10.0.0.0/8']");
    let hosts = |text: &str| accept(text).live.hosts.clone();
    let names =
        |names: &[&str]| AllowedHosts::Only(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(hosts(&authenticated), AllowedHosts::Any);
    assert_eq!(hosts(&(authenticated.clone() + &by_network)), names(&[]));
    assert_eq!(hosts("[insecure]\nallow_anonymous = true"), names(&[]));
    assert_eq!(
        hosts(&(authenticated.clone() + "[listen]\nhosts = ['Gw']")),
        names(&["gw"])
    );
    assert_eq!(
        hosts(&(authenticated.clone() + "[listen]\nhosts = []")),
        names(&[])
    );
    assert!(accept(&by_network).warnings[0].starts_with("listen.hosts: not set, "));
    assert!(
        accept(&(by_network.clone() + "[listen]\nhosts = ['gw']"))
            .warnings
            .is_empty()
    );
    assert!(
        accept(&(authenticated + "[listen]\nhosts = ['*']"))
            .warnings
            .is_empty()
    );
    assert_eq!(
        accept(&(by_network + "[listen]\nhosts = ['*']"))
            .warnings
            .len(),
        1
    );
}
