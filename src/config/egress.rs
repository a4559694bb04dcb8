//! The way out: directly, or through a proxy that is asked to `CONNECT`.

use std::fmt;
use std::sync::Arc;

use citrix_wire::host;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::SecretSource;

/// Which way connections to Citrix take: the proxy, if there is one, and who is connected to without it.
#[derive(Clone)]
pub struct Egress {
    rules: Arc<Matcher>,
    /// As `NO_PROXY` has it.
    exceptions: String,
    /// Where the proxy's URL comes from.
    source: Option<SecretSource>,
}

/// What is wrong with a proxy's URL. It never repeats the URL, in which there may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// No URL at all.
    #[error("is not a URL of a proxy: http://, a host and a port")]
    NotAUrl,
    /// `https`, `socks5` or another.
    #[error(
        "begins with another scheme than http, which is the only one that is spoken with a proxy"
    )]
    Scheme,
    /// Something behind the port.
    #[error("has a path, a query or a fragment, which a proxy's URL does not have")]
    Path,
    /// Port 0, or none that is a number.
    #[error("has a port that is not between 1 and 65535")]
    Port,
}

impl Egress {
    /// Always directly.
    pub fn direct() -> Self {
        Self {
            rules: Arc::new(Matcher::builder().build()),
            exceptions: String::new(),
            source: None,
        }
    }

    /// Through the proxy at `url`, which came from `source`, but for the hosts in `exceptions`: names, which mean
    /// what is below them too, addresses, networks as `10.0.0.0/8`, or `*`; separated by commas.
    ///
    /// # Errors
    /// When `url` is not that of a proxy that is reached by plain HTTP.
    pub fn through(
        url: &str,
        source: Option<SecretSource>,
        exceptions: &str,
    ) -> Result<Self, ProxyUrlError> {
        let (url, exceptions) = (checked(url)?, normal(exceptions));
        // The matcher takes `*` for all names, and not for addresses.
        let everybody = exceptions.split(',').any(|entry| entry == "*");
        let rules = if everybody {
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

    /// The same rules with the proxy at another URL.
    ///
    /// # Errors
    /// As [`Self::through`].
    pub fn with_url(&self, url: &str) -> Result<Self, ProxyUrlError> {
        Self::through(url, self.source.clone(), &self.exceptions)
    }

    /// Where the proxy's URL comes from, if it can change while the program runs.
    pub fn file_source(&self) -> Option<&SecretSource> {
        self.source
            .as_ref()
            .filter(|source| source.path().is_some())
    }

    /// The proxy for connections to `host` (an IPv6 address without brackets); `None`: directly. This machine is
    /// never behind a proxy.
    pub fn proxy_for(&self, host: &str) -> Option<ConnectProxy> {
        if is_this_machine(host) {
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

    /// The proxy, whoever it is for.
    pub fn proxy(&self) -> Option<ConnectProxy> {
        // A name that nobody may have (RFC 2606), so that no exception is for it.
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

/// A proxy, and what it is shown. Printing it shows `host:port` alone.
#[derive(Clone)]
pub struct ConnectProxy(Intercept);

impl ConnectProxy {
    /// Its host, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        host::strip_brackets(self.0.uri().host().unwrap_or_default())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.uri().port_u16().unwrap_or(80)
    }

    /// User and password as it is shown them, if it has to be (RFC 7617); marked as sensitive.
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

/// The URL, with the scheme that may be left out where there is a port.
fn checked(url: &str) -> Result<String, ProxyUrlError> {
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
    let place = authority
        .rsplit_once('@')
        .map_or(authority, |(_, place)| place);
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or(ProxyUrlError::NotAUrl)?;
    match place
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

/// `NO_PROXY` as the matcher has it: blanks separate as well, and `*.example.com` is written `.example.com`.
fn normal(exceptions: &str) -> String {
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

/// By what is written: a proxy elsewhere has another `localhost`.
fn is_this_machine(host: &str) -> bool {
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
    fn a_proxy_is_where_its_url_says() {
        for (url, place, authorization) in [
            ("http://proxy.example:3128", "proxy.example:3128", None),
            ("http://proxy.example:3128/", "proxy.example:3128", None),
            ("HTTP://proxy.example", "proxy.example:80", None),
            ("proxy.example:8080", "proxy.example:8080", None),
            ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128", None),
            // RFC 7617's own example, and what has to be escaped in a URL.
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
            assert_eq!(proxy.to_string(), place, "{url}");
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
    fn other_urls_are_refused_without_a_word_of_them() {
        for (url, wrong) in [
            ("", ProxyUrlError::NotAUrl),
            ("http://", ProxyUrlError::NotAUrl),
            ("http://:3128", ProxyUrlError::NotAUrl),
            ("http://u:c4nary@", ProxyUrlError::NotAUrl),
            ("http://pro xy:1", ProxyUrlError::NotAUrl),
            // A misplaced secret rather than a host.
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
    fn exceptions_are_names_what_is_below_them_addresses_and_networks() {
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
    fn this_machine_is_never_behind_a_proxy() {
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
    fn printing_shows_no_password() {
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
