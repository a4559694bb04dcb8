//! `[[caller]]` and `[insecure]`: who may come in.

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
fn a_caller_has_a_name_and_shows_a_secret_or_comes_from_a_network() {
    let text =
        block(&format!(
            "name = 'Splunk.1@x_y-z'\nsecret_sha256 = '{HASH}'"
        )) + &block(
            "name = 'b'\nnetworks = ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32']\nmode = 'enforce'",
        ) + &block("name = 'c'\nnetworks = '0.0.0.0/0'\nmax_concurrent = 0\nmax_per_second = 0");
    let callers = good(&text).live.callers.clone();
    assert_eq!(callers[0].name, "Splunk.1@x_y-z");
    assert_eq!(
        callers[0]
            .secret
            .map(|hash| (hash.as_bytes()[0], hash.as_bytes()[31])),
        Some((0x48, 0xb2))
    );
    let networks: Vec<String> = callers[1]
        .networks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    assert!(
        callers[1].secret.is_none()
            && callers[1].is_network_only()
            && !callers[0].is_network_only()
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
fn what_is_wrong_with_a_caller_is_told() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (keys, why) in [
        (
            format!("secret_sha256 = '{HASH}'"),
            "caller[0].name: missing",
        ),
        (
            "name = 'a'".to_owned(),
            "caller[0].secret_sha256: missing: nothing tells who this caller is",
        ),
        (
            format!("name = ''\nsecret_sha256 = '{HASH}'"),
            "caller[0].name: \"\" is not a caller's name",
        ),
        (
            format!("name = 'a b'\nsecret_sha256 = '{HASH}'"),
            "is not a caller's name",
        ),
        (
            format!("name = 'a:b'\nsecret_sha256 = '{HASH}'"),
            "is not a caller's name",
        ),
        (
            format!("name = 'ä'\nsecret_sha256 = '{HASH}'"),
            "is not a caller's name",
        ),
        (
            format!("name = '{}'\nsecret_sha256 = '{HASH}'", "x".repeat(65)),
            "is not a caller's name",
        ),
        (
            format!("name = 'none'\nsecret_sha256 = '{HASH}'"),
            "what metrics call those who have no name",
        ),
        (
            format!("name = 'anonymous'\nsecret_sha256 = '{HASH}'"),
            "what metrics call those",
        ),
        (
            format!("name = 1\nsecret_sha256 = '{HASH}'"),
            "1 is not a string in quotes",
        ),
        (
            "name = 'a'\nsecret_sha256 = 'c4nary'".to_owned(),
            "secret_sha256: must be 64 hex digits",
        ),
        (
            format!("name = 'a'\nsecret_sha256 = '{empty}'"),
            "is the SHA-256 of nothing",
        ),
        (
            "name = 'a'\nnetworks = []".to_owned(),
            "networks: is an empty list",
        ),
        (
            "name = 'a'\nnetworks = ['10.0.0.1/8']".to_owned(),
            "bits beyond its prefix; the network is 10.0.0.0/8",
        ),
        (
            "name = 'a'\nnetworks = ['10.0.0.0/33']".to_owned(),
            "\"10.0.0.0/33\" is not a network",
        ),
        (
            "name = 'a'\nnetworks = ['10.0.0']".to_owned(),
            "is not a network",
        ),
        (
            "name = 'a'\nnetworks = ['localhost']".to_owned(),
            "is not a network",
        ),
        (
            "name = 'a'\nnetworks = ['::ffff:10.0.0.0/104']".to_owned(),
            "write it as IPv4",
        ),
        (
            "name = 'a'\nnetworks = 10".to_owned(),
            "10 is neither a string nor a list",
        ),
        (
            format!("name = 'a'\nsecret_sha256 = '{HASH}'\nsecret = 'c4nary'"),
            "caller[0].secret: unknown key",
        ),
    ] {
        refused_since(&block(&keys), why);
    }
    refused_since("caller = 1", "caller: must be a list of blocks");
}

#[test]
fn callers_can_be_told_apart() {
    let network =
        |name: &str, network: &str| block(&format!("name = '{name}'\nnetworks = ['{network}']"));
    good(&(with_secret("a", "s") + &with_secret("b", "t") + &with_secret("A", "u")));
    good(&(network("a", "10.0.0.0/8") + &network("b", "10.0.0.0/16") + &with_secret("c", "s")));
    for (text, why) in [
        (
            with_secret("a", "s") + &with_secret("a", "t"),
            "caller[1].name: \"a\" is the name of caller[0] already",
        ),
        (
            with_secret("a", "s") + &with_secret("b", "s"),
            "caller[1].secret_sha256: is that of caller[0] already",
        ),
        (
            network("a", "10.0.0.0/8") + &network("b", "10.0.0.0/8"),
            "caller[1].networks: 10.0.0.0/8 is of caller[0] already",
        ),
    ] {
        refused_since(&text, why);
    }
    // Places are those in the file, whatever is wrong before.
    let text = block("name = 'a'") + &with_secret("b", "s") + &with_secret("b", "t");
    let problems = printed(&read(&text).expect_err(&text));
    assert!(
        problems.contains("caller[2].name: \"b\" is the name of caller[1] already"),
        "{problems}"
    );
    let problems =
        printed(&read(&block("name = 'a'\nnetworks = ['10.0.0.1/8', 'x']")).expect_err("two"));
    assert!(
        problems.contains("beyond its prefix") && problems.contains("\"x\" is not"),
        "{problems}"
    );

    let many: String = (0..1001)
        .map(|n| with_secret(&format!("c{n}"), &format!("s{n}")))
        .collect();
    refused_since(&many, "caller: 1001 blocks are too many; 1000 are the most");
}

#[test]
fn a_caller_may_do_what_its_rules_say() {
    let text = with_secret("a", "s")
        + "methods = ['GET', 'PATCH']\npaths = ['/systemlog/**', '/a b/*']\ncustomers = ['ACME']\n\
           max_concurrent = 3\nmax_per_second = 20\nmode = 'enforce'";
    let config = good(&text);
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
            !good(&(with_secret("a", "s") + one)).live.callers[0]
                .rules
                .is_empty(),
            "{one}"
        );
    }
}

