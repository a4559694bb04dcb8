//! Addresses of the store that a fleet shares. No problem quotes a URL, which may contain a
//! password.

use std::path::Path;

use super::url::{is_loopback, is_valid_host};
use crate::config::fleet::{HostPort, StoreAddress};
use crate::config::value::{Checked, shown};

const STORE_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A parsed `fleet.url`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoreUrl {
    pub(super) address: StoreAddress,
    pub(super) user: Option<String>,
    pub(super) database: u16,
    pub(super) tls: bool,
}

/// Parses `rediss://user@host:port/database`, the same with `redis`, or `redis+unix://user@/path`.
pub(super) fn parse(text: &str) -> Checked<StoreUrl> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or("invalid URL: no scheme; use rediss, redis or redis+unix")?;
    if rest.contains(['?', '#']) {
        return Err("invalid URL: a query or fragment is not permitted".to_owned());
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(parse_user(user)?), host),
        None => (None, authority),
    };
    let (address, database) = match scheme {
        "redis+unix" => (parse_socket(host, path)?, 0),
        "redis" | "rediss" => {
            let address = host_port(host, STORE_PORT)?;
            (StoreAddress::Tcp(address), parse_database(path)?)
        }
        _ => return Err("invalid URL: the scheme must be rediss, redis or redis+unix".to_owned()),
    };
    Ok(StoreUrl {
        address,
        user,
        database,
        tls: scheme == "rediss",
    })
}

fn parse_user(user: &str) -> Checked<String> {
    if user.contains(':') {
        return Err("the URL contains a password; set fleet.password instead".to_owned());
    }
    let is_allowed = |c: char| c.is_ascii_graphic() && c != '%';
    if user.is_empty() || !user.chars().all(is_allowed) {
        return Err("invalid URL: the user must be visible ASCII without %".to_owned());
    }
    Ok(user.to_owned())
}

fn parse_socket(host: &str, path: &str) -> Checked<StoreAddress> {
    if !host.is_empty() || path.len() < 2 || path.ends_with('/') || path.contains('\0') {
        return Err("invalid URL: redis+unix requires the absolute path of a socket".to_owned());
    }
    Ok(StoreAddress::Unix(Path::new(path).to_owned()))
}

fn parse_database(path: &str) -> Checked<u16> {
    match path.strip_prefix('/') {
        None | Some("") => Ok(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .map_err(|_| "invalid URL: the database is out of range".to_owned()),
        Some(_) => Err("invalid URL: the path must be the number of a database".to_owned()),
    }
}

/// Parses a host and an optional port.
fn host_port(text: &str, default_port: u16) -> Checked<HostPort> {
    // A colon within brackets belongs to an address.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or("invalid port")?)
        }
        _ => (text, default_port),
    };
    if !is_valid_host(host) {
        return Err("invalid host".to_owned());
    }
    Ok(HostPort {
        host: host.to_ascii_lowercase(),
        port,
    })
}

/// Parses the address of a sentinel, which is on this machine unless `anywhere`.
pub(super) fn sentinel(text: &str, anywhere: bool) -> Checked<HostPort> {
    let address = host_port(text, SENTINEL_PORT)
        .map_err(|problem| format!("invalid address {}: {problem}", shown(text)))?;
    if !anywhere {
        require_loopback(&address)?;
    }
    Ok(address)
}

/// Rejects an address other than loopback for connections without TLS.
pub(super) fn require_loopback(address: &HostPort) -> Checked<()> {
    if is_loopback(&address.host) {
        return Ok(());
    }
    Err(format!(
        "{address} is not a loopback address, and the scheme redis does not encrypt; use rediss, or set \
         plain_fleet = true in [insecure]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> StoreAddress {
        StoreAddress::Tcp(HostPort {
            host: host.to_owned(),
            port,
        })
    }

    #[test]
    fn urls_of_every_scheme_are_parsed() {
        for (text, address, user, database, tls) in [
            ("rediss://h.example", tcp("h.example", 6379), None, 0, true),
            (
                "rediss://cap@H.example:6380/3",
                tcp("h.example", 6380),
                Some("cap"),
                3,
                true,
            ),
            ("redis://127.0.0.1/", tcp("127.0.0.1", 6379), None, 0, false),
            ("redis://[::1]:7/15", tcp("[::1]", 7), None, 15, false),
            (
                "redis://[2001:db8::1]",
                tcp("[2001:db8::1]", 6379),
                None,
                0,
                false,
            ),
            (
                "redis+unix:///run/r.sock",
                StoreAddress::Unix("/run/r.sock".into()),
                None,
                0,
                false,
            ),
            (
                "redis+unix://cap@/run/r",
                StoreAddress::Unix("/run/r".into()),
                Some("cap"),
                0,
                false,
            ),
        ] {
            let expected = StoreUrl {
                address,
                user: user.map(str::to_owned),
                database,
                tls,
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn invalid_url_is_rejected_without_its_text() {
        for (text, why) in [
            ("", "no scheme"),
            ("c4nary", "no scheme"),
            ("http://c4nary", "the scheme must be"),
            ("REDISS://c4nary", "the scheme must be"),
            ("rediss://", "host"),
            ("rediss://user:c4nary@host", "contains a password"),
            ("rediss://:c4nary@host", "contains a password"),
            ("rediss://a@b:c4nary@host", "contains a password"),
            ("rediss://@host", "user"),
            ("rediss://c4nary%20@host", "user"),
            ("rediss://host:0", "port"),
            ("rediss://host:c4nary", "port"),
            ("rediss://c4 nary", "host"),
            ("rediss://::1", "host"),
            ("rediss://host/c4nary", "database"),
            ("rediss://host/1/2", "database"),
            ("rediss://host/99999", "database"),
            ("rediss://host?c4nary", "query"),
            ("rediss://host/0#c4nary", "fragment"),
            ("redis+unix://c4nary/x", "socket"),
            ("redis+unix://", "socket"),
            ("redis+unix:///", "socket"),
            ("redis+unix:///c4nary/", "socket"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(why), "{text}: {problem}");
            assert!(!problem.contains("c4nary"), "{problem}");
        }
    }

    #[test]
    fn only_loopback_addresses_need_no_tls() {
        for (text, is_permitted) in [
            ("127.0.0.1:26379", true),
            ("[::1]", true),
            ("localhost", true),
            ("10.0.0.1", false),
            ("s1.example.net:26379", false),
        ] {
            assert_eq!(sentinel(text, false).is_ok(), is_permitted, "{text}");
            assert!(sentinel(text, true).is_ok(), "{text}");
        }
        assert_eq!(sentinel("s1", true).unwrap().to_string(), "s1:26379");
    }
}
