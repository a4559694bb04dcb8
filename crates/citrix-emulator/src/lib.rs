//! A small Citrix Cloud: two token endpoints and the services with their quirks and limits
//! (contract §8).
//!
//! It serves `demo`, users' CI and the tests of this repository. It is a test double: every client
//! that reaches its address can read its counters and revoke its tokens.
//!
//! `serve` processes a request: `routes` finds the service in a table, `access` verifies token and
//! customer, a fault may replace the response, the service responds, and the response gets the
//! transaction id in the field that this service uses.

mod access;
mod access_security;
mod args;
mod bearer_status;
mod call;
mod canned;
mod clock;
mod control;
mod customers;
mod cvad;
mod document_store;
mod documents;
mod encoding;
mod fault_responses;
mod faults;
mod helpers;
mod hosts;
mod jobs;
mod listener;
mod monitor;
mod options;
mod platform;
mod query;
mod rate;
mod responses;
mod routes;
mod serve;
mod services;
mod state;
mod stats;
mod tenants;
mod tls;
mod tokens;
mod trust;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use args::{EmulatorArgs, run};
pub use customers::{Client, ClientSecret, CustomerError, EmulatedCustomer};
pub use faults::{Fault, Faults, Hint, PathFault, PathFaultError, RedirectTarget, TokenFault};
pub use monitor::selected_rows;
pub use options::{LinkBase, Links, Options, ServiceLimits, Tls};
pub use rate::{Rate, RateError};
pub use stats::{CustomerStats, ServiceStats, Stats, TokensSeen};

use call::ListenerOrigin;
use listener::Listener;
use state::State;

/// A failure to start the emulator or to print its report.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address is in use or not local.
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A certificate or key file cannot be read or parsed.
    #[error("cannot read {path}")]
    ReadPem {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    /// The certificates of [`Tls::SelfSigned`] could not be generated.
    #[error("cannot generate a certificate")]
    MakeCertificate(#[from] rcgen::Error),
    /// The certificate does not match the key, or a format is unsupported.
    #[error("cannot set up TLS")]
    SetUpTls(#[from] rustls::Error),
    /// The CA certificate could not be written.
    #[error("cannot write {path}")]
    WriteCa {
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Standard output or the signal handlers failed.
    #[error("cannot write the report or wait for a signal")]
    Io(#[from] io::Error),
}

/// A running emulator. Dropping it stops it without waiting; [`Emulator::stop`] waits.
pub struct Emulator {
    address: SocketAddr,
    ca_pem: Option<String>,
    state: Arc<State>,
    listener: Listener,
    /// The listener of the other region.
    region: Option<Listener>,
}

/// Binds the listeners and serves them in tasks on the current tokio runtime.
///
/// # Errors
/// Fails if an address is in use, or if a certificate cannot be read or generated.
pub async fn start(options: Options) -> Result<Emulator, EmulatorError> {
    let (acceptor, ca_pem) = match tls::server(&options.tls)? {
        Some(tls::TlsServer { acceptor, ca_pem }) => (Some(acceptor), ca_pem),
        None => (None, None),
    };
    let bound = listener::bind(options.listen).await?;
    let region = match options.region_listen {
        Some(address) => Some(listener::bind(address).await?),
        None => None,
    };
    let address = bound.address;
    let url = listener::base_url(address, acceptor.is_some());
    let region_url = region
        .as_ref()
        .map(|bound| listener::base_url(bound.address, acceptor.is_some()));
    let state = Arc::new(State::new(options, url.clone(), region_url.clone()));
    let region = region.zip(region_url).map(|(bound, url)| {
        let origin = ListenerOrigin {
            url: url.into(),
            other_region: true,
        };
        bound.serve(acceptor.clone(), Arc::clone(&state), origin)
    });
    let origin = ListenerOrigin {
        url: url.into(),
        other_region: false,
    };
    let listener = bound.serve(acceptor, Arc::clone(&state), origin);
    Ok(Emulator {
        address,
        ca_pem,
        state,
        listener,
        region,
    })
}

impl Emulator {
    /// Returns the bound address, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns `https://localhost:PORT`, or `http://ADDRESS:PORT` without TLS; no trailing slash.
    pub fn base_url(&self) -> String {
        self.state.base_url.clone()
    }

    /// Returns the base URL of the other region's listener.
    pub fn region_url(&self) -> Option<String> {
        self.state.region_url.clone()
    }

    /// Returns the URL of the form token endpoint for a customer id or `root`.
    pub fn token_url(&self, customer: &str) -> String {
        format!(
            "{}/cctrustoauth2/{customer}/tokens/clients",
            self.state.base_url
        )
    }

    /// Returns the URL of the legacy JSON token endpoint.
    pub fn trust_url(&self) -> String {
        format!("{}/root/tokens/clients", self.state.base_url)
    }

    /// Returns the CA certificate that [`Tls::SelfSigned`] generated.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Iterates over all customers; [`Options::customer`] is the first.
    pub fn customers(&self) -> impl Iterator<Item = &EmulatedCustomer> {
        self.state.tenants().map(|tenant| &tenant.customer)
    }

    /// Returns the id of the first customer.
    pub fn customer_id(&self) -> &str {
        self.state.first().id()
    }

    /// Returns the first site of the first customer, or an empty string.
    pub fn site_id(&self) -> &str {
        self.state
            .first()
            .customer
            .sites
            .first()
            .map_or("", |site| site)
    }

    /// Returns the id of the first customer's first API client.
    pub fn client_id(&self) -> &str {
        self.client().map_or("", |client| &client.id)
    }

    /// Returns the first secret of that client.
    pub fn client_secret(&self) -> &str {
        self.client()
            .and_then(|client| client.secrets.first())
            .map_or("", |secret| &secret.value)
    }

    fn client(&self) -> Option<&Client> {
        self.state.first().customer.clients.first()
    }

    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// Revokes every token issued so far.
    pub fn revoke_all(&self) {
        self.state.tokens.revoke(None);
    }

    /// Expires every token issued so far.
    pub fn expire_all(&self) {
        self.state.tokens.expire(None);
    }

    /// Expires the secret of an API client at position `index`. Returns `true` if it exists.
    pub fn expire_secret(&self, client_id: &str, index: usize) -> bool {
        self.state
            .tenants()
            .any(|tenant| tenant.expire_secret(client_id, index))
    }

    /// Freezes every customer's site; each becomes active `thaws_in` after its activation.
    pub fn freeze(&self, thaws_in: Duration) {
        self.state
            .tenants()
            .for_each(|tenant| tenant.freeze(thaws_in));
    }

    /// Replaces all injected faults, starting with the next request.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// Adds a fault of a path to the existing faults.
    pub fn add_fault(&self, fault: PathFault) {
        self.state.faults().paths.push(fault);
    }

    /// Closes the listeners and all connections, and waits until that is done.
    pub async fn stop(self) {
        self.listener.stop().await;
        if let Some(region) = self.region {
            region.stop().await;
        }
    }
}
