//! Asks the admin listener of a running gateway, for commands that need to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use reqwest::{Client, redirect};

use crate::callers::credentials::X_API_KEY;
use crate::upstream::control_plane::sources;

/// Container runtimes wait longer for a health check.
const PATIENCE: Duration = Duration::from_secs(3);
/// No answer is that long; a stranger on the port may send more.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// What the admin listener said.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, or as much of it as an answer may have.
    pub body: String,
}

/// Why there is none.
pub struct NoAnswer {
    address: SocketAddr,
    why: reqwest::Error,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer from the admin listener at {}", self.address)?;
        if self.why.is_timeout() {
            return write!(f, " within {PATIENCE:?}");
        }
        // The first only says that it was asked for, and where.
        sources(&self.why)
            .skip(1)
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// Asks for `path`, showing the admin secret if there is one.
///
/// # Errors
/// When no answer comes in time, or none of HTTP.
pub async fn get(
    admin: SocketAddr,
    path: &str,
    secret: Option<&HeaderValue>,
) -> Result<Answer, NoAnswer> {
    let address = reachable(admin);
    ask(address, path, secret)
        .await
        .map_err(|why| NoAnswer { address, why })
}

/// A listener on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(
    address: SocketAddr,
    path: &str,
    secret: Option<&HeaderValue>,
) -> Result<Answer, reqwest::Error> {
    // No TLS is spoken here, but a reqwest that was built with it wants to know by whom; a second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Straight there, and nowhere else: the secret is for this listener.
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(PATIENCE)
        .build()?;
    let mut request = client.get(format!("http://{address}{path}"));
    if let Some(secret) = secret {
        request = request.header(X_API_KEY, secret);
    }
    let mut answer = request.send().await?;
    let mut body = Vec::new();
    while body.len() < LONGEST_ANSWER
        && let Some(piece) = answer.chunk().await?
    {
        body.extend_from_slice(&piece);
    }
    Ok(Answer {
        status: answer.status(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
