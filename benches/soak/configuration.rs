//! The configuration of the gateway.

use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};

use crate::Fallible;
use crate::gateway::Folder;
use crate::plan::HOST;

/// Connections that the gateway permits.
pub(crate) const MAX_CONNECTIONS: usize = 1000;
/// Not a configuration.
pub(crate) const INVALID: &str = "[listen]\naddress = 'nowhere'\nunknown = 1\n";

/// The values in the gateway's configuration.
pub(crate) struct Settings {
    pub(crate) plain_upstream: SocketAddr,
    pub(crate) tls_upstream: SocketAddr,
    pub(crate) http2_upstream: SocketAddr,
    pub(crate) upstream_ca: String,
    pub(crate) tokens: SocketAddr,
    pub(crate) store: String,
    pub(crate) secret: String,
}

/// The names of callers with their secrets.
pub(crate) const CALLERS: [(&str, &str); 4] = [
    ("api-key", "the-secret-of-the-caller-api-key"),
    ("basic", "the-secret-of-the-caller-basic"),
    ("facade", "the-secret-of-the-caller-facade"),
    ("limited", "the-secret-of-the-caller-limited"),
];

impl Settings {
    /// Writes the files that the configuration names.
    pub(crate) fn write_files(&self, folder: &Folder) -> Fallible<()> {
        self.write_secret(folder, &self.secret)?;
        folder.write("upstream-ca.pem", &self.upstream_ca)
    }

    /// Replaces the client secret.
    pub(crate) fn write_secret(&self, folder: &Folder, secret: &str) -> Fallible<()> {
        folder.write("secret", secret)
    }
}

/// Returns the configuration. Odd variations have a further caller and a further route.
pub(crate) fn toml(settings: &Settings, folder: &Folder, variation: u64) -> String {
    let Settings {
        plain_upstream,
        tls_upstream,
        http2_upstream,
        tokens,
        store,
        ..
    } = settings;
    let listeners = folder.tls.toml("address = '127.0.0.1:0'\n");
    let [secret, ca] = ["secret", "upstream-ca.pem"].map(|name| folder.path(name));
    let queued = 1000 + variation;
    let mut toml = format!(
        "[citrix]\ncustomer_id = 'acme'\nclient_id = 'soak'\nclient_secret = {{ file = {secret:?} }}\n\
         instance_id = ''\napi_url = 'http://{plain_upstream}'\ntoken_url = 'http://{tokens}/token'\n\
         [listen]\naddress = '127.0.0.1:0'\nworkers = 2\nhosts = ['{HOST}']\n{listeners}\n\
         [admin]\naddress = '127.0.0.1:0'\n\
         [upstream]\nca_file = {ca:?}\nresponse_timeout = '8s'\nidle_timeout = '8s'\n\
         retry_budget = '5s'\nmax_connection_age = '30s'\n\
         [token]\nrequest_timeout = '3s'\nmin_forced_interval = '1s'\n\
         [limits]\nmax_connections = {MAX_CONNECTIONS}\nmax_queued = {queued}\nbody_idle_timeout = '4s'\n\
         header_read_timeout = '5s'\nkeep_alive_timeout = '20s'\n\
         [fleet]\nurl = '{store}'\nkey = 'a key of the soak, 32 bytes or more'\n\
         [[route]]\nprefix = '/tls'\nupstream = 'https://localhost:{}'\nauthorization = 'bearer'\n\
         [[route]]\nprefix = '/h2'\nupstream = 'https://localhost:{}'\n\
         [[route]]\nprefix = '/links'\nupstream = 'http://{plain_upstream}/links'\nstrip_prefix = true\nrewrite_links = true\n\
         [[route]]\nprefix = '/gated'\nupstream = 'http://{plain_upstream}'\nmax_concurrent = 4\nqueue_timeout = '10s'\n",
        tls_upstream.port(),
        http2_upstream.port(),
    );
    for (name, secret) in CALLERS {
        toml += &format!(
            "[[caller]]\nname = '{name}'\nsecret_sha256 = '{}'\n",
            sha256(secret)
        );
        match name {
            "api-key" => {
                toml += "paths = ['/soak/**', '/tls/**', '/h2/**', '/links/**', '/monitorodata/**', '/gated/**', '/cvad/**']\n";
            }
            "limited" => toml += "max_concurrent = 2\n",
            _ => {}
        }
    }
    if variation % 2 == 1 {
        toml += &format!(
            "[[caller]]\nname = 'visitor-{}'\nsecret_sha256 = '{}'\n\
             [[route]]\nprefix = '/visitor-{}'\nupstream = 'http://{plain_upstream}'\nmax_concurrent = 2\n",
            variation % 7,
            sha256(&variation.to_string()),
            variation % 5,
        );
    }
    toml
}

/// Returns the SHA-256 of a secret in digits.
pub(crate) fn sha256(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}
