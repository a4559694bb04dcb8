//! Identification of callers.

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
        secrets: secret
            .map(|secret| Sha256::of(secret.as_bytes()))
            .into_iter()
            .collect(),
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

/// Returns the caller's name, or the `Debug` form of the rejection.
fn identify(callers: &Callers, field: &str, address: &str, subject: Option<&str>) -> String {
    let certificate = subject.map(|subject| CallerCertificate {
        subject: subject.to_owned(),
        dns_names: Vec::new(),
    });
    let peer = PeerIdentity {
        address: address.parse().ok(),
        certificate: certificate.as_ref(),
    };
    let headers = headers(field);
    let presented = PresentedCredentials::read(&headers).unwrap();
    match callers.identify(&presented, peer) {
        Ok(identity) => callers.get(identity.caller).unwrap().name.clone(),
        Err(unknown) => format!("{unknown:?}"),
    }
}

#[test]
fn secret_identifies_its_caller_in_every_form() {
    let callers = Callers::new(vec![
        caller("a", Some("secret-of-a"), &[], None),
        caller("b", Some("secret-of-b"), &[], None),
    ]);
    for (field, expected) in [
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
        assert_eq!(
            identify(&callers, field, "10.0.0.1", None),
            expected,
            "{field}"
        );
    }
    // The configured hash does not authenticate.
    let hash = Sha256::of(b"secret-of-a").to_hex();
    assert_eq!(
        identify(&callers, &format!("X-Api-Key: {hash}"), "10.0.0.1", None),
        "WrongSecret"
    );
}

#[test]
fn each_secret_of_a_rotation_identifies_its_caller() {
    let mut first = caller("a", Some("old"), &[], None);
    first.secrets.push(Sha256::of(b"new"));
    let callers = Callers::new(vec![first, caller("b", Some("other"), &[], None)]);
    let peer = PeerIdentity {
        address: None,
        certificate: None,
    };
    let signer = Signer::new(&[7; 32]);
    for (secret, expected) in [
        ("old", Some((0, 0))),
        ("new", Some((0, 1))),
        ("other", Some((1, 0))),
        ("newer", None),
    ] {
        let headers = headers(&format!("X-Api-Key: {secret}"));
        let presented = PresentedCredentials::read(&headers).unwrap();
        let identity = callers.identify(&presented, peer).ok();
        let found = identity.map(|identity| (identity.caller, identity.secret.unwrap()));
        assert_eq!(found, expected, "{secret}");
        let Some(identity) = identity else { continue };
        let name = &callers.get(identity.caller).unwrap().name;
        let hash = Sha256::of(secret.as_bytes());
        let (now, hour) = (Clock::SYSTEM.now(), std::time::Duration::from_hours(1));
        let token = signer.issue(Some(name), Some(&hash), now, hour).unwrap();
        let by_token = callers.admit(
            &PresentedCredentials::Bearer(token.as_bytes()),
            peer,
            &signer,
            Clock::SYSTEM,
        );
        assert_eq!(by_token, Ok(identity), "{secret}");
    }
    // The rotation ends: tokens of the removed secret end with it.
    let after = Callers::new(vec![caller("a", Some("new"), &[], None)]);
    let now = Clock::SYSTEM.now();
    for (secret, valid) in [("old", false), ("new", true)] {
        let hash = Sha256::of(secret.as_bytes());
        let hour = std::time::Duration::from_hours(1);
        let token = signer.issue(Some("a"), Some(&hash), now, hour).unwrap();
        let presented = PresentedCredentials::Bearer(token.as_bytes());
        let admitted = after.admit(&presented, peer, &signer, Clock::SYSTEM);
        assert_eq!(admitted.is_ok(), valid, "{secret}");
    }
}

#[test]
fn configured_secret_networks_and_certificate_must_all_match() {
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    let callers = Callers::new(vec![caller("a", Some("s"), &networks, Some("CN=a"))]);
    for (field, address, subject, expected) in [
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
            "on a Unix socket",
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
            expected,
            "{field} {address} {subject:?}"
        );
    }
}

#[test]
fn without_a_secret_certificate_ranks_before_narrowest_network() {
    let callers = Callers::new(vec![
        caller("all", None, &["10.0.0.0/8"], None),
        caller("some", None, &["10.1.0.0/16", "192.0.2.1/32"], None),
        caller("certificate", None, &[], Some("CN=tool")),
        caller("both", None, &["10.1.0.0/16"], Some("CN=tool")),
        caller("secret", Some("s"), &[], None),
    ]);
    let old_token = "Authorization: CwsAuth Bearer=one-of-citrix";
    for (field, address, subject, expected) in [
        ("", "10.2.0.1", None, "all"),
        ("", "10.1.0.1", None, "some"),
        ("", "192.0.2.1", None, "some"),
        ("", "192.0.2.2", None, "NoCredentials"),
        ("", "10.2.0.1", Some("CN=tool"), "certificate"),
        ("", "10.1.0.1", Some("CN=tool"), "both"),
        ("", "on a Unix socket", Some("CN=tool"), "certificate"),
        ("", "10.2.0.1", Some("CN=other"), "all"),
        ("X-Api-Key: s", "10.2.0.1", None, "secret"),
        // Tools still send tokens that they once needed.
        (old_token, "10.2.0.1", None, "all"),
        (old_token, "192.0.2.2", None, "WrongSecret"),
        ("Authorization: Negotiate abc", "10.2.0.1", None, "all"),
        // Credentials for the gateway must be valid.
        ("X-Api-Key: t", "10.2.0.1", None, "WrongSecret"),
        (&basic("secret:t"), "10.2.0.1", None, "WrongSecret"),
        ("Authorization: Basic %", "10.2.0.1", None, "WrongSecret"),
    ] {
        assert_eq!(
            identify(&callers, field, address, subject),
            expected,
            "{field} {address} {subject:?}"
        );
    }
}

#[test]
fn log_names_the_caller_and_no_secret() {
    for (unknown, expected) in [
        (UnknownCaller::NoCredentials, "no credentials"),
        (UnknownCaller::WrongSecret, "match no caller"),
        (UnknownCaller::NameMismatch("a"), "secret of a"),
        (UnknownCaller::WrongPeer("a"), "secret of a"),
    ] {
        assert!(unknown.to_string().contains(expected), "{unknown}");
    }
    let callers = Callers::new(vec![caller("a", Some("s"), &[], None)]);
    let printed = format!("{callers:?}");
    assert!(
        printed.contains("[REDACTED]") && !printed.contains(&Sha256::of(b"s").to_hex()),
        "{printed}"
    );
}

proptest! {
    #[test]
    fn random_credentials_identify_no_caller(field in "[ -~]{0,40}", address in any::<[u8; 4]>()) {
        let callers = Callers::new(vec![caller("a", Some("the very secret of a"), &[], None)]);
        for name in [&X_API_KEY, &AUTHORIZATION] {
            let mut headers = HeaderMap::new();
            headers.insert(name, field.parse().unwrap());
            let presented = PresentedCredentials::read(&headers).unwrap();
            let peer = PeerIdentity { address: Some(address.into()), certificate: None };
            prop_assert!(callers.identify(&presented, peer).is_err());
        }
    }

    #[test]
    fn network_contains_exactly_the_addresses_of_its_prefix(
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
            let peer = PeerIdentity { address: Some(address), certificate: None };
            let expected = match address.to_canonical() {
                IpAddr::V4(v4) => u32::from(v4) & mask == network,
                IpAddr::V6(_) => false,
            };
            prop_assert_eq!(callers.identify(&PresentedCredentials::Absent, peer).is_ok(), expected);
        }
    }
}
