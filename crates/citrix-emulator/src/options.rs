//! Options of the emulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::customers::EmulatedCustomer;
use super::faults::Faults;
use super::rate::Rate;

/// Options of [`start`](crate::start). Not `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Options {
    /// Address to listen on; port 0 selects an ephemeral port.
    pub listen: SocketAddr,
    /// Address of a second listener, which emulates the API gateway of another region with the same
    /// state.
    pub region_listen: Option<SocketAddr>,
    /// TLS of both listeners.
    pub tls: Tls,
    /// The customer that `demo` and most tests use.
    pub customer: EmulatedCustomer,
    pub more_customers: Vec<EmulatedCustomer>,
    /// Lifetime of a token.
    pub token_lifetime: Duration,
    /// Rate limits of the services.
    pub limits: ServiceLimits,
    /// The system log rejects a wrong customer with 403, as one guide states, instead of 401, as
    /// another shows (contract §3, "401 responses").
    pub system_log_forbids: bool,
    /// The system log writes `Items` and `RecordId` instead of `items` and `recordId` (contract §4).
    pub system_log_old_names: bool,
    /// Format of links in responses.
    pub links: Links,
    /// Minimum size in bytes of a machine of `GET /cvad/manage/Machines`: with 7230 a page of 1000
    /// has the documented size (contract §4, "Sizes").
    pub machine_bytes: usize,
    /// Responses are compressed for clients that accept it.
    pub compress: bool,
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
            system_log_old_names: false,
            links: Links::default(),
            machine_bytes: 0,
            compress: true,
            faults: Faults::default(),
        }
    }
}

/// TLS of the emulator's listeners.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// Cleartext HTTP/1.1, and HTTP/2 with prior knowledge.
    #[default]
    Off,
    /// A generated certificate for `localhost`, `127.0.0.1`, `::1` and the names of Citrix's hosts,
    /// issued by a generated CA.
    SelfSigned,
    /// A certificate of the operator.
    Files {
        /// Chain, leaf first, as PEM.
        certificate: PathBuf,
        /// Key of the leaf, as PEM.
        key: PathBuf,
    },
}

/// Rate limits of the services (contract §4, "Limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Limit of all logins together, off by default: Citrix has a limit but publishes no number
    /// (contract §1.3).
    pub logins: Option<Rate>,
    /// Limit of Secure Private Access per customer.
    pub access_security: Rate,
    /// Limit of Endpoint Management reporting per customer.
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

/// Format of links in responses (contract §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Origin of absolute links.
    pub base: LinkBase,
    /// Links of Monitor are relative to the service.
    pub relative: bool,
    /// Every `/` in JSON is written as `\/`.
    pub escaped: bool,
}

/// Origin of absolute links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkBase {
    #[default]
    Own,
    /// The host in the request.
    Called,
    /// A fixed origin, for example `https://api-eu.cloud.com`.
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
            _ => Err("expected own, called, or an origin such as https://api-eu.cloud.com"),
        }
    }
}
