//! Requests to the admin listener of a running gateway.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use reqwest::{Client, redirect};

use crate::callers::credentials::X_API_KEY;
use crate::error::chain::sources;

/// Container runtimes allow more time for a health check.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Bound on a response body: another server on the port may send more than the gateway does.
const MAX_BODY: usize = 1024 * 1024;

pub(super) struct AdminResponse {
    pub(super) status: StatusCode,
    /// Truncated at [`MAX_BODY`].
    pub(super) body: String,
}

/// A request without a response.
pub(super) struct AdminUnreachable {
    address: SocketAddr,
    source: reqwest::Error,
}

impl fmt::Display for AdminUnreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no response from the admin listener at {}", self.address)?;
        if self.source.is_timeout() {
            return write!(f, " within {REQUEST_TIMEOUT:?}");
        }
        // The outer errors are reqwest's and hyper's names for steps.
        match sources(&self.source).last() {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

/// Sends a GET request for `path`, with the admin secret if there is one.
///
/// # Errors
/// If no HTTP response arrives within [`REQUEST_TIMEOUT`].
pub(super) async fn get(
    admin: SocketAddr,
    path: &str,
    secret: Option<&HeaderValue>,
) -> Result<AdminResponse, AdminUnreachable> {
    let address = reachable(admin);
    send(address, path, secret)
        .await
        .map_err(|source| AdminUnreachable { address, source })
}

/// Replaces the unspecified address, on which nothing can be reached, by loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn send(
    address: SocketAddr,
    path: &str,
    secret: Option<&HeaderValue>,
) -> Result<AdminResponse, reqwest::Error> {
    // reqwest with TLS requires a default provider, although this is plain HTTP. A second call
    // changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // No proxy, no redirects: the secret is for this listener only.
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(REQUEST_TIMEOUT)
        .build()?;
    let mut request = client.get(format!("http://{address}{path}"));
    if let Some(secret) = secret {
        request = request.header(X_API_KEY, secret);
    }
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while body.len() < MAX_BODY
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(AdminResponse {
        status: response.status(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
