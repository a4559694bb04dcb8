//! A scripted upstream: the test determines every byte of its responses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use crate::ports::reserve;
use crate::wire::{Message, Wire, within_timeout};

/// A small response.
pub const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A plain HTTP server on loopback.
pub struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Mutex<mpsc::UnboundedReceiver<Message>>,
    wires: Mutex<mpsc::UnboundedReceiver<Wire>>,
}

impl Upstream {
    /// Responds to every request with the same bytes.
    pub async fn responding(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::scripted(move |_| response.clone()).await
    }

    /// Responds to request `n`, counted from 1, with the bytes of `script(n)`; closes the
    /// connection if there are none.
    pub async fn scripted(script: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::scripted_by_request(move |number, _| script(number)).await
    }

    /// Responds with the bytes of `script`, which receives the upstream's own URL.
    pub async fn reflecting(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::scripted_by_request(move |_, request| {
            script(&format!("http://{}", request.field("host").unwrap()))
        })
        .await
    }

    /// Like [`Upstream::scripted`], but `script` also receives the request.
    pub async fn scripted_by_request(
        script: impl Fn(usize, &Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let (script, count) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        let upstream = Self::listening(requests, move |mut wire| {
            let (script, count, sender) = (Arc::clone(&script), Arc::clone(&count), sender.clone());
            tokio::spawn(async move {
                while let Some(request) = wire.next_request().await {
                    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                    let response = script(number, &request);
                    sender.send(request).ok();
                    if response.is_empty() {
                        return;
                    }
                    wire.write(response).await;
                }
            });
        });
        upstream.await
    }

    /// Leaves each connection to the test; see [`Upstream::connection`].
    pub async fn manual() -> Self {
        let (sender, wires) = mpsc::unbounded_channel();
        let mut upstream = Self::listening(mpsc::unbounded_channel().1, move |wire| {
            sender.send(wire).ok();
        })
        .await;
        upstream.wires = Mutex::new(wires);
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
        let wires = Mutex::new(mpsc::unbounded_channel().1);
        Self {
            address,
            connections,
            requests: Mutex::new(requests),
            wires,
        }
    }

    /// Reserves an address at which connections are refused.
    pub fn refusing() -> Self {
        let [port] = reserve();
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            connections: Arc::default(),
            requests: Mutex::new(mpsc::unbounded_channel().1),
            wires: Mutex::new(mpsc::unbounded_channel().1),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns `host:port`, the value of the `Host` field in requests to it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Returns the next request that a script responded to.
    pub async fn request(&self) -> Message {
        within_timeout(self.requests.lock().await.recv())
            .await
            .expect("a scripted upstream")
    }

    /// Returns the requests so far that [`Upstream::request`] has not returned.
    pub async fn take_requests(&self) -> Vec<Message> {
        let mut requests = self.requests.lock().await;
        std::iter::from_fn(|| requests.try_recv().ok()).collect()
    }

    /// Asserts that no request arrived other than those already returned.
    pub async fn assert_no_more_requests(&self) {
        let request = self.requests.lock().await.try_recv();
        assert!(request.is_err(), "{request:?}");
    }

    /// Returns the next connection of a manual upstream.
    pub async fn connection(&self) -> Wire {
        within_timeout(self.wires.lock().await.recv())
            .await
            .expect("a manual upstream")
    }
}
