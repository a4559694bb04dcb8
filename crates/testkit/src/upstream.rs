//! An upstream whose every byte a test decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use crate::wire::{Message, Wire, soon};

/// A small response.
pub const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A plain HTTP server on loopback.
pub struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Mutex<mpsc::UnboundedReceiver<Message>>,
    by_hand: Mutex<mpsc::UnboundedReceiver<Wire>>,
    /// Bound but deaf, so that nobody else gets the port.
    _deaf: Option<Socket>,
}

impl Upstream {
    /// Answers every request alike, byte for byte.
    pub async fn responding(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::scripted(move |_| response.clone()).await
    }

    /// Answers the n-th request, counted from 1, with the bytes that the script makes. No bytes: it closes.
    pub async fn scripted(script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::deciding(move |number, _| script(number)).await
    }

    /// Answers every request with what the script makes of its own URL.
    pub async fn reflecting(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::deciding(move |_, request| {
            script(&format!("http://{}", request.field("host").unwrap()))
        })
        .await
    }

    /// The same, with a look at the request.
    pub async fn deciding(
        script: impl Fn(usize, &Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (told, requests) = mpsc::unbounded_channel();
        let (script, count) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let upstream = Self::listening(requests, move |mut wire| {
            let (script, count, told) = (Arc::clone(&script), Arc::clone(&count), told.clone());
            tokio::spawn(async move {
                while let Some(request) = wire.next_request().await {
                    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                    let response = script(number, &request);
                    told.send(request).ok();
                    if response.is_empty() {
                        return;
                    }
                    wire.write(response).await;
                }
            });
        });
        upstream.await
    }

    /// Hands each connection to the test.
    pub async fn by_hand() -> Self {
        let (told, by_hand) = mpsc::unbounded_channel();
        let mut upstream = Self::listening(mpsc::unbounded_channel().1, move |wire| {
            told.send(wire).ok();
        })
        .await;
        upstream.by_hand = Mutex::new(by_hand);
        upstream
    }

    async fn listening(
        requests: mpsc::UnboundedReceiver<Message>,
        serve: impl Fn(Wire) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                serve(Wire::new(socket));
            }
        });
        let by_hand = Mutex::new(mpsc::unbounded_channel().1);
        Self {
            address,
            connections,
            requests: Mutex::new(requests),
            by_hand,
            _deaf: None,
        }
    }

    /// An address at which connections are refused.
    pub fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            connections: Arc::default(),
            requests: Mutex::new(mpsc::unbounded_channel().1),
            by_hand: Mutex::new(mpsc::unbounded_channel().1),
            _deaf: Some(socket),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What stands in `Host`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The next request that was answered.
    pub async fn request(&self) -> Message {
        soon(self.requests.lock().await.recv())
            .await
            .expect("an upstream that answers by itself")
    }

    /// The requests that came so far and were not looked at.
    pub async fn requests_so_far(&self) -> Vec<Message> {
        let mut requests = self.requests.lock().await;
        std::iter::from_fn(|| requests.try_recv().ok()).collect()
    }

    /// Asserts that no request came but those that were looked at.
    pub async fn got_nothing(&self) {
        let got = self.requests.lock().await.try_recv();
        assert!(got.is_err(), "{got:?}");
    }

    /// The next connection, for the test to serve.
    pub async fn connection(&self) -> Wire {
        soon(self.by_hand.lock().await.recv())
            .await
            .expect("an upstream served by hand")
    }
}
