//! Egress to Citrix: direct, or through an HTTP proxy with `CONNECT`.

use std::fmt;
use std::sync::Arc;

use citrix_wire::host;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::SecretSource;

/// The egress proxy, if any, and the hosts that are connected to directly.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<Matcher>,
    /// In the notation of `NO_PROXY`.
    exceptions: String,
    /// The source of the proxy's URL.
    source: Option<SecretSource>,
}

/// An invalid proxy URL. The message does not contain the URL, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Not a URL with a host.
    #[error("invalid proxy URL")]
    NotAUrl,
    /// A scheme such as `https` or `socks5`.
    #[error("invalid proxy URL: the scheme must be http")]
    Scheme,
    /// A path, query or fragment.
    #[error("invalid proxy URL: path, query and fragment are not supported")]
    Path,
    /// A port that is zero or not a number.
    #[error("invalid proxy URL: the port is not between 1 and 65535")]
    Port,
}

impl Egress {
    /// Returns an egress without a proxy.
    pub fn direct() -> Self {
        Self {
            rules: Arc::new(Matcher::builder().build()),
            exceptions: String::new(),
            source: None,
        }
    }

    /// Returns an egress through the proxy at `url`, except to the hosts in `exceptions`
    /// (`NO_PROXY`): names with their subdomains, addresses, networks, or `*`, separated by commas.
    ///
    /// # Errors
    /// If `url` is not a valid `http` URL of a proxy.
    pub fn through(
        url: &str,
        source: Option<SecretSource>,
        exceptions: &str,
    ) -> Result<Self, ProxyUrlError> {
        let (url, exceptions) = (normalize_url(url)?, normalize_exceptions(exceptions));
        // The matcher does not match addresses with `*`.
        let direct = exceptions.split(',').any(|entry| entry == "*");
        let rules = if direct {
            Matcher::builder()
        } else {
            Matcher::builder().https(url).no(&exceptions)
        };
        let rules = rules.build();
        Ok(Self {
            rules: Arc::new(rules),
            exceptions,
            source,
        })
    }

    /// Replaces the URL of the proxy.
    ///
    /// # Errors
    /// As [`Self::through`].
    pub fn with_url(&self, url: &str) -> Result<Self, ProxyUrlError> {
        Self::through(url, self.source.clone(), &self.exceptions)
    }

    /// Returns the source of the proxy's URL if it is a file, which may change.
    pub fn file_source(&self) -> Option<&SecretSource> {
        self.source
            .as_ref()
            .filter(|source| source.path().is_some())
    }

    /// Returns the proxy for connections to `host` (IPv6 without brackets), or `None` for a direct
    /// connection, which loopback hosts always get.
    pub fn proxy_for(&self, host: &str) -> Option<ConnectProxy> {
        if is_loopback(host) {
            return None;
        }
        let uri = Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(&*host::add_brackets(host))
            .path_and_query("/")
            .build()
            .ok()?;
        self.rules.intercept(&uri).map(ConnectProxy)
    }

    /// Returns the proxy, whatever the exceptions.
    pub fn proxy(&self) -> Option<ConnectProxy> {
        // A reserved name (RFC 2606), to which no exception applies.
        self.rules
            .intercept(&Uri::from_static("https://any.invalid/"))
            .map(ConnectProxy)
    }
}

impl PartialEq for Egress {
    fn eq(&self, other: &Self) -> bool {
        self.proxy() == other.proxy() && self.exceptions == other.exceptions
    }
}

impl Eq for Egress {}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("proxy", &self.proxy())
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

/// An egress proxy with its credentials. `Display` and `Debug` show `host:port` only.
#[derive(Clone)]
pub struct ConnectProxy(Intercept);

impl ConnectProxy {
    /// Returns the host, IPv6 without brackets.
    pub fn host(&self) -> &str {
        host::strip_brackets(self.0.uri().host().unwrap_or_default())
    }

    pub fn port(&self) -> u16 {
        self.0.uri().port_u16().unwrap_or(80)
    }

    /// Returns the `Proxy-Authorization` value (RFC 7617), marked as sensitive.
    pub fn authorization(&self) -> Option<&http::HeaderValue> {
        self.0.basic_auth()
    }
}

impl PartialEq for ConnectProxy {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string() && self.authorization() == other.authorization()
    }
}

impl Eq for ConnectProxy {}

impl fmt::Display for ConnectProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            self.0.uri().host().unwrap_or_default(),
            self.port()
        )
    }
}

impl fmt::Debug for ConnectProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectProxy({self})")
    }
}

/// Validates a URL and adds the scheme, which may be omitted if there is a port.
fn normalize_url(url: &str) -> Result<String, ProxyUrlError> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(ProxyUrlError::Scheme);
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(ProxyUrlError::Path);
    }
    let whole = format!("http://{authority}");
    let uri: Uri = whole.parse().map_err(|_| ProxyUrlError::NotAUrl)?;
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, rest)| rest);
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or(ProxyUrlError::NotAUrl)?;
    match host_and_port
        .get(host.len()..)
        .unwrap_or_default()
        .strip_prefix(':')
    {
        None if !url.contains("://") => Err(ProxyUrlError::NotAUrl),
        Some(port) if port.parse::<u16>().map_or(true, |port| port == 0) => {
            Err(ProxyUrlError::Port)
        }
        _ => Ok(whole),
    }
}

