//! The requests that have budgets.

use aws_lc_rs::digest::{SHA256, digest};
use citrix_wire::hex;

use crate::Fallible;
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::profile::Counts;

/// Requests before the count: connections are open and buffers have their size.
const WARM_UP: usize = 100;
/// Counts; the result is the median of each figure.
const COUNTS: usize = 5;
/// Requests of one count.
const REQUESTS: usize = 200;

pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Added to the configuration.
    pub(crate) toml: String,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: Connections,
}

/// The connections on which a caller sends its requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    One,
    OnePerRequest,
}

pub(crate) fn all() -> [Shape; 5] {
    [
        Shape {
            name: "get_1k",
            toml: String::new(),
            request: get("/bytes/1024", CUSTOMER),
            connections: Connections::One,
        },
        Shape {
            name: "connection",
            toml: String::new(),
            request: get("/bytes/1024", &format!("{CUSTOMER}Connection: close\r\n")),
            connections: Connections::OnePerRequest,
        },
        Shape {
            name: "post_64k",
            toml: String::new(),
            request: post("/bytes/2", "application/json", &"x".repeat(64 * 1024)),
            connections: Connections::One,
        },
        Shape {
            name: "login",
            toml: caller_block("reports", SECRET),
            request: post(
                "/cctrustoauth2/acme/tokens/clients",
                "application/x-www-form-urlencoded",
                &format!("grant_type=client_credentials&client_id=reports&client_secret={SECRET}"),
            ),
            connections: Connections::One,
        },
        Shape {
            name: "links",
            toml: String::new(),
            request: get("/monitorodata/Machines", CUSTOMER),
            connections: Connections::One,
        },
    ]
}

/// A field with the customer of [`Upstream::configuration`](crate::upstream::Upstream::configuration).
pub(crate) const CUSTOMER: &str = "Customer: acme\r\n";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789A";

/// Returns what the gateway does for `request`, sent repeatedly.
pub(crate) fn measure(
    gateway: &mut Gateway,
    request: &[u8],
    connections: Connections,
) -> Fallible<Counts> {
    let address = gateway.address;
    let mut caller = Caller::connect(address)?;
    let mut send = |number: usize| {
        (0..number).try_for_each(|_| match connections {
            Connections::One => caller.request(request),
            Connections::OnePerRequest => Caller::connect(address)?.last_request(request),
        })
    };
    send(WARM_UP)?;
    gateway.count()?;
    send(1)?;
    gateway.counts()?;
    let mut counts = Vec::new();
    for _ in 0..COUNTS {
        send(REQUESTS)?;
        counts.push(gateway.counts()?.per_request(REQUESTS as u64));
    }
    Ok(Counts::medians(&counts))
}

/// Returns a GET as a script sends it, with more fields.
pub(crate) fn get(target: &str, fields: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: reports/1.0\r\nAccept: application/json\r\n\
         {fields}\r\n"
    )
    .into_bytes()
}

pub(crate) fn post(target: &str, content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: reports/1.0\r\nAccept: application/json\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Returns the configuration of a caller.
pub(crate) fn caller_block(name: &str, secret: &str) -> String {
    let hash = digest(&SHA256, secret.as_bytes());
    let hash = hex::encode(hash.as_ref());
    format!("[[caller]]\nname = '{name}'\nsecret_sha256 = '{hash}'\n")
}
