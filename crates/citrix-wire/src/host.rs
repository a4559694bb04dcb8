//! The host that a request names (RFC 9110 section 7.2, RFC 9112 section 3.2).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Uri, Version, header};

/// Why a request has no usable host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// HTTP/1.1 without `Host`, or HTTP/2 without `:authority` and `Host` (RFC 9113
    /// section 8.3.1).
    #[error("the request has no Host field")]
    Missing,
    /// More than one `Host`.
    #[error("the request has more than one Host field")]
    Repeated,
    /// Not `uri-host [ ":" port ]`.
    #[error("the Host field is not a host with an optional port")]
    Invalid,
    /// `Host` differs from an absolute target or `:authority`.
    #[error("the request target and the Host field name different hosts")]
    Mismatch,
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2), borrowed from the request.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    text: &'a str,
    /// Without the dot of the root.
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses an authority without user information.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for anything else.
    pub fn parse(text: &'a str) -> Result<Self, HostError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, port) = rest.split_once(']').ok_or(HostError::Invalid)?;
                inner.parse::<Ipv6Addr>().map_err(|_| HostError::Invalid)?;
                (&text[..inner.len() + 2], port)
            }
            None => {
                let is_name = |byte: &u8| REG_NAME[usize::from(*byte)];
                let length = text.as_bytes().iter().take_while(|byte| is_name(byte));
                // Such bytes are whole characters.
                text.split_at(length.count())
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().map_err(|_| HostError::Invalid)?)
            }
            _ => return Err(HostError::Invalid),
        };
        let host = strip_root(host);
        // Dots alone name no host.
        if host.bytes().all(|byte| byte == b'.') {
            return Err(HostError::Invalid);
        }
        Ok(Self { text, host, port })
    }

    /// Returns host and port as they were sent.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Returns the host; an IPv6 address in brackets, a name without the dot of the root.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// Returns the port, if there is one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns `true` if host and port are the same, ignoring case, the dot of the root and the
    /// default port of a URL's scheme.
    pub fn is_same(&self, other: &Self, scheme: &str) -> bool {
        let default = if scheme == "https" { 443 } else { 80 };
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }

    /// Returns `true` for an IP address or `localhost`, which DNS rebinding cannot point at the
    /// gateway.
    pub fn is_address_or_localhost(&self) -> bool {
        self.address().is_some() || self.host.eq_ignore_ascii_case("localhost")
    }

    /// Returns `true` for `0.0.0.0`, `[::]` and IPv4-mapped IPv6 addresses. Browsers connect to
    /// loopback for them but do not treat them as loopback: a GET from a page of another site then
    /// has no header that identifies it as such.
    pub fn is_unspecified_or_mapped(&self) -> bool {
        self.address().is_some_and(|address| match address {
            IpAddr::V4(address) => address.is_unspecified(),
            IpAddr::V6(address) => address.is_unspecified() || address.to_ipv4_mapped().is_some(),
        })
    }

    fn address(&self) -> Option<IpAddr> {
        match ip_literal(self.host) {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => self.host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        }
    }
}

/// Returns a host without the dot of the root: `a.example.` names the same host as `a.example`
/// (RFC 3986 section 3.2.2).
pub fn strip_root(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Returns the address inside an IP literal's brackets (RFC 3986 section 3.2.2); `None` for any
/// other host.
pub fn ip_literal(host: &str) -> Option<&str> {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
}

/// Returns the host as it is resolved and compared with a certificate: an IPv6 address without its
/// brackets.
pub fn strip_brackets(host: &str) -> &str {
    ip_literal(host).unwrap_or(host)
}

/// Returns the host as it is written in an authority: an IPv6 address in brackets.
pub fn add_brackets(host: &str) -> Cow<'_, str> {
    if host.contains(':') {
        Cow::Owned(format!("[{host}]"))
    } else {
        Cow::Borrowed(host)
    }
}