/// Converts `NO_PROXY` to the notation of the matcher: commas instead of spaces, `.example.com`
/// instead of `*.example.com`.
fn normalize_exceptions(exceptions: &str) -> String {
    let entries = exceptions
        .split([',', ' ', '\t'])
        .filter(|entry| !entry.is_empty());
    let entries: Vec<&str> = entries
        .map(|entry| {
            entry
                .strip_prefix('*')
                .filter(|rest| rest.starts_with('.'))
                .unwrap_or(entry)
        })
        .collect();
    entries.join(",")
}

/// Returns `true` for `localhost` and loopback addresses: a proxy would resolve them to itself.
fn is_loopback(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().map_or_else(
        |_| host.eq_ignore_ascii_case("localhost"),
        |address| address.to_canonical().is_loopback(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(url: &str, exceptions: &str) -> Egress {
        Egress::through(url, None, exceptions).unwrap()
    }

    #[test]
    fn proxy_url_has_address_and_credentials() {
        for (url, address, authorization) in [
            ("http://proxy.example:3128", "proxy.example:3128", None),
            ("http://proxy.example:3128/", "proxy.example:3128", None),
            ("HTTP://proxy.example", "proxy.example:80", None),
            ("proxy.example:8080", "proxy.example:8080", None),
            ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128", None),
            // The example of RFC 7617, and reserved characters.
            (
                "http://Aladdin:open%20sesame@p:1",
                "p:1",
                Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ),
            ("http://u:p%40ss@p:1", "p:1", Some("Basic dTpwQHNz")),
            ("u:p@p:1", "p:1", Some("Basic dTpw")),
            ("http://u@p:1", "p:1", Some("Basic dTo=")),
        ] {
            let proxy = through(url, "").proxy_for("api.cloud.com").unwrap();
            assert_eq!(proxy.to_string(), address, "{url}");
            assert_eq!(
                proxy.authorization().map(|value| value.to_str().unwrap()),
                authorization,
                "{url}"
            );
        }
        assert_eq!(
            through("http://[::1]:3128", "").proxy().unwrap().host(),
            "::1"
        );
    }

    #[test]
    fn invalid_proxy_url_is_rejected_and_not_quoted() {
        for (url, wrong) in [
            ("", ProxyUrlError::NotAUrl),
            ("http://", ProxyUrlError::NotAUrl),
            ("http://:3128", ProxyUrlError::NotAUrl),
            ("http://u:c4nary@", ProxyUrlError::NotAUrl),
            ("http://pro xy:1", ProxyUrlError::NotAUrl),
            // Maybe a misplaced secret.
            ("c4nary", ProxyUrlError::NotAUrl),
            ("https://u:c4nary@proxy:3128", ProxyUrlError::Scheme),
            ("socks5://u:c4nary@proxy:1080", ProxyUrlError::Scheme),
            ("http://proxy:3128/c4nary", ProxyUrlError::Path),
            ("http://proxy:3128?c4nary", ProxyUrlError::Path),
            ("http://u:c4nary#@proxy:3128", ProxyUrlError::Path),
            ("http://proxy:0", ProxyUrlError::Port),
            ("http://proxy:", ProxyUrlError::Port),
            ("http://proxy:c4nary", ProxyUrlError::Port),
            ("http://u:c4nary@proxy:99999", ProxyUrlError::Port),
        ] {
            let found = Egress::through(url, None, "").unwrap_err();
            assert_eq!(found, wrong, "{url}");
            assert!(!found.to_string().contains("c4nary"));
        }
    }

    #[test]
    fn exceptions_match_names_subdomains_addresses_and_networks() {
        for (exceptions, host, direct) in [
            ("", "api.cloud.com", false),
            ("cloud.com", "api.cloud.com", true),
            ("cloud.com", "cloud.com", true),
            ("cloud.com", "CLOUD.com", true),
            (".cloud.com", "api.cloud.com", true),
            (".cloud.com", "cloud.com", true),
            ("*.cloud.com", "api.cloud.com", true),
            ("cloud.com", "notcloud.com", false),
            ("api.cloud.com", "api-eu.cloud.com", false),
            ("a.example, cloud.com", "api.cloud.com", true),
            ("a.example cloud.com", "api.cloud.com", true),
            ("*", "api.cloud.com", true),
            ("a.example,*", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("2001:db8::/32", "2001:db8::7", true),
            ("2001:db8::/32", "2001:db9::7", false),
        ] {
            let found = through("http://proxy:3128", exceptions)
                .proxy_for(host)
                .is_none();
            assert_eq!(found, direct, "{exceptions:?} {host}");
        }
    }

    #[test]
    fn loopback_hosts_are_direct() {
        for host in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.9.8.7",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(
                through("http://proxy:3128", "").proxy_for(host),
                None,
                "{host}"
            );
        }
        assert_eq!(Egress::direct().proxy_for("api.cloud.com"), None);
    }

    #[test]
    fn printed_proxy_does_not_contain_the_password() {
        let egress = through("http://user:c4nary@proxy:3128", "a.example");
        let printed = format!(
            "{egress:?} {:?} {}",
            egress.proxy(),
            egress.proxy().unwrap()
        );
        assert!(
            printed.contains("proxy:3128") && !printed.contains("c4nary"),
            "{printed}"
        );
        assert_ne!(egress, through("http://user:other@proxy:3128", "a.example"));
        assert_ne!(egress, through("http://user:c4nary@proxy:3128", ""));
        assert_eq!(
            egress,
            egress.with_url("http://user:c4nary@proxy:3128").unwrap()
        );
    }
}
