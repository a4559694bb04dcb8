//! The requests of callers, and the expected responses.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use citrix_wire::hex;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;

use crate::Fallible;
use crate::connection::Connection;
use crate::upstream::Upstream;

/// Customers, and callers with a secret.
const CUSTOMERS: usize = 8;
const UPLOAD: usize = 64 * 1024;

/// One request, how often a round sends it, and the status of its response.
struct Exchange {
    method: Method,
    target: &'static str,
    fields: HeaderMap,
    body: Bytes,
    repetitions: usize,
    status: StatusCode,
}

/// The requests of a round, for the configuration of a gateway.
pub(crate) struct Requests {
    round: Vec<Exchange>,
    configuration: String,
    upstream: String,
    /// Callers have names, customers and secrets.
    are_identified: bool,
}

impl Requests {
    /// Requests of anonymous callers for the only customer; the upstream uses HTTP/1.1.
    pub(crate) fn anonymous(upstream: &Upstream) -> Self {
        let customer = upstream.customer("c0");
        let more = "http2 = 'never'\n[log]\naccess = false\nformat = 'json'\n";
        Self::new(upstream, more, &format!("[citrix]\n{customer}"), false)
    }

    /// Requests of callers with secrets, for several customers; the upstream uses HTTP/2.
    pub(crate) fn identified(upstream: &Upstream) -> Self {
        let mut blocks = String::new();
        for number in 0..CUSTOMERS {
            let customer = upstream.customer(&format!("c{number}"));
            let hash = hex::encode(digest(&SHA256, secret(number).as_bytes()).as_ref());
            // Writing to a string cannot fail.
            write!(
                blocks,
                "[[customer]]\n{customer}[[caller]]\nname = 'caller{number}'\nsecret_sha256 = '{hash}'\n"
            )
            .ok();
        }
        Self::new(upstream, "[log]\nformat = 'json'\n", &blocks, true)
    }

    fn new(upstream: &Upstream, upstream_keys: &str, blocks: &str, are_identified: bool) -> Self {
        Self {
            round: round(),
            configuration: format!(
                "[upstream]\nca_file = {:?}\n{upstream_keys}{blocks}",
                upstream.ca_file()
            ),
            upstream: upstream.url(),
            are_identified,
        }
    }

    /// The configuration of the gateway, without its listeners.
    pub(crate) fn configuration(&self) -> &str {
        &self.configuration
    }

    /// Sends each request of a round, the first a login where callers have secrets. Returns their
    /// number.
    ///
    /// # Errors
    /// When a response is not as expected.
    pub(crate) async fn send_round(
        &self,
        connection: &mut Connection,
        caller: usize,
    ) -> Fallible<usize> {
        let mut sent = 0;
        let mut fields = HeaderMap::new();
        if self.are_identified {
            let token = log_in(connection, caller).await?;
            sent += 1;
            // Half of the callers use the token, as Citrix's own SDKs do.
            let (name, value) = if caller.is_multiple_of(2) {
                (HeaderName::from_static("x-api-key"), secret(caller))
            } else {
                (
                    http::header::AUTHORIZATION,
                    format!("CwsAuth Bearer={token}"),
                )
            };
            fields.insert(name, value.parse()?);
            fields.insert("customer", format!("c{caller}").parse()?);
        } else {
            fields.insert("customer", HeaderValue::from_static("c0"));
        }
        for exchange in &self.round {
            for _ in 0..exchange.repetitions {
                exchange
                    .perform(connection, &fields, &self.upstream)
                    .await?;
            }
            sent += exchange.repetitions;
        }
        Ok(sent)
    }
}

fn secret(caller: usize) -> String {
    format!("{caller:043}")
}

async fn log_in(connection: &mut Connection, caller: usize) -> Fallible<String> {
    let secret = secret(caller);
    let body =
        format!("grant_type=client_credentials&client_id=caller{caller}&client_secret={secret}");
    let target = format!("/cctrustoauth2/c{caller}/tokens/clients");
    let request = request(connection, &Method::POST, &target)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body))?;
    let response = connection.send(request).await?;
    let document: serde_json::Value = serde_json::from_slice(response.body())?;
    let token = document["access_token"].as_str();
    Ok(token
        .ok_or_else(|| format!("no token: {document}"))?
        .to_owned())
}

/// Returns a request with the fields that every caller sends.
fn request(connection: &Connection, method: &Method, target: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("{}://localhost{target}", connection.kind.scheme()))
        .header("host", "localhost")
        .header("user-agent", "reports/1.0")
        .header("accept", "application/json")
}

impl Exchange {
    fn new(method: Method, target: &'static str, repetitions: usize) -> Self {
        Self {
            method,
            target,
            fields: HeaderMap::new(),
            body: Bytes::new(),
            repetitions,
            status: StatusCode::OK,
        }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        let value = HeaderValue::from_static(value);
        self.fields.insert(HeaderName::from_static(name), value);
        self
    }

    fn with_body(mut self, length: usize) -> Self {
        self.body = "x".repeat(length).into();
        self.with("content-type", "application/json")
    }

    fn failing(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Sends the request with `fields` in addition, and checks the response.
    async fn perform(
        &self,
        connection: &mut Connection,
        fields: &HeaderMap,
        upstream: &str,
    ) -> Fallible<()> {
        let mut request =
            request(connection, &self.method, self.target).body(Full::from(self.body.clone()))?;
        for (name, value) in fields.iter().chain(&self.fields) {
            request.headers_mut().insert(name, value.clone());
        }
        let response = connection.send(request).await?;
        let is_expected = response.status() == self.status
            && self.is_expected(response.body(), connection.kind.scheme(), upstream);
        if is_expected {
            return Ok(());
        }
        let (kind, method, target) = (connection.kind, &self.method, self.target);
        Err(format!("{method} {target} over {kind:?}: not as expected: {response:?}").into())
    }

    fn is_expected(&self, body: &[u8], scheme: &str, upstream: &str) -> bool {
        if self.method == Method::HEAD {
            return body.is_empty();
        }
        if let Some((_, length)) = self.target.split_once("s/") {
            return length.parse() == Ok(body.len());
        }
        // A page in a coding is for the caller to decode.
        let Ok(text) = std::str::from_utf8(body) else {
            return self.fields.contains_key("accept-encoding");
        };
        let next = format!("{scheme}://localhost/monitorodata/Machines?");
        self.status != StatusCode::OK || (text.contains(&next) && !text.contains(upstream))
    }
}

fn round() -> Vec<Exchange> {
    let page = "/monitorodata/Machines";
    vec![
        Exchange::new(Method::GET, "/bytes/1024", 10),
        Exchange::new(Method::GET, "/chunks/1024", 2),
        Exchange::new(Method::GET, "/bytes/102400", 1),
        Exchange::new(Method::POST, "/bytes/2", 1).with_body(UPLOAD),
        Exchange::new(Method::POST, "/bytes/1024", 1).with_body(200),
        Exchange::new(Method::PATCH, "/bytes/2", 1).with_body(200),
        Exchange::new(Method::DELETE, "/bytes/0", 1),
        Exchange::new(Method::HEAD, "/bytes/1024", 1),
        Exchange::new(Method::GET, page, 1),
        Exchange::new(Method::GET, page, 1).with("accept-encoding", "gzip"),
        Exchange::new(Method::GET, "/missing", 1).failing(StatusCode::NOT_FOUND),
        Exchange::new(Method::GET, "/classic/unknown", 1).failing(StatusCode::NOT_FOUND),
    ]
}
