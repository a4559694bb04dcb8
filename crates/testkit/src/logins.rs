//! A token endpoint in a few lines: it counts, and gives or refuses as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::wire::{Wire, soon};

/// What every token begins with; its number follows.
pub const TOKEN: &str = "c4nary-token-of-some-length-";
/// The id that a refused login answers with.
pub const REFUSED_ID: &str = "c4fe0000-0000-4000-8000-00000000000d";

/// How logins are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Give,
    Refuse,
    /// Not yet.
    Wait,
}

/// A running token endpoint.
pub struct Logins {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    count: watch::Receiver<usize>,
}

impl Logins {
    pub async fn given() -> Self {
        Self::start(Mood::Give).await
    }

    pub async fn refused() -> Self {
        Self::start(Mood::Refuse).await
    }

    /// Not answered until [`Logins::give`] or [`Logins::refuse`].
    pub async fn held_back() -> Self {
        Self::start(Mood::Wait).await
    }

    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = watch::Sender::new(mood);
        let (counter, count) = watch::channel(0);
        let (moods, counter, issued) = (
            mood.clone(),
            Arc::new(counter),
            Arc::new(AtomicUsize::new(0)),
        );
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (moods, counter, issued) =
                    (moods.subscribe(), Arc::clone(&counter), Arc::clone(&issued));
                tokio::spawn(serve(Wire::new(socket), moods, counter, issued));
            }
        });
        Self {
            address,
            mood,
            count,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/cctrustoauth2/acme/tokens/clients", self.address)
    }

    pub fn give(&self) {
        self.mood.send_replace(Mood::Give);
    }

    /// Not answered any more until [`Logins::give`] or [`Logins::refuse`].
    pub fn hold_back(&self) {
        self.mood.send_replace(Mood::Wait);
    }

    pub fn refuse(&self) {
        self.mood.send_replace(Mood::Refuse);
    }

    /// How many logins came so far.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns once that many logins came.
    pub async fn reach(&self, count: usize) {
        soon(self.count.clone().wait_for(|now| *now >= count))
            .await
            .unwrap();
    }
}

async fn serve(
    mut wire: Wire,
    mut moods: watch::Receiver<Mood>,
    counter: Arc<watch::Sender<usize>>,
    issued: Arc<AtomicUsize>,
) {
    while wire.next_request().await.is_some() {
        counter.send_modify(|count| *count += 1);
        let Ok(mood) = moods
            .wait_for(|mood| *mood != Mood::Wait)
            .await
            .map(|mood| *mood)
        else {
            return;
        };
        let (status, body) = match mood {
            Mood::Give => {
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
            "HTTP/1.1 {status}\r\nX-Cws-TransactionId: {REFUSED_ID}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.write(head + &body).await;
    }
}
