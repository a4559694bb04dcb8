//! The token service: counts logins, and injects faults.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::content::TOKEN_PREFIX;
use crate::http1::{Framing, ReadLimits, Reader, Sink};
use crate::token_history::TokenHistory;

/// Lifetime that responses state: short, so that there are planned refreshes as well.
const LIFETIME: u64 = 120;
/// Longer than the gateway's `token.request_timeout`.
const STALL: Duration = Duration::from_secs(5);

/// The treatment of a login by the service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Grant = 0,
    Fail = 1,
    Stall = 2,
    Limit = 3,
}

/// A running token service, shared with the upstream, which checks the tokens.
pub(crate) struct Tokens {
    pub(crate) address: SocketAddr,
    mode: AtomicU8,
    issued: AtomicU64,
    revoked: AtomicU64,
    pub(crate) history: Arc<TokenHistory>,
    logins: AtomicU64,
    failed: AtomicU64,
    secrets: Mutex<Vec<String>>,
}

impl Tokens {
    /// Starts a service that grants tokens for `secret`.
    pub(crate) async fn start(secret: &str) -> Fallible<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let tokens = Arc::new(Self {
            address: listener.local_addr()?,
            mode: AtomicU8::new(0),
            issued: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            history: Arc::default(),
            logins: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            secrets: Mutex::new(vec![secret.to_owned()]),
        });
        let service = Arc::clone(&tokens);
        tokio::spawn(async move {
            loop {
                if let Ok((socket, _)) = listener.accept().await {
                    let service = Arc::clone(&service);
                    // A connection that breaks fails its login.
                    tokio::spawn(async move { service.serve(socket).await.ok() });
                }
            }
        });
        Ok(tokens)
    }

    /// Changes what happens to logins.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Makes all tokens invalid that were issued so far.
    pub(crate) fn revoke(&self) {
        let newest = self.issued.load(Ordering::SeqCst);
        self.revoked.store(newest, Ordering::SeqCst);
        self.history.revoke(newest);
    }

    /// Replaces the secrets that are accepted.
    pub(crate) fn accept_secrets(&self, secrets: Vec<String>) {
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// Returns the numbers of logins, of failed ones among them, and of tokens.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.logins, &self.failed, &self.issued].map(|count| count.load(Ordering::SeqCst))
    }

    /// Returns the number of the token in a value of `Authorization`, and whether it is valid; `None`
    /// if it has none of this service.
    pub(crate) fn check(&self, authorization: &str) -> Option<(u64, bool)> {
        let value = authorization.strip_prefix("CwsAuth Bearer=");
        let value = value.or_else(|| authorization.strip_prefix("Bearer "))?;
        let number: u64 = value.strip_prefix(TOKEN_PREFIX)?.parse().ok()?;
        let issued = self.issued.load(Ordering::SeqCst);
        (number <= issued).then(|| (number, number > self.revoked.load(Ordering::SeqCst)))
    }

    async fn serve(&self, socket: TcpStream) -> io::Result<()> {
        let mut wire = Reader::new(socket);
        while let Some(head) = wire.head().await? {
            let mut form = Sink::Text(Vec::new());
            wire.body(
                head.framing(Framing::Length(0)),
                &mut form,
                ReadLimits::NONE,
            )
            .await?;
            let begin = Instant::now();
            self.logins.fetch_add(1, Ordering::SeqCst);
            let form = match form {
                Sink::Text(form) => String::from_utf8_lossy(&form).into_owned(),
                Sink::Bytes(_) => String::new(),
            };
            let (status, granted, body) = self.respond(&form).await;
            self.history.login(begin, granted);
            if granted.is_none() {
                self.failed.fetch_add(1, Ordering::SeqCst);
            }
            let response = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            wire.io.write_all(response.as_bytes()).await?;
        }
        Ok(())
    }

    async fn respond(&self, form: &str) -> (&'static str, Option<u64>, String) {
        match self.mode.load(Ordering::SeqCst) {
            1 => return failure("500 Internal Server Error", "{}"),
            2 => {
                sleep(STALL).await;
                // The gateway has left.
                return failure("503 Service Unavailable", "{}");
            }
            3 => return failure("429 Too Many Requests\r\nRetry-After: 1", "{}"),
            _ => {}
        }
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |secret: &String| form.contains(&format!("client_secret={secret}"));
        if !secrets.iter().any(is_known) {
            return failure("400 Bad Request", r#"{"error":"invalid_client"}"#);
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let body = format!(
            r#"{{"token_type":"bearer","access_token":"{TOKEN_PREFIX}{number}","expires_in":"{LIFETIME}"}}"#
        );
        ("200 OK", Some(number), body)
    }
}

fn failure(status: &'static str, body: &str) -> (&'static str, Option<u64>, String) {
    (status, None, body.to_owned())
}