#[test]
fn rules_that_are_only_observed_are_warned_about() {
    let config = good(&(with_secret("a", "s") + "mode = 'observe'"));
    assert_eq!(config.live.callers[0].mode, Mode::Observe);
    assert!(
        config.warnings[0].starts_with("caller[0].mode: observe: "),
        "{:?}",
        config.warnings
    );
}

#[test]
fn every_mistake_in_the_rules_is_told() {
    for (keys, told) in [
        ("methods = []", &["methods: is an empty list"][..]),
        (
            "methods = ['get', 'GET', 'TRACE']",
            &["\"get\" is none of the methods", "\"TRACE\" is none of"],
        ),
        (
            "methods = ['BREW']",
            &["methods: \"BREW\" is none of the methods that are forwarded: GET, HEAD, "],
        ),
        ("paths = []", &["paths: is an empty list"]),
        ("paths = 1", &["1 is neither a string nor a list"]),
        (
            "paths = ['a', '/ok', '/a**', '/a/../b', '/%61']",
            &[
                "paths: \"a\" is no pattern of paths: it does not begin with a slash; for example: \
                 paths = [\"/systemlog/**\"]",
                "\"/a**\" is no pattern of paths: ** must be a whole segment",
                "\"/a/../b\" is no pattern of paths: no path can match it",
                "\"/%61\" is no pattern of paths: it contains '%'",
            ],
        ),
        (
            "customers = ['contoso', 'acme', 'x']",
            &["\"contoso\" is no customer of this gateway", "\"x\" is no"],
        ),
        ("customers = []", &["customers: is an empty list"]),
        ("max_concurrent = -1", &["is not between 0 and"]),
        ("max_per_second = '1'", &["is not a whole number"]),
        ("mode = 'watch'", &["is none of enforce, observe"]),
        (
            "methods = ['x']\npaths = ['y']",
            &["caller[0].methods: \"x\"", "caller[0].paths: \"y\""],
        ),
    ] {
        let problems = read(&(with_secret("a", "s") + keys)).expect_err(keys);
        let all = printed(&problems);
        assert_eq!(problems.len(), told.len(), "{keys}\n{all}");
        for told in told {
            assert!(all.contains(told), "{keys}\n{all}");
        }
    }
}

