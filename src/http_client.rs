//! The HTTP client of the control side: for the few requests that the program makes on its own account.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, redirect};
use secrecy::zeroize::Zeroizing;

use crate::citrix::headers::{CC_TRANSACTION_ID, CITRIX_TRANSACTION_ID, X_CWS_TRANSACTION_ID};

/// The largest answer that is read. A token answer is about 2 kB (contract 1.1).
pub(crate) const LARGEST_ANSWER: usize = 256 * 1024;

/// A transaction id is about 36 bytes; what is much longer is none, and does not belong into a log line.
const LONGEST_TRANSACTION_ID: usize = 128;

/// The HTTP client of the control side could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client of the control side could not be set up")]
pub struct SetupError(#[source] reqwest::Error);

/// A client that trusts what `tls` trusts and speaks what its ALPN list offers, and that gives a request
/// `timeout`, connecting included. It follows no redirect and keeps no connection.
///
/// # Errors
/// When the HTTP client refuses the configuration.
pub fn new(tls: rustls::ClientConfig, timeout: Duration) -> Result<Client, SetupError> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        // The next request is most of an hour away: a kept connection would be dead by then, and a fresh one
        // follows DNS.
        .pool_max_idle_per_host(0)
        // A redirect would carry the secret to a host that nobody configured.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .user_agent(concat!("citrix-auth-proxy/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(SetupError)
}

/// A client that everybody who has it shares, and that a reload may put another in the place of. A request takes the
/// one of the moment.
#[derive(Clone, Debug)]
pub struct SharedClient(Arc<ArcSwap<Client>>);

impl From<Client> for SharedClient {
    fn from(client: Client) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(client)))
    }
}

impl SharedClient {
    /// The client of the moment.
    pub fn get(&self) -> Arc<Client> {
        self.0.load_full()
    }

    /// Puts another in its place.
    pub fn replace(&self, client: Client) {
        self.0.store(Arc::new(client));
    }
}

/// Why an answer's body was not read to its end.
#[derive(Debug)]
pub enum ReadError {
    /// It is larger than any answer that is asked for here.
    TooLarge,
    /// It broke off.
    CutOff(reqwest::Error),
}

/// A body, up to a bound. Its memory is wiped, for it may hold a token.
///
/// # Errors
/// When it is too large or breaks off.
pub async fn read(mut response: Response) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    if response.content_length().is_some_and(|length| length > LARGEST_ANSWER as u64) {
        return Err(ReadError::TooLarge);
    }
    // Room for a usual answer, so that growing leaves no unwiped copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(piece) = response.chunk().await.map_err(ReadError::CutOff)? {
        if body.len() + piece.len() > LARGEST_ANSWER {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Citrix's name for an exchange. The token endpoints use the first of these (contract 1.1).
pub fn transaction_id(headers: &HeaderMap) -> Option<HeaderValue> {
    [X_CWS_TRANSACTION_ID, CITRIX_TRANSACTION_ID, CC_TRANSACTION_ID]
        .iter()
        .filter_map(|name| headers.get(name))
        .find(|value| {
            (1..=LONGEST_TRANSACTION_ID).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        })
        .cloned()
}

/// The error's sources, with what an `io::Error` wraps: its `source` passes that over.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&current: &&'a (dyn Error + 'static)| {
        match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => current.source(),
        }
    })
}

/// What the innermost error says. The outer ones say no more than the outcome does, and name the URL.
pub fn innermost(error: &reqwest::Error) -> Option<String> {
    chain(error).skip(1).last().map(ToString::to_string)
}
