//! The checked configuration: what the rest of the program may rely on.
//!
//! `file` mirrors what a user writes, [`check`] is the only way from there to a [`Config`], and it reports
//! every problem at once. In between, `syntax` reads TOML without stopping at the first mistake, `environment`
//! lays variables over it, and `value` turns single values into types.

mod boot;
mod caller;
mod changes;
pub mod check;
mod content;
mod credential;
mod egress;
mod environment;
mod file;
mod live;
mod report;
mod route;
pub mod secret;
mod syntax;
mod value;

use std::sync::Arc;

pub use boot::{
    Admin, BindAddress, Boot, CertificateFiles, ClientCertificates, Listener, Log, LogFormat,
};
pub use caller::{Caller, CertificateName, Mode, SecretHash, check_name};
pub use changes::{BOOT, Changes, Written, listed};
pub use check::{from_bytes, from_toml, load};
pub use content::Content;
pub use credential::{Credential, InstanceId};
pub use egress::{BadProxy, Egress, Proxy};
pub use environment::process_environment;
pub use live::{AllowedHosts, Http2, Limits, Live, Login, Networks, Token, TokenCache, Upstream};
pub use report::Problem;
pub use route::{Allows, Destination, Route, RouteLimit, Target, UpstreamUrl};
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
    pub written: Written,
}
