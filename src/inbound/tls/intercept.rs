//! TLS in place of Citrix's hosts, with certificates that the gateway issues.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;

use crate::config::AuthorityFiles;
use crate::system::clock::Clock;
use crate::tls::authority::Authority;
use crate::tls::leaf_cache::LeafCache;
use crate::tls::{ALPN_H2, ALPN_HTTP1, ALPN_HTTP1_0, TlsError, provider};

/// Sessions kept for resumption without tickets.
const MAX_SESSIONS: usize = 256;

/// The TLS configuration of `[intercept]`, shared by all workers.
#[derive(Clone)]
pub struct InterceptTls {
    /// Without a certificate.
    template: Arc<ServerConfig>,
    leaves: Arc<LeafCache>,
}

/// Reads the authority of `[intercept]`, and returns warnings about it. Blocks.
///
/// # Errors
/// When a file cannot be read or used, or certificate and key do not match.
pub fn read_authority(
    files: &AuthorityFiles,
    clock: Clock,
) -> Result<(InterceptTls, Vec<String>), TlsError> {
    let loaded = Authority::load(&files.certificate, &files.key, clock.now())?;
    let (authority, warnings) = loaded;
    let tls = InterceptTls::new(LeafCache::new(authority, clock))?;
    Ok((tls, warnings))
}

/// The hosts for which a connection may have a certificate; names in lower case.
#[derive(Clone, Debug)]
pub enum ServedHosts {
    /// That of a CONNECT request. A client may send no name (SNI), but no other.
    One(Box<str>),
    /// Any of these, by the name that the client sends.
    Any(Arc<HashSet<String>>),
}

/// The certificate of one connection, and the host that it is for.
pub struct ServedHost {
    hosts: ServedHosts,
    leaves: Arc<LeafCache>,
    chosen: OnceLock<Box<str>>,
}

impl InterceptTls {
    /// Creates a configuration that issues certificates from `leaves`.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(leaves: LeafCache) -> Result<Self, TlsError> {
        let leaves = Arc::new(leaves);
        let nothing = ServedHost::new(ServedHosts::Any(Arc::default()), &leaves);
        let mut template = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(nothing));
        template.alpn_protocols = [ALPN_H2, ALPN_HTTP1, ALPN_HTTP1_0]
            .map(<[u8]>::to_vec)
            .into();
        template.ticketer = Ticketer::new()?;
        template.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
        Ok(Self {
            template: Arc::new(template),
            leaves,
        })
    }

    /// Returns the cache of certificates.
    pub fn leaves(&self) -> &LeafCache {
        &self.leaves
    }

    /// Returns the configuration of one connection, and its host once the handshake has begun.
    pub fn for_connection(&self, hosts: ServedHosts) -> (Arc<ServerConfig>, Arc<ServedHost>) {
        let served = Arc::new(ServedHost::new(hosts, &self.leaves));
        let mut config = ServerConfig::clone(&self.template);
        config.cert_resolver = Arc::<ServedHost>::clone(&served);
        (Arc::new(config), served)
    }
}

impl ServedHost {
    fn new(hosts: ServedHosts, leaves: &Arc<LeafCache>) -> Self {
        Self {
            hosts,
            leaves: Arc::clone(leaves),
            chosen: OnceLock::new(),
        }
    }

    /// Returns the host of the certificate, in lower case.
    pub fn name(&self) -> Option<&str> {
        self.chosen.get().map(|host| &**host)
    }

    /// Returns the host that the gateway is to be for a client that sends `name`.
    fn choose(&self, name: Option<&str>) -> Option<Box<str>> {
        let name = name.map(str::to_ascii_lowercase);
        match (&self.hosts, name) {
            (ServedHosts::One(host), None) => Some(host.clone()),
            (ServedHosts::One(host), Some(name)) => (**host == *name).then(|| host.clone()),
            (ServedHosts::Any(hosts), Some(name)) if hosts.contains(&name) => Some(name.into()),
            (ServedHosts::Any(_), _) => None,
        }
    }
}

impl fmt::Debug for ServedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedHost")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServedHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = self.choose(hello.server_name())?;
        let issued = self.leaves.get(&host);
        // A client may send a second ClientHello; its name must be the same.
        let chosen = self.chosen.get_or_init(|| host.clone());
        match issued {
            Ok(certificate) => (*chosen == host).then_some(certificate),
            Err(error) => {
                tracing::error!(%host, %error, "TLS handshake failed; no certificate");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::clock::Clock;
    use crate::tls::authority::tests::authority;

    #[test]
    fn host_is_that_of_connect_or_a_known_one() {
        let leaves = Arc::new(LeafCache::new(authority(&["cloud.com"]), Clock::SYSTEM));
        let choose = |hosts: &ServedHosts, name| {
            let chosen = ServedHost::new(hosts.clone(), &leaves).choose(name);
            chosen.map(String::from)
        };
        let api = || Some("api.cloud.com".to_owned());
        let one = ServedHosts::One("api.cloud.com".into());
        assert_eq!(choose(&one, None), api());
        assert_eq!(choose(&one, Some("API.Cloud.com")), api());
        assert_eq!(choose(&one, Some("api-eu.cloud.com")), None);
        let any = ServedHosts::Any(Arc::new([api().unwrap()].into()));
        assert_eq!(choose(&any, Some("API.cloud.com")), api());
        assert_eq!(choose(&any, Some("bank.example")), None);
        assert_eq!(choose(&any, None), None);
    }
}
