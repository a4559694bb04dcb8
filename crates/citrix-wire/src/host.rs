//! Which host a request names (RFC 9110 section 7.2, RFC 9112 section 3.2).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, Uri, Version, header};

/// Why a request names no usable host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// HTTP/1.1 without `Host`.
    #[error("the request has no Host header")]
    Missing,
    /// More than one `Host`.
    #[error("the request has more than one Host header")]
    Repeated,
    /// Not a host with an optional port.
    #[error("the Host header is not a host name with an optional port")]
    Invalid,
    /// An absolute target, or `:authority`, and another `Host`.
    #[error("the request target and the Host header name different hosts")]
    Mismatch,
}

/// A host with an optional port (`uri-host [ ":" port ]` of RFC 9110), as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: &'a str,
    host: &'a str,
}

impl<'a> Authority<'a> {
    /// Reads one. It borrows, as every request is asked for its host.
    ///
    /// # Errors
    /// When it is anything else, such as one with user information.
    pub fn parse(text: &'a str) -> Result<Self, HostError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, port) = rest.split_once(']').ok_or(HostError::Invalid)?;
                inner.parse::<Ipv6Addr>().map_err(|_| HostError::Invalid)?;
                (&text[..inner.len() + 2], port)
            }
            None => {
                let host = text.split(':').next().unwrap_or_default();
                (host, &text[host.len()..])
            }
        };
        let port_ok = match port.strip_prefix(':') {
            None => port.is_empty(),
            Some("") => true,
            Some(digits) => {
                digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
            }
        };
        let name_ok = host.starts_with('[') || (!host.is_empty() && host.bytes().all(is_reg_name));
        if name_ok && port_ok {
            Ok(Self { text, host })
        } else {
            Err(HostError::Invalid)
        }
    }

    /// Host and port, as they were sent.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The host alone; an IPv6 address in its brackets.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// Whether it can only be this machine's or was typed as an address, so that no web page can have made it
    /// point here (DNS rebinding needs a name).
    pub fn is_address_or_localhost(&self) -> bool {
        self.address().is_some() || self.host.eq_ignore_ascii_case("localhost")
    }

    /// Whether it is another way to write this machine's address: `0.0.0.0`, `[::]` or an IPv4 address as IPv6.
    /// Browsers take it to loopback, but do not know it for loopback: of a page's request they tell no more than of
    /// one over plain HTTP to anywhere, which for a GET is nothing.
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

/// Returns the address inside an IP literal's brackets (RFC 3986 section 3.2.2); `None` for any other host.
pub fn ip_literal(host: &str) -> Option<&str> {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
}

/// Returns the host as it is resolved and compared with a certificate: an IPv6 address without its brackets.
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

/// RFC 3986's unreserved and sub-delims, and the percent sign of escapes.
fn is_reg_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

/// The authority a request is for: that of an absolute target or `:authority`, else the `Host` field's.
/// `None` for HTTP/1.0 without either.
///
/// # Errors
/// When `Host` is missing on HTTP/1.1, there twice, not an authority, or not that of the target: RFC 9112 lets the
/// target win, but whoever stands before us may have gone by the field.
pub fn authority<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<Authority<'a>>, HostError> {
    let mut fields = headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(HostError::Repeated);
    }
    let from_field = match field {
        Some(value) => Some(Authority::parse(
            value.to_str().map_err(|_| HostError::Invalid)?,
        )?),
        None if uri.authority().is_none() && version == Version::HTTP_11 => {
            return Err(HostError::Missing);
        }
        None => None,
    };
    match uri.authority() {
        Some(authority) => {
            let from_target = Authority::parse(authority.as_str())?;
            match from_field {
                Some(field) if !same(uri, field, from_target) => Err(HostError::Mismatch),
                _ => Ok(Some(from_target)),
            }
        }
        None => Ok(from_field),
    }
}

