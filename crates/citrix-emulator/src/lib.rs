//! A small Citrix Cloud: two token endpoints, the services with their quirks and limits (contract §8).
//!
//! For `demo`, for users' own CI and for our tests. It is a test double: whoever reaches its address may read
//! its counters and revoke its tokens.
//!
//! A request's way, in `serve`: `routes` finds the service in a table, `access` judges token and customer, a fault
//! may befall it, the service answers, and the answer gets the transaction id under the name which that service
//! uses.

mod access;
mod access_security;
mod args;
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
mod token_status;
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
pub use options::{LinkBase, Links, Options, ServiceLimits, Tls};
pub use rate::{Rate, RateError};
pub use stats::{CustomerStats, ServiceStats, Stats, TokensSeen};

use call::ListenerOrigin;
use listener::Listener;
use state::State;

/// Why the emulator could not start or tell about itself.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A certificate or key file cannot be read or parsed.
    #[error("cannot read {path}")]
    ReadPem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// The fresh certificates could not be made.
    #[error("cannot make a certificate")]
    MakeCertificate(#[from] rcgen::Error),
    /// Certificate and key do not make a TLS server.
    #[error("cannot set up TLS")]
    SetUpTls(#[from] rustls::Error),
    /// The CA certificate could not be written.
    #[error("cannot write {path}")]
    WriteCa {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output or the signal handlers failed.
    #[error("cannot report or wait for a signal")]
    Io(#[from] io::Error),
}

/// A running emulator. Dropping it stops it too, only without waiting for it.
pub struct Emulator {
    address: SocketAddr,
    ca_pem: Option<String>,
    state: Arc<State>,
    listener: Listener,
    /// The other region's.
    region: Option<Listener>,
}

/// Binds, starts serving on the current tokio runtime and returns at once.
///
/// # Errors
/// When an address is taken, or a certificate cannot be read or made.
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
    /// The address it listens on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://localhost:PORT`, or `http://ADDRESS:PORT` without TLS; no slash at the end.
    pub fn base_url(&self) -> String {
        self.state.base_url.clone()
    }

    /// The same of the other region's listener.
    pub fn region_url(&self) -> Option<String> {
        self.state.region_url.clone()
    }

    /// The form endpoint for a customer id or `root`.
    pub fn token_url(&self, customer: &str) -> String {
        format!(
            "{}/cctrustoauth2/{customer}/tokens/clients",
            self.state.base_url
        )
    }

    /// The legacy JSON endpoint.
    pub fn trust_url(&self) -> String {
        format!("{}/root/tokens/clients", self.state.base_url)
    }

    /// The CA that [`Tls::SelfSigned`] made.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Every customer, that of [`Options::customer`] first.
    pub fn customers(&self) -> impl Iterator<Item = &EmulatedCustomer> {
        self.state.tenants().map(|tenant| &tenant.customer)
    }

    /// The first customer.
    pub fn customer_id(&self) -> &str {
        self.state.first().id()
    }

    /// The first customer's first site; empty when it has none.
    pub fn site_id(&self) -> &str {
        self.state
            .first()
            .customer
            .sites
            .first()
            .map_or("", |site| site)
    }

    /// The id of the first customer's first API client.
    pub fn client_id(&self) -> &str {
        self.client().map_or("", |client| &client.id)
    }

    /// Its first secret.
    pub fn client_secret(&self) -> &str {
        self.client()
            .and_then(|client| client.secrets.first())
            .map_or("", |secret| &secret.value)
    }

    fn client(&self) -> Option<&Client> {
        self.state.first().customer.clients.first()
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// Revokes every token issued so far; later ones are good.
    pub fn revoke_all(&self) {
        self.state.tokens.revoke(None);
    }

    /// Lets every token issued so far expire now.
    pub fn expire_all(&self) {
        self.state.tokens.expire(None);
    }

    /// Lets a secret of an API client expire now, by its position; whether there is such a one.
    pub fn expire_secret(&self, client_id: &str, index: usize) -> bool {
        self.state
            .tenants()
            .any(|tenant| tenant.expire_secret(client_id, index))
    }

    /// Freezes every customer's site; once activated, each takes `thaws_in` to thaw.
    pub fn freeze(&self, thaws_in: Duration) {
        self.state
            .tenants()
            .for_each(|tenant| tenant.freeze(thaws_in));
    }

    /// Replaces what goes wrong on purpose, from the next request on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// Lets something befall a path, besides the faults there are.
    pub fn add_fault(&self, fault: PathFault) {
        self.state.faults().paths.push(fault);
    }

    /// Closes the listeners and every connection, and returns when that is done.
    pub async fn stop(self) {
        self.listener.stop().await;
        if let Some(region) = self.region {
            region.stop().await;
        }
    }
}