/// `true` for unreserved characters and sub-delims of RFC 3986, and the percent sign of escapes.
static REG_NAME: [bool; 256] = {
    const OTHERS: &[u8] = b"-._~%!$&'()*+,;=";
    let mut names = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        names[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < OTHERS.len() {
        names[OTHERS[index] as usize] = true;
        index += 1;
    }
    names
};

/// Returns the values of `Host`. It is among the first fields as a rule, so that a pass costs less
/// than a lookup.
pub fn fields(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    headers
        .iter()
        .filter(|(name, _)| **name == header::HOST)
        .map(|(_, value)| value)
}

/// Returns the authority of a request: that of an absolute target or `:authority`, else of `Host`.
/// `None` for HTTP/1.0 without either.
///
/// # Errors
/// If `Host` is missing in HTTP/1.1, repeated, invalid, or differs from the target. RFC 9112 gives
/// the target precedence, but a proxy in front of the gateway may have used the field.
pub fn authority<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<Authority<'a>>, HostError> {
    let mut fields = fields(headers);
    let field = fields.next();
    if fields.next().is_some() {
        return Err(HostError::Repeated);
    }
    let from_field = match field {
        Some(value) => Some(Authority::parse(
            value.to_str().map_err(|_| HostError::Invalid)?,
        )?),
        None if uri.authority().is_none() && version >= Version::HTTP_11 => {
            return Err(HostError::Missing);
        }
        None => None,
    };
    match uri.authority() {
        Some(authority) => {
            let from_target = Authority::parse(authority.as_str())?;
            match from_field {
                Some(field)
                    if !field.is_same(&from_target, uri.scheme_str().unwrap_or_default()) =>
                {
                    Err(HostError::Mismatch)
                }
                _ => Ok(Some(from_target)),
            }
        }
        None => Ok(from_field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, target: &str, hosts: &[&str]) -> Result<Option<String>, HostError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        let uri = target.parse().unwrap();
        authority(version, &uri, &headers).map(|found| found.map(|a| a.as_str().to_owned()))
    }

    type Case = (
        Version,
        &'static str,
        &'static [&'static str],
        Result<Option<&'static str>, HostError>,
    );

    const CASES: [Case; 35] = [
        (
            Version::HTTP_11,
            "/",
            &["localhost:8080"],
            Ok(Some("localhost:8080")),
        ),
        (Version::HTTP_11, "/", &["[::1]:80"], Ok(Some("[::1]:80"))),
        (Version::HTTP_11, "/", &["my_host."], Ok(Some("my_host."))),
        (Version::HTTP_11, "/", &["host:"], Ok(Some("host:"))),
        (
            Version::HTTP_11,
            "http://real./x",
            &["REAL"],
            Ok(Some("real.")),
        ),
        (
            Version::HTTP_2,
            "https://real/x",
            &["real.:443"],
            Ok(Some("real")),
        ),
        (Version::HTTP_11, "/", &["."], Err(HostError::Invalid)),
        (Version::HTTP_11, "/", &["..:80"], Err(HostError::Invalid)),
        (Version::HTTP_11, "/", &["[::1]."], Err(HostError::Invalid)),
        (Version::HTTP_11, "/", &[], Err(HostError::Missing)),
        (Version::HTTP_11, "/", &["a", "a"], Err(HostError::Repeated)),
        (Version::HTTP_11, "/", &["a b"], Err(HostError::Invalid)),
        (Version::HTTP_11, "/", &[""], Err(HostError::Invalid)),
        (Version::HTTP_11, "/", &[":80"], Err(HostError::Invalid)),
        (
            Version::HTTP_11,
            "/",
            &["user@host"],
            Err(HostError::Invalid),
        ),
        (
            Version::HTTP_11,
            "/",
            &["host:http"],
            Err(HostError::Invalid),
        ),
        (
            Version::HTTP_11,
            "/",
            &["host:99999"],
            Err(HostError::Invalid),
        ),
        (
            Version::HTTP_11,
            "/",
            &["host:+80"],
            Err(HostError::Invalid),
        ),
        (
            Version::HTTP_11,
            "/",
            &["host:80:80"],
            Err(HostError::Invalid),
        ),
        (
            Version::HTTP_11,
            "/",
            &["host/path"],
            Err(HostError::Invalid),
        ),
        (Version::HTTP_11, "/", &["[::1"], Err(HostError::Invalid)),
        (
            Version::HTTP_11,
            "/",
            &["[localhost]"],
            Err(HostError::Invalid),
        ),
        (Version::HTTP_11, "/", &["[::1]x"], Err(HostError::Invalid)),
        (Version::HTTP_11, "/", &["::1"], Err(HostError::Invalid)),
        (
            Version::HTTP_11,
            "http://real/x",
            &["real"],
            Ok(Some("real")),
        ),
        (
            Version::HTTP_11,
            "http://real:80/x",
            &["REAL"],
            Ok(Some("real:80")),
        ),
        (
            Version::HTTP_11,
            "https://real/x",
            &["real:443"],
            Ok(Some("real")),
        ),
        (
            Version::HTTP_11,
            "http://real/x",
            &["real:443"],
            Err(HostError::Mismatch),
        ),
        (
            Version::HTTP_11,
            "http://real/x",
            &["other"],
            Err(HostError::Mismatch),
        ),
        (
            Version::HTTP_2,
            "http://real/x",
            &["other"],
            Err(HostError::Mismatch),
        ),
        (
            Version::HTTP_11,
            "http://real/x",
            &["a", "b"],
            Err(HostError::Repeated),
        ),
        (Version::HTTP_10, "/", &[], Ok(None)),
        (Version::HTTP_2, "/", &[], Err(HostError::Missing)),
        (Version::HTTP_2, "/", &["real"], Ok(Some("real"))),
        (Version::HTTP_2, "http://real/x", &[], Ok(Some("real"))),
    ];

    #[test]
    fn rfc9112_3_2_exactly_one_valid_host_is_required() {
        for (version, target, hosts, expected) in CASES {
            assert_eq!(
                check(version, target, hosts),
                expected.map(|host| host.map(str::to_owned)),
                "{version:?} {target} {hosts:?}"
            );
        }
    }

    #[test]
    fn rfc3986_3_2_2_dot_of_the_root_and_default_port_make_no_difference() {
        let is_same = |one, other, scheme| {
            let [one, other] = [one, other].map(|text| Authority::parse(text).unwrap());
            one.is_same(&other, scheme) && other.is_same(&one, scheme)
        };
        for (one, other, scheme) in [
            ("gw.example.net", "GW.example.net.", "https"),
            ("gw.example.net.:8443", "gw.example.net:8443", "https"),
            ("gw.example.net.", "gw.example.net:443", "https"),
            ("gw.example.net.:80", "gw.example.net:", "http"),
            ("[::1]:80", "[::1]", "http"),
        ] {
            assert!(is_same(one, other, scheme), "{one} {other}");
        }
        for (one, other, scheme) in [
            ("gw.example.net", "gw.example.net..", "https"),
            ("gw.example.net.", "gw.example.net:80", "https"),
            ("gw.example.net:8080", "gw.example.net.:8081", "http"),
            ("gw.example.net", "gw.example.ne", "http"),
        ] {
            assert!(!is_same(one, other, scheme), "{one} {other}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_safe_from_rebinding() {
        let is = |text| Authority::parse(text).unwrap().is_address_or_localhost();
        for host in [
            "127.0.0.1",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:8080",
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "127.0.0.1.:80",
        ] {
            assert!(is(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(!is(host), "{host}");
        }
    }

    #[test]
    fn unspecified_and_mapped_addresses_are_recognized() {
        let is = |text| Authority::parse(text).unwrap().is_unspecified_or_mapped();
        for host in [
            "0.0.0.0",
            "0.0.0.0.",
            "0.0.0.0:80",
            "[::]",
            "[::]:80",
            "[::ffff:127.0.0.1]",
            "[::FFFF:7f00:1]:80",
        ] {
            assert!(is(host), "{host}");
        }
        for host in [
            "127.0.0.1",
            "10.0.0.0:80",
            "[::1]",
            "[2001:db8::1]:80",
            "localhost",
            "0.0.0.0.example",
        ] {
            assert!(!is(host), "{host}");
        }
    }

    #[test]
    fn only_ipv6_addresses_have_brackets() {
        for (bare, written) in [
            ("::1", "[::1]"),
            ("127.0.0.1", "127.0.0.1"),
            ("api.cloud.com", "api.cloud.com"),
        ] {
            assert_eq!(add_brackets(bare), written);
            assert_eq!(strip_brackets(written), bare);
        }
        assert_eq!(strip_brackets("[::1"), "[::1");
    }
}
