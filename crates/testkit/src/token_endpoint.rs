//! A scripted token endpoint that counts logins and grants, rejects or stalls them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::wire::{Wire, within_timeout};

/// Prefix of every token; the serial number of the token follows.
pub const TOKEN: &str = "c4nary-token-of-some-length-";
/// Transaction id of every response.
pub const REJECTED_TRANSACTION_ID: &str = "c4fe0000-0000-4000-8000-00000000000d";

#[derive(Clone, Copy, PartialEq, Eq)]
enum LoginMode {
    Grant,
    Reject,
    Stall,
}

/// A running token endpoint.
pub struct TokenEndpoint {
    address: SocketAddr,
    mode: watch::Sender<LoginMode>,
    count: watch::Receiver<usize>,
}

impl TokenEndpoint {
    pub async fn granting() -> Self {
        Self::start(LoginMode::Grant).await
    }

    pub async fn rejecting() -> Self {
        Self::start(LoginMode::Reject).await
    }

    /// Sends no response before [`TokenEndpoint::grant`] or [`TokenEndpoint::reject`].
    pub async fn stalling() -> Self {
        Self::start(LoginMode::Stall).await
    }

    async fn start(mode: LoginMode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(mode);
        let (counter, count) = watch::channel(0);
        let (modes, counter, issued) = (
            mode.clone(),
            Arc::new(counter),
            Arc::new(AtomicUsize::new(0)),
        );
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (modes, counter, issued) =
                    (modes.subscribe(), Arc::clone(&counter), Arc::clone(&issued));
                tokio::spawn(serve(Wire::new(socket), modes, counter, issued));
            }
        });
        Self {
            address,
            mode,
            count,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/cctrustoauth2/acme/tokens/clients", self.address)
    }

    pub fn grant(&self) {
        self.mode.send_replace(LoginMode::Grant);
    }

    /// Holds later responses back until [`TokenEndpoint::grant`] or [`TokenEndpoint::reject`].
    pub fn stall(&self) {
        self.mode.send_replace(LoginMode::Stall);
    }

    pub fn reject(&self) {
        self.mode.send_replace(LoginMode::Reject);
    }

    /// Returns the number of login requests so far.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns once at least `count` login requests have arrived.
    pub async fn wait_for_logins(&self, count: usize) {
        within_timeout(self.count.clone().wait_for(|now| *now >= count))
            .await
            .unwrap();
    }
}

async fn serve(
    mut wire: Wire,
    mut modes: watch::Receiver<LoginMode>,
    counter: Arc<watch::Sender<usize>>,
    issued: Arc<AtomicUsize>,
) {
    while wire.next_request().await.is_some() {
        counter.send_modify(|count| *count += 1);
        let Ok(mode) = modes
            .wait_for(|mode| *mode != LoginMode::Stall)
            .await
            .map(|mode| *mode)
        else {
            return;
        };
        let (status, body) = match mode {
            LoginMode::Grant => {
                let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                let body = format!(
                    r#"{{"token_type":"bearer","access_token":"{TOKEN}{number}","expires_in":"3600"}}"#
                );
                ("200 OK", body)
            }
            _ => (
                "400 Bad Request",
                r#"{"error":"invalid_client"}"#.to_owned(),
            ),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nX-Cws-TransactionId: {REJECTED_TRANSACTION_ID}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.write(head + &body).await;
    }
}