/// Whether two authorities are one: letter case and the scheme's own port make no difference.
fn same(uri: &Uri, one: Authority<'_>, other: Authority<'_>) -> bool {
    let own_port = if uri.scheme_str() == Some("https") {
        ":443"
    } else {
        ":80"
    };
    let plain = |authority: Authority<'_>| {
        let text = authority.as_str();
        text.strip_suffix(own_port)
            .or_else(|| text.strip_suffix(':'))
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    plain(one) == plain(other)
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

    #[test]
    fn rfc9112_3_2_one_valid_host_is_required() {
        let ok = |text: &str| Ok(Some(text.to_owned()));
        let cases = [
            (
                Version::HTTP_11,
                "/",
                vec!["localhost:8080"],
                ok("localhost:8080"),
            ),
            (Version::HTTP_11, "/", vec!["[::1]:80"], ok("[::1]:80")),
            (Version::HTTP_11, "/", vec!["my_host."], ok("my_host.")),
            (Version::HTTP_11, "/", vec!["host:"], ok("host:")),
            (Version::HTTP_11, "/", vec![], Err(HostError::Missing)),
            (
                Version::HTTP_11,
                "/",
                vec!["a", "a"],
                Err(HostError::Repeated),
            ),
            (Version::HTTP_11, "/", vec!["a b"], Err(HostError::Invalid)),
            (Version::HTTP_11, "/", vec![""], Err(HostError::Invalid)),
            (Version::HTTP_11, "/", vec![":80"], Err(HostError::Invalid)),
            (
                Version::HTTP_11,
                "/",
                vec!["user@host"],
                Err(HostError::Invalid),
            ),
            (
                Version::HTTP_11,
                "/",
                vec!["host:http"],
                Err(HostError::Invalid),
            ),
            (
                Version::HTTP_11,
                "/",
                vec!["host:99999"],
                Err(HostError::Invalid),
            ),
            (
                Version::HTTP_11,
                "/",
                vec!["host:+80"],
                Err(HostError::Invalid),
            ),
            (
                Version::HTTP_11,
                "/",
                vec!["host:80:80"],
                Err(HostError::Invalid),
            ),
            (
                Version::HTTP_11,
                "/",
                vec!["host/path"],
                Err(HostError::Invalid),
            ),
            (Version::HTTP_11, "/", vec!["[::1"], Err(HostError::Invalid)),
            (
                Version::HTTP_11,
                "/",
                vec!["[localhost]"],
                Err(HostError::Invalid),
            ),
            (
                Version::HTTP_11,
                "/",
                vec!["[::1]x"],
                Err(HostError::Invalid),
            ),
            (Version::HTTP_11, "/", vec!["::1"], Err(HostError::Invalid)),
            (Version::HTTP_11, "http://real/x", vec!["real"], ok("real")),
            (
                Version::HTTP_11,
                "http://real:80/x",
                vec!["REAL"],
                ok("real:80"),
            ),
            (
                Version::HTTP_11,
                "https://real/x",
                vec!["real:443"],
                ok("real"),
            ),
            (
                Version::HTTP_11,
                "http://real/x",
                vec!["real:443"],
                Err(HostError::Mismatch),
            ),
            (
                Version::HTTP_11,
                "http://real/x",
                vec!["other"],
                Err(HostError::Mismatch),
            ),
            (
                Version::HTTP_2,
                "http://real/x",
                vec!["other"],
                Err(HostError::Mismatch),
            ),
            (
                Version::HTTP_11,
                "http://real/x",
                vec!["a", "b"],
                Err(HostError::Repeated),
            ),
            (Version::HTTP_10, "/", vec![], Ok(None)),
            (Version::HTTP_2, "http://real/x", vec![], ok("real")),
        ];
        for (version, target, hosts, expected) in cases {
            assert_eq!(
                check(version, target, &hosts),
                expected,
                "{version:?} {target} {hosts:?}"
            );
        }
    }

    #[test]
    fn addresses_and_localhost_are_told_from_names() {
        let is = |text| Authority::parse(text).unwrap().is_address_or_localhost();
        for host in [
            "127.0.0.1",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:8080",
            "localhost",
            "LOCALHOST:80",
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
    fn ways_to_write_this_machine_are_told_from_its_address() {
        let is = |text| Authority::parse(text).unwrap().is_unspecified_or_mapped();
        for host in [
            "0.0.0.0",
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
}