#[test]
fn a_certificate_is_shown_where_one_is_asked_for() {
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
        let config = good(&(with(name) + &asking));
        assert_eq!(config.live.callers[0].certificate, Some(expected));
        assert_eq!(
            config.live.hosts,
            AllowedHosts::Any,
            "who shows a certificate shows who he is"
        );
    }
    for (text, why) in [
        (
            with("CN=a"),
            "caller[0].client_certificate: can never be shown",
        ),
        (
            with("CN=a") + &tls(""),
            "caller[0].client_certificate: can never be shown",
        ),
        (
            with(" ") + &asking,
            "caller[0].client_certificate: is empty",
        ),
        (
            with("CN=a") + &block("name = 'b'\nclient_certificate = 'CN=a'") + &asking,
            "is that of caller[0] already",
        ),
    ] {
        refused_since(&text, why);
    }
}

#[test]
fn other_machines_are_served_once_it_is_said_who_may() {
    let everywhere = "[listen]\naddress = ['0.0.0.0:80', '[::]:80']\n";
    let problems = printed(&read(everywhere).unwrap_err());
    for what in [
        "0.0.0.0:80 can be reached",
        "[[caller]]",
        "caller new",
        "allow_anonymous = true in [insecure]",
    ] {
        assert!(problems.contains(what), "{problems}");
    }
    assert!(
        good(&(with_secret("a", "s") + everywhere))
            .warnings
            .is_empty()
    );

    let anyone = good(&format!("{everywhere}[insecure]\nallow_anonymous = true"));
    assert!(anyone.live.callers.is_empty());
    assert_eq!(anyone.warnings.len(), 1);
    assert!(
        anyone.warnings[0].contains("whoever reaches the gateway acts with"),
        "{:?}",
        anyone.warnings
    );

    let both = with_secret("a", "s") + "[insecure]\nallow_anonymous = true";
    assert!(good(&both).warnings[0].contains("does nothing"));
    refused_since(
        "[insecure]\nallow_anonymous = 1",
        "1 is neither true nor false",
    );
    // A mistake in a block is told alone.
    refused_since(
        &format!("{everywhere}[[caller]]\nname = 'a'"),
        "nothing tells who this caller is",
    );
}

#[test]
fn any_name_is_answered_when_everybody_shows_who_he_is() {
    let shown = with_secret("a", "s");
    let known = block("name = 'n'\nnetworks = ['10.0.0.0/8']");
    let hosts = |text: &str| good(text).live.hosts.clone();
    let names =
        |names: &[&str]| AllowedHosts::Only(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(hosts(&shown), AllowedHosts::Any);
    assert_eq!(hosts(&(shown.clone() + &known)), names(&[]));
    assert_eq!(hosts("[insecure]\nallow_anonymous = true"), names(&[]));
    assert_eq!(
        hosts(&(shown.clone() + "[listen]\nhosts = ['Gw']")),
        names(&["gw"])
    );
    assert_eq!(hosts(&(shown.clone() + "[listen]\nhosts = []")), names(&[]));
    assert!(good(&known).warnings[0].starts_with("listen.hosts: not set, "));
    assert!(
        good(&(known.clone() + "[listen]\nhosts = ['gw']"))
            .warnings
            .is_empty()
    );
    assert!(
        good(&(shown + "[listen]\nhosts = ['*']"))
            .warnings
            .is_empty()
    );
    assert_eq!(good(&(known + "[listen]\nhosts = ['*']")).warnings.len(), 1);
}
