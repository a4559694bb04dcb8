//! How connections leave: through which proxy, and with which TLS.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use rustls::ClientConfig;
use secrecy::ExposeSecret as _;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::Egress;

/// How often the file with the proxy's URL is looked at; a change counts within 10 s
/// (interface §3.2).
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// What every connection towards Citrix is opened with. Its clones are one.
#[derive(Clone)]
pub struct DialConfig {
    tls: Arc<ClientConfig>,
    egress: Arc<ArcSwap<Egress>>,
}

impl DialConfig {
    /// Trusts what `tls` trusts, and goes where `egress` says.
    pub fn new(tls: Arc<ClientConfig>, egress: Egress) -> Self {
        Self {
            tls,
            egress: Arc::new(ArcSwap::from_pointee(egress)),
        }
    }

    /// Whether both are one: connections made by one are as good as those made by the other.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tls, &other.tls) && Arc::ptr_eq(&self.egress, &other.egress)
    }

    /// Whether it goes where `egress` says, and would follow it as that does.
    pub fn matches(&self, egress: &Egress) -> bool {
        let now = self.egress();
        **now == *egress && now.file_source() == egress.file_source()
    }

    /// TLS with whom is connected to.
    pub fn tls(&self) -> &Arc<ClientConfig> {
        &self.tls
    }

    /// Through which proxy, as of now.
    pub fn egress(&self) -> Guard<Arc<Egress>> {
        self.egress.load()
    }

    /// One for tests that connect to nobody.
    #[cfg(test)]
    pub(crate) fn unreachable() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        Self::new(Arc::new(tls), Egress::direct())
    }

    /// Reads the proxy's URL again and again, if it is in a file. One that cannot be used is logged once, and the
    /// one before stays.
    pub async fn keep(self) -> Infallible {
        let mut complained = None;
        loop {
            sleep(LOOK_INTERVAL).await;
            let now = self.egress.load_full();
            let Some(source) = now.file_source().cloned() else {
                continue;
            };
            // A disk that hangs holds up this task and nobody else.
            let Ok(read) = spawn_blocking(move || source.read()).await else {
                continue;
            };
            let moved = read.map_err(|error| error.to_string());
            let moved = moved.and_then(|url| {
                now.with_url(url.expose_secret())
                    .map_err(|error| error.to_string())
            });
            match moved {
                Ok(moved) if moved == *now => complained = None,
                Ok(moved) => {
                    complained = None;
                    tracing::info!(proxy = ?moved.proxy(), "the egress proxy, or what it is shown, changed");
                    self.egress.store(Arc::new(moved));
                }
                Err(error) if complained.as_ref() != Some(&error) => {
                    tracing::warn!(
                        error,
                        "upstream.proxy_url cannot be used; the proxy stays what it was"
                    );
                    complained = Some(error);
                }
                Err(_) => {}
            }
        }
    }
}

impl fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialConfig")
            .field("egress", &*self.egress())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::task::JoinSet;

    use super::*;
    use crate::config::SecretSource;

    fn dial_config(url: &str, file: &std::path::Path) -> DialConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let source = SecretSource::File(file.to_owned());
        DialConfig::new(
            Arc::new(tls),
            Egress::through(url, Some(source), "a.example").unwrap(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxys_url_in_a_file_is_followed_and_a_bad_one_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "http://user:first@proxy:1\n").unwrap();
        let dial_config = dial_config("http://user:first@proxy:1", file.path());
        let mut tasks = JoinSet::new();
        tasks.spawn(dial_config.clone().keep());
        // Who dials has a clone of its own.
        let dialler = dial_config.clone();
        for (content, place, shown) in [
            (
                "http://user:first@proxy:1\n",
                "proxy:1",
                "Basic dXNlcjpmaXJzdA==",
            ),
            (
                "http://user:second@proxy:1\n",
                "proxy:1",
                "Basic dXNlcjpzZWNvbmQ=",
            ),
            (
                "socks5://user:third@proxy:1\n",
                "proxy:1",
                "Basic dXNlcjpzZWNvbmQ=",
            ),
            ("", "proxy:1", "Basic dXNlcjpzZWNvbmQ="),
            (
                "http://user:second@other:2\n",
                "other:2",
                "Basic dXNlcjpzZWNvbmQ=",
            ),
        ] {
            fs::write(file.path(), content).unwrap();
            // On this clock, time passes only when the reading is done.
            sleep(LOOK_INTERVAL * 2).await;
            let egress = dialler.egress();
            let proxy = egress.proxy_for("api.cloud.com").unwrap();
            assert_eq!(
                (
                    proxy.to_string().as_str(),
                    proxy.authorization().unwrap().to_str().unwrap()
                ),
                (place, shown)
            );
            assert_eq!(egress.proxy_for("a.example"), None);
        }
    }
}
