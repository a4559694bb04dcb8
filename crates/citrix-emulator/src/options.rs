//! What to emulate.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::customers::EmulatedCustomer;
use super::faults::Faults;
use super::rate::Rate;

/// What to emulate. Not `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to listen as the gateway of another region, over the same state.
    pub region_listen: Option<SocketAddr>,
    /// Whether to speak TLS, and with which certificate.
    pub tls: Tls,
    /// The customer that `demo` and most tests use.
    pub customer: EmulatedCustomer,
    /// Customers besides.
    pub more_customers: Vec<EmulatedCustomer>,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// How fast services let themselves be asked.
    pub limits: ServiceLimits,
    /// Whether the system log refuses a wrong customer with 403, as one guide says, or 401, as another shows
    /// (contract §3, "401 responses").
    pub system_log_forbids: bool,
    /// What links in answers look like.
    pub links: Links,
    /// How long a machine of `GET /cvad/manage/Machines` is at least, in bytes: 7230 makes the page of 1000 as
    /// long as the documented one (contract §4, "Sizes").
    pub machine_bytes: usize,
    /// Whether answers are compressed for callers that accept it.
    pub compress: bool,
    /// What goes wrong on purpose.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            region_listen: None,
            tls: Tls::Off,
            customer: EmulatedCustomer::default(),
            more_customers: Vec::new(),
            token_lifetime: Duration::from_secs(3600),
            limits: ServiceLimits::default(),
            system_log_forbids: false,
            links: Links::default(),
            machine_bytes: 0,
            compress: true,
            faults: Faults::default(),
        }
    }
}

/// Whether and how the emulator speaks TLS.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// Plain HTTP, with HTTP/2 by prior knowledge.
    #[default]
    Off,
    /// A fresh CA and a leaf of it for `localhost`, `127.0.0.1`, `::1` and the names of Citrix's hosts.
    SelfSigned,
    /// The user's own certificate.
    Files {
        /// The chain, leaf first, as PEM.
        certificate: PathBuf,
        /// Its key, as PEM.
        key: PathBuf,
    },
}

/// The published limits (contract §4, "Limits"), and one that is known to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Logins in all. That there is a limit is known, its value is not (contract §1.3); none unless asked for.
    pub logins: Option<Rate>,
    /// Secure Private Access, for each customer.
    pub access_security: Rate,
    /// Endpoint Management reporting, for each customer.
    pub endpoint_management: Rate,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            logins: None,
            access_security: Rate {
                count: 1000,
                per: minute,
            },
            endpoint_management: Rate {
                count: 5,
                per: minute,
            },
        }
    }
}

/// What links in answers look like (contract §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// What they begin with.
    pub base: LinkBase,
    /// Monitor's are relative to the service.
    pub relative: bool,
    /// Every `/` in JSON is written `\/`.
    pub escaped: bool,
}

/// What absolute links begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkBase {
    /// The emulator's own origin.
    #[default]
    Own,
    /// The host that the request was sent to.
    Called,
    /// An origin, such as `https://api-eu.cloud.com`.
    Origin(String),
}

impl FromStr for LinkBase {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "own" => Ok(Self::Own),
            "called" => Ok(Self::Called),
            _ if text.starts_with("https://") || text.starts_with("http://") => {
                Ok(Self::Origin(text.trim_end_matches('/').to_owned()))
            }
            _ => Err("own, called, or an origin such as https://api-eu.cloud.com"),
        }
    }
}
