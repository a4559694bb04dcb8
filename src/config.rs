//! The validated configuration.
//!
//! | module | content |
//! |---|---|
//! | [`Boot`], [`Live`] | the result: settings read at start only, and settings that a reload replaces |
//! | `environment`, `overrides` | input: variables, which override the file |
//! | `raw`, `key`, `value`, `defaults` | input: the file as written, the paths of its keys, single values and their defaults |
//! | `check` | the only way from input to a [`Config`]; one function per section |
//! | `effective`, `reference` | output for people: the keys in effect with their origin; all keys with their defaults |
//! | `report` | problems and warnings, collected so that one run reports all of them |
//! | `changes` | the keys and blocks that a reload changes |

mod boot;
mod caller;
mod changes;
mod check;
mod credential;
mod defaults;
mod effective;
mod egress;
mod environment;
mod fleet;
mod key;
mod live;
mod overrides;
mod raw;
mod reference;
mod report;
mod route;
mod secret;
mod value;

use std::sync::Arc;

pub use boot::{
    AdminSettings, AuthorityFiles, BindAddress, Boot, CertificateFiles, ClientCertificates,
    InterceptSettings, ListenAddress, LogFormat, LogSettings,
};
pub use caller::{Caller, CertificateName, MAX_SECRETS, Mode, check_name};
pub use changes::{BOOT_KEYS, Changes, ConfigFingerprint};
pub use check::{from_bytes, from_toml, load};
pub use credential::{Credential, InstanceId};
pub use effective::{Origin, Setting, effective};
pub use egress::{ConnectProxy, Egress, ProxyUrlError};
pub use environment::process_environment;
pub use fleet::{Fleet, FleetSecrets, FleetStore, HostPort, Sentinels, StoreAddress, StoreTls};
pub use key::join_names;
pub use live::{
    AllowedHosts, FixedAddresses, HostPattern, Http2Mode, KnownGateway, Limits, Live,
    LoginSettings, Networks, TokenCache, TokenSettings, UpstreamSettings,
};
pub use report::ConfigProblem;
pub use route::{Quota, RouteLimit, RouteSettings, RouteTarget, UpstreamEndpoint, UpstreamUrl};
pub use secret::{SecretError, SecretSource, likely_mistake};

/// A configuration without problems.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings that are read at start only.
    pub boot: Boot,
    /// Settings that a reload replaces.
    pub live: Arc<Live>,
    /// Messages to log at start, each with the key it is about.
    pub warnings: Vec<String>,
    /// Hashes of all keys and blocks, to find out what another configuration changes.
    pub fingerprint: ConfigFingerprint,
}
