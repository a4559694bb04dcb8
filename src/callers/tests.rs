//! Who is let in, and as whom.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use proptest::prelude::*;

use super::credentials::X_API_KEY;
use super::*;
use crate::config::{CertificateName, Mode};
use citrix_wire::policy::Rules;

pub(super) fn caller(
    name: &str,
    secret: Option<&str>,
    networks: &[&str],
    certificate: Option<&str>,
) -> Caller {
    Caller {
        name: name.to_owned(),
        secret: secret.map(|secret| Sha256::of(secret.as_bytes())),
        networks: networks
            .iter()
            .map(|network| network.parse().unwrap())
            .collect(),
        certificate: certificate.map(CertificateName::new),
        rules: Rules::default(),
        max_concurrent: None,
        max_per_second: None,
        mode: Mode::Enforce,
    }
}

fn headers(field: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    match field.split_once(": ") {
        Some(("X-Api-Key", value)) => headers.insert(X_API_KEY, value.parse().unwrap()),
        Some((_, value)) => headers.insert(AUTHORIZATION, value.parse().unwrap()),
        None => None,
    };
    headers
}

fn basic(pair: &str) -> String {
    use base64::Engine as _;
    format!(
        "Authorization: Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// Who it is, or why it is nobody.
fn identify(callers: &Callers, field: &str, address: &str, subject: Option<&str>) -> String {
    let certificate = subject.map(|subject| CallerCertificate {
        subject: subject.to_owned(),
        dns_names: Vec::new(),
    });
    let origin = PeerIdentity {
        address: address.parse().ok(),
        certificate: certificate.as_ref(),
    };
    let headers = headers(field);
    let shown = PresentedCredentials::read(&headers).unwrap();
    match callers.identify(&shown, origin) {
        Ok(number) => callers.get(number).unwrap().name.clone(),
        Err(unknown) => format!("{unknown:?}"),
    }
}

#[test]
fn a_secret_names_its_caller_in_every_form_it_may_be_sent() {
    let callers = Callers::new(vec![
        caller("a", Some("secret-of-a"), &[], None),
        caller("b", Some("secret-of-b"), &[], None),
    ]);
    for (field, who) in [
        ("X-Api-Key: secret-of-a", "a"),
        ("X-Api-Key: secret-of-b", "b"),
        ("Authorization: Bearer secret-of-b", "b"),
        ("Authorization: CWSAuth bearer=secret-of-a", "a"),
        (&basic("a:secret-of-a"), "a"),
        (&basic("b:secret-of-a"), "NameMismatch(\"a\")"),
        (&basic(":secret-of-a"), "NameMismatch(\"a\")"),
        (&basic("a:"), "WrongSecret"),
        (&basic("a"), "WrongSecret"),
        ("X-Api-Key: secret-of-", "WrongSecret"),
        ("X-Api-Key: secret-of-aa", "WrongSecret"),
        ("X-Api-Key: a", "WrongSecret"),
        ("Authorization: secret-of-a", "NoCredentials"),
        ("", "NoCredentials"),
    ] {
        assert_eq!(identify(&callers, field, "10.0.0.1", None), who, "{field}");
    }
    // What the configuration keeps is no secret.
    let hash = Sha256::of(b"secret-of-a").to_hex();
    assert_eq!(
        identify(&callers, &format!("X-Api-Key: {hash}"), "10.0.0.1", None),
        "WrongSecret"
    );
}

#[test]
fn what_is_given_of_secret_networks_and_certificate_must_all_hold() {
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    let callers = Callers::new(vec![caller("a", Some("s"), &networks, Some("CN=a"))]);
    for (field, address, subject, who) in [
        ("X-Api-Key: s", "10.255.0.1", Some("CN=a"), "a"),
        ("X-Api-Key: s", "::ffff:10.1.2.3", Some("CN=a"), "a"),
        ("X-Api-Key: s", "2001:db8::7", Some("CN=a"), "a"),
        ("X-Api-Key: s", "11.0.0.1", Some("CN=a"), "WrongPeer(\"a\")"),
        (
            "X-Api-Key: s",
            "2001:db9::7",
            Some("CN=a"),
            "WrongPeer(\"a\")",
        ),
        (
            "X-Api-Key: s",
            "on a unix socket",
            Some("CN=a"),
            "WrongPeer(\"a\")",
        ),
        ("X-Api-Key: s", "10.0.0.1", Some("CN=b"), "WrongPeer(\"a\")"),
        ("X-Api-Key: s", "10.0.0.1", None, "WrongPeer(\"a\")"),
        ("X-Api-Key: t", "10.0.0.1", Some("CN=a"), "WrongSecret"),
        ("", "10.0.0.1", Some("CN=a"), "NoCredentials"),
    ] {
        assert_eq!(
            identify(&callers, field, address, subject),
            who,
            "{field} {address} {subject:?}"
        );
    }
}

#[test]
fn without_a_secret_the_certificate_counts_and_then_the_smallest_network() {
    let callers = Callers::new(vec![
        caller("all", None, &["10.0.0.0/8"], None),
        caller("some", None, &["10.1.0.0/16", "192.0.2.1/32"], None),
        caller("shown", None, &[], Some("CN=shown")),
        caller("both", None, &["10.1.0.0/16"], Some("CN=shown")),
        caller("secret", Some("s"), &[], None),
    ]);
    let old_token = "Authorization: CwsAuth Bearer=one-of-citrix";
    for (field, address, subject, who) in [
        ("", "10.2.0.1", None, "all"),
        ("", "10.1.0.1", None, "some"),
        ("", "192.0.2.1", None, "some"),
        ("", "192.0.2.2", None, "NoCredentials"),
        ("", "10.2.0.1", Some("CN=shown"), "shown"),
        ("", "10.1.0.1", Some("CN=shown"), "both"),
        ("", "on a unix socket", Some("CN=shown"), "shown"),
        ("", "10.2.0.1", Some("CN=stranger"), "all"),
        ("X-Api-Key: s", "10.2.0.1", None, "secret"),
        // Tools go on sending what they once needed.
        (old_token, "10.2.0.1", None, "all"),
        (old_token, "192.0.2.2", None, "WrongSecret"),
        ("Authorization: Negotiate abc", "10.2.0.1", None, "all"),
        // What was meant for this gateway is a mistake when it is wrong.
        ("X-Api-Key: t", "10.2.0.1", None, "WrongSecret"),
        (&basic("secret:t"), "10.2.0.1", None, "WrongSecret"),
        ("Authorization: Basic %", "10.2.0.1", None, "WrongSecret"),
    ] {
        assert_eq!(
            identify(&callers, field, address, subject),
            who,
            "{field} {address} {subject:?}"
        );
    }
}

#[test]
fn what_the_log_is_told_names_the_caller_and_no_secret() {
    for unknown in [
        UnknownCaller::NoCredentials,
        UnknownCaller::WrongSecret,
        UnknownCaller::NameMismatch("a"),
        UnknownCaller::WrongPeer("a"),
    ] {
        assert!(unknown.to_string().contains("shown"), "{unknown}");
    }
    let callers = Callers::new(vec![caller("a", Some("s"), &[], None)]);
    let shown = format!("{callers:?}");
    assert!(
        shown.contains("[REDACTED]") && !shown.contains(&Sha256::of(b"s").to_hex()),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn nobody_gets_in_with_anything_but_a_secret(field in "[ -~]{0,40}", address in any::<[u8; 4]>()) {
        let callers = Callers::new(vec![caller("a", Some("the very secret of a"), &[], None)]);
        for name in [&X_API_KEY, &AUTHORIZATION] {
            let mut headers = HeaderMap::new();
            headers.insert(name, field.parse().unwrap());
            let shown = PresentedCredentials::read(&headers).unwrap();
            let origin = PeerIdentity { address: Some(address.into()), certificate: None };
            prop_assert!(callers.identify(&shown, origin).is_err());
        }
    }

    #[test]
    fn a_network_holds_exactly_what_its_prefix_says(
        network in any::<u32>(), length in 0_u8..=32, address in any::<u32>(), inside in any::<bool>(),
    ) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let network = network & mask;
        let address = if inside { network | (address & !mask) } else { address };
        let net = format!("{}/{length}", std::net::Ipv4Addr::from(network));
        let callers = Callers::new(vec![caller("a", None, &[&net], None)]);
        for address in [
            IpAddr::V4(address.into()),
            IpAddr::V6(std::net::Ipv4Addr::from(address).to_ipv6_mapped()),
        ] {
            let origin = PeerIdentity { address: Some(address), certificate: None };
            let expected = match address.to_canonical() {
                IpAddr::V4(v4) => u32::from(v4) & mask == network,
                IpAddr::V6(_) => false,
            };
            prop_assert_eq!(callers.identify(&PresentedCredentials::Absent, origin).is_ok(), expected);
        }
    }
}
