//! The target of a CONNECT request (RFC 9110 section 9.3.6, RFC 9112 section 3.2.3), and the
//! addresses to which a tunnel may lead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The only port of a permitted target.
pub const PORT: u16 = 443;

/// Why a target is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectTargetError {
    /// Not `host:port`.
    #[error("the target of CONNECT is not a host name with a port")]
    Malformed,
    /// Another port than 443.
    #[error("CONNECT is permitted to port 443 only")]
    Port,
    /// `user@host:port`.
    #[error("the target of CONNECT has user information")]
    UserInfo,
    /// A dot at the end of the name, which certificates do not have.
    #[error("the host name ends with a dot")]
    TrailingDot,
    /// An IP address in any notation that resolvers accept, or `localhost`.
    #[error("CONNECT is permitted to host names only, not to addresses and localhost")]
    Address,
}

/// Returns the host of the target in lower case.
///
/// # Errors
/// For all but a DNS name with port 443.
pub fn parse(target: &str) -> Result<String, ConnectTargetError> {
    use ConnectTargetError::{Malformed, Port, UserInfo};
    let host = target.rsplit_once('@').map_or(target, |(_, host)| host);
    let (host, port) = host.rsplit_once(':').ok_or(Malformed)?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    if target.contains('@') {
        return Err(UserInfo);
    }
    let host = dns_name(host)?;
    // As written by clients; other servers may read "0443" otherwise.
    if port != "443" {
        return Err(Port);
    }
    Ok(host)
}

/// Returns a host name in lower case.
///
/// # Errors
/// For anything that is not a DNS name, including addresses in any notation and `localhost`.
pub fn dns_name(host: &str) -> Result<String, ConnectTargetError> {
    use ConnectTargetError::{Address, Malformed, TrailingDot};
    const MAX_NAME: usize = 253;
    if host.starts_with('[') && host.ends_with(']') {
        return Err(Address);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err(Malformed);
    }
    let name = name.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    if is_number(last) || last == "localhost" {
        return Err(Address);
    }
    if host.ends_with('.') {
        return Err(TrailingDot);
    }
    Ok(name)
}

/// Returns `true` for 1 to 63 letters, digits, underscores and inner hyphens.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Returns `true` for a label at the end of a name that resolvers read as part of an IPv4 address:
/// decimal, octal or hexadecimal digits.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x");
    hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        || label.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `true` for an address of the public internet: none that is private, local, shared,
/// reserved, for documentation or for multicast (RFC 6890), nor one that embeds such an address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // "This network" (RFC 791), shared (RFC 6598), protocol assignments (RFC 6890), 6to4 relays
        // (RFC 7526), benchmarks (RFC 2544), multicast and reserved (RFC 1112).
        || a == 0
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 224;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let segments = address.segments();
    // NAT64 (RFC 6052) leads to the embedded address.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = segments {
        let bits = u32::from(high) << 16 | u32::from(low);
        return is_public_v4(Ipv4Addr::from_bits(bits));
    }
    // Global unicast (RFC 4291 section 2.4) without protocol assignments, Teredo among them (RFC
    // 2928), 6to4 (RFC 3056) and documentation (RFC 3849, RFC 9637).
    let [first, second, ..] = segments;
    first & 0xe000 == 0x2000
        && !(first == 0x2001 && second < 0x200)
        && first != 0x2002
        && !(first == 0x2001 && second == 0xdb8)
        && !(first == 0x3fff && second < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::ConnectTargetError::{Address, Malformed, Port, TrailingDot, UserInfo};
    use super::*;

    #[test]
    fn only_a_dns_name_with_port_443_is_accepted() {
        let long = format!("{}.example:443", "a".repeat(64));
        let longer = format!("{}example:443", "a.".repeat(130));
        for (target, expected) in [
            ("api.cloud.com:443", Ok("api.cloud.com")),
            ("API.Cloud.COM:443", Ok("api.cloud.com")),
            ("a_b.example:443", Ok("a_b.example")),
            ("xn--kse-qla.example:443", Ok("xn--kse-qla.example")),
            ("0xcafe.example:443", Ok("0xcafe.example")),
            ("", Err(Malformed)),
            (":", Err(Malformed)),
            (":443", Err(Malformed)),
            ("api.cloud.com", Err(Malformed)),
            ("api.cloud.com:", Err(Malformed)),
            ("api.cloud.com:https", Err(Malformed)),
            ("api.cloud.com:-443", Err(Malformed)),
            ("api.cloud.com:+443", Err(Malformed)),
            ("api.cloud.com:443:443", Err(Malformed)),
            ("api..cloud.com:443", Err(Malformed)),
            (".cloud.com:443", Err(Malformed)),
            ("-a.cloud.com:443", Err(Malformed)),
            ("a-.cloud.com:443", Err(Malformed)),
            ("api%2ecloud.com:443", Err(Malformed)),
            ("api.cloud.com%00.evil:443", Err(Malformed)),
            ("api.cloud.com/x:443", Err(Malformed)),
            ("k\u{e4}se.example:443", Err(Malformed)),
            ("*.cloud.com:443", Err(Malformed)),
            (&long, Err(Malformed)),
            (&longer, Err(Malformed)),
            ("api.cloud.com:80", Err(Port)),
            ("api.cloud.com:0443", Err(Port)),
            ("api.cloud.com:65979", Err(Port)),
            ("api.cloud.com:0", Err(Port)),
            ("me@api.cloud.com:443", Err(UserInfo)),
            ("api.cloud.com:443@evil.example:443", Err(UserInfo)),
            ("api.cloud.com.:443", Err(TrailingDot)),
            ("127.0.0.1:443", Err(Address)),
            ("127.0.0.1.:443", Err(Address)),
            ("127.1:443", Err(Address)),
            ("2130706433:443", Err(Address)),
            ("0x7f000001:443", Err(Address)),
            ("0x7f.1:443", Err(Address)),
            ("0177.0.0.01:443", Err(Address)),
            ("10.0.0.0x1:443", Err(Address)),
            ("0x:443", Err(Address)),
            ("[::1]:443", Err(Address)),
            ("[::ffff:127.0.0.1]:443", Err(Address)),
            ("[fe80::1%25eth0]:443", Err(Address)),
            ("localhost:443", Err(Address)),
            ("LOCALHOST:443", Err(Address)),
            ("a.localhost:443", Err(Address)),
            ("localhost.:443", Err(Address)),
        ] {
            assert_eq!(parse(target), expected.map(str::to_owned), "{target}");
        }
    }

    #[test]
    fn rfc6890_only_public_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "20.60.1.1",
            "100.128.0.1",
            "2606:4700::1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}
