//! The Citrix Cloud emulator in a separate process, and callers that load a gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::gateway::Gateway;
use crate::program::Program;
use testkit::wire::{Wire, within_timeout};

/// A running emulator.
pub struct Cloud {
    settings: Vec<(String, String)>,
    client: reqwest::Client,
    _emulator: Program,
    /// Contains the CA file.
    _folder: TempDir,
}

impl Cloud {
    /// Starts an emulator with TLS, and therefore with HTTP/2 for clients that offer it in ALPN.
    pub async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let arguments = [
            &["emulator", "--tls", "--ca-out", ca.to_str().unwrap()],
            arguments,
        ]
        .concat();
        let mut emulator = Program::start(&arguments, &[]);
        let settings = printed_settings(&mut emulator).await;
        let client = client(Some(&std::fs::read(ca).unwrap())).build().unwrap();
        Self {
            settings,
            client,
            _emulator: emulator,
            _folder: folder,
        }
    }

    /// Returns the environment variables of a gateway for this cloud.
    pub fn settings(&self) -> Vec<(&str, &str)> {
        let mut settings: Vec<_> = self
            .settings
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        settings.extend(crate::gateway::EPHEMERAL_PORTS);
        settings
    }

    /// Returns the value of the variable whose name ends with `suffix`.
    pub fn setting(&self, suffix: &str) -> &str {
        self.settings
            .iter()
            .find(|(name, _)| name.ends_with(suffix))
            .map(|(_, value)| value.as_str())
            .unwrap()
    }

    /// Starts a gateway for this cloud and waits until it is ready.
    pub async fn gateway(&self, more: &[(&str, &str)]) -> Gateway {
        let mut settings = self.settings();
        settings.extend(more);
        Gateway::start(&[], &settings).await
    }

    /// Returns a counter of `/_emulator/stats`.
    pub async fn count(&self, counter: &str) -> u64 {
        let stats: Value = serde_json::from_str(&self.send("GET", "stats").await).unwrap();
        stats[counter]
            .as_u64()
            .unwrap_or_else(|| panic!("no {counter} in {stats}"))
    }

    /// Invalidates all tokens issued so far (`POST /_emulator/revoke`).
    pub async fn revoke(&self) {
        self.send("POST", "revoke").await;
    }

    async fn send(&self, method: &str, endpoint: &str) -> String {
        let url = self.setting("__API_URL");
        let request = self.client.request(
            method.parse().unwrap(),
            format!("{url}/_emulator/{endpoint}"),
        );
        within_timeout(
            within_timeout(request.send())
                .await
                .unwrap()
                .error_for_status()
                .unwrap()
                .text(),
        )
        .await
        .unwrap()
    }
}

/// Returns the environment variables that an emulator prints at start.
pub async fn printed_settings(emulator: &mut Program) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    loop {
        let line = emulator.line().await;
        if line.contains("token_url =") {
            return settings;
        }
        if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            settings.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// Returns the builder of a client that trusts only `ca` (PEM).
pub fn client(ca: Option<&[u8]>) -> reqwest::ClientBuilder {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(ca) = ca {
        roots
            .add(CertificateDer::from_pem_slice(ca).unwrap())
            .unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
}

/// Callers that send requests, each on its own connection, until [`Load::stop`].
pub struct Load {
    callers: JoinSet<BTreeMap<u16, u64>>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Starts `callers` callers that all send `request`.
    pub fn start(gateway: SocketAddr, callers: usize, request: &str) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        load.add(gateway, callers, request);
        load
    }

    pub fn add(&mut self, gateway: SocketAddr, callers: usize, request: &str) {
        for _ in 0..callers {
            let (stop, request) = (self.stop.subscribe(), request.to_owned());
            self.callers.spawn(async move {
                let mut wire =
                    Wire::new(within_timeout(TcpStream::connect(gateway)).await.unwrap());
                let mut statuses = BTreeMap::new();
                while !*stop.borrow() {
                    wire.write(&request).await;
                    *statuses.entry(wire.response().await.status()).or_default() += 1;
                }
                statuses
            });
        }
    }

    /// Completes the requests in progress and returns the number of responses by status.
    pub async fn stop(mut self) -> BTreeMap<u16, u64> {
        self.stop.send_replace(true);
        let mut statuses = BTreeMap::new();
        while let Some(counts) = within_timeout(self.callers.join_next()).await {
            for (status, count) in counts.unwrap() {
                *statuses.entry(status).or_default() += count;
            }
        }
        statuses
    }
}
