//! Where a connection comes from and where it is to lead: the PROXY header, `Host`, the target of
//! CONNECT.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use citrix_auth_proxy::inbound::proxy_header;
use citrix_wire::citrix::redirect;
use citrix_wire::host::{self, Authority};
use citrix_wire::{connect_target, path};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, Version, header};

/// Checks the start of a connection as a PROXY header: a returned address is the one that the bytes
/// have, and exactly the header is read.
pub fn proxy_header(bytes: &[u8]) {
    let mut rest = bytes;
    let result = {
        let mut read = pin!(proxy_header::read(&mut rest));
        match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("bytes in memory never wait"),
        }
    };
    let Ok(client) = result else {
        return;
    };
    let length = 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    assert_eq!(
        rest.len(),
        bytes.len() - length,
        "bytes after the header were read"
    );
    assert_eq!(client, expected_client(bytes));
}

/// Returns the source of a version 2 header for TCP (section 2.2 of the specification); an IPv4
/// address in its IPv6 form is one of IPv4.
fn expected_client(header: &[u8]) -> Option<SocketAddr> {
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    match (header[12], header[13]) {
        (0x20, _) => None,
        (_, 0x11) => {
            let address: [u8; 4] = header[16..20].try_into().expect("four bytes");
            Some((IpAddr::from(address), number(24)).into())
        }
        (_, 0x21) => {
            let address: [u8; 16] = header[16..32].try_into().expect("16 bytes");
            let address = IpAddr::from(address).to_canonical();
            Some((address, number(48)).into())
        }
        other => panic!("an address of {other:x?}"),
    }
}

/// Checks names of hosts: the first line is a target of CONNECT, the second an authority, the third a
/// request target, the fourth another host. What is accepted is accepted again in its canonical form,
/// and no address passes as a name.
pub fn hosts(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (target, authority, uri, other) = (line(), line(), line(), line());
    if let Ok(name) = connect_target::parse(target) {
        assert_eq!(
            connect_target::parse(&format!("{name}:443")).as_ref(),
            Ok(&name)
        );
        assert_eq!(connect_target::dns_name(&name).as_ref(), Ok(&name));
        assert!(name.parse::<IpAddr>().is_err(), "{name}");
        assert!(target.to_ascii_lowercase().starts_with(&name));
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"/@:#?[]".contains(&byte))
        );
    }
    if let Ok(parsed) = Authority::parse(authority) {
        assert_eq!(parsed.as_str(), authority);
        for scheme in ["http", "https"] {
            assert!(parsed.is_same(&parsed, scheme));
        }
        // Only one dot of the root is no part of the host.
        let host = parsed.host().trim_end_matches('.');
        let has_dots = host.len() < parsed.host().len();
        let joined = match parsed.port() {
            Some(port) => format!("{}:{port}", parsed.host()),
            None => parsed.host().to_owned(),
        };
        let again = Authority::parse(&joined).expect("host and port are those of an authority");
        assert_eq!(again.port(), parsed.port());
        assert!(has_dots || again.is_same(&parsed, "http"), "{joined}");
        if let Ok(other) = Authority::parse(other) {
            assert_eq!(
                parsed.is_same(&other, "http"),
                other.is_same(&parsed, "http")
            );
        }
    }
    targets(uri, other, authority);
}

fn targets(uri: &str, other: &str, field: &str) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(field) {
        headers.insert(header::HOST, value);
    }
    if let Ok(uri) = uri.parse::<Uri>() {
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            if let Ok(found) = host::authority(version, &uri, &headers) {
                let found = found.map(|found| found.as_str());
                let expected = uri.authority().map(http::uri::Authority::as_str);
                assert_eq!(found, expected.or((!headers.is_empty()).then_some(field)));
            }
        }
    }
    if let Ok(target) = uri.parse::<PathAndQuery>()
        && let Ok(rebased) = path::rebase(&target, "", "/base")
    {
        assert_eq!(rebased.query(), target.query());
        assert!(rebased.path().starts_with("/base"), "{rebased}");
    }
    let _ = path::first_segment(uri);
    // A redirect never changes the customer's part of a name by itself.
    let _ = redirect::may_replace((uri, other), (other, uri), "acme");
}
