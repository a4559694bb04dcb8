//! The checked configuration: what the rest of the program may rely on.
//!
//! `file` mirrors what a user writes, [`check`] is the only way from there to a [`Config`], and it reports
//! every problem at once. In between, `syntax` reads TOML without stopping at the first mistake, `environment`
//! lays variables over it, and `value` turns single values into types.

mod boot;
mod caller;
mod changes;
mod check;
mod credential;
mod egress;
mod environment;
mod file;
mod live;
mod report;
mod route;
mod secret;
mod syntax;
mod value;

use std::sync::Arc;

pub use boot::{
    AdminSettings, BindAddress, Boot, CertificateFiles, ClientCertificates, ListenAddress,
    LogFormat, LogSettings,
};
pub use caller::{Caller, CertificateName, Mode, check_name};
pub use changes::{BOOT_KEYS, Changes, ConfigFingerprint, join_names};
pub use check::{from_bytes, from_toml, load};
pub use credential::{Credential, InstanceId};
pub use egress::{ConnectProxy, Egress, ProxyUrlError};
pub use environment::process_environment;
pub use live::{
    AllowedHosts, Http2Mode, Limits, Live, LoginSettings, Networks, TokenCache, TokenSettings,
    UpstreamSettings,
};
pub use report::ConfigProblem;
pub use route::{Quota, Route, RouteLimit, RouteTarget, UpstreamEndpoint, UpstreamUrl};
pub use secret::{SecretError, SecretSource};

/// A whole configuration without a mistake in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// What cannot change while the program runs.
    pub boot: Boot,
    /// What a reload may replace.
    pub live: Arc<Live>,
    /// What deserves a warning at start, in sentences ("citrix.client_secret is written in the file itself: …").
    pub warnings: Vec<String>,
    /// What was written, to tell what another configuration changes.
    pub fingerprint: ConfigFingerprint,
}
