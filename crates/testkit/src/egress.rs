//! A scripted egress proxy: every tunnel ends at an address that the test sets, whatever its
//! target.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

use crate::wire::Wire;

/// A CONNECT request that the proxy received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// `host:port`.
    pub target: String,
    pub proxy_authorization: Option<String>,
}

/// Reaction to CONNECT requests.
#[derive(Clone)]
enum EgressMode {
    /// Opens a tunnel to this address.
    Tunnel(SocketAddr),
    /// Sends these bytes and closes the connection.
    Respond(Vec<u8>),
    Silent,
}

pub struct EgressProxy {
    address: SocketAddr,
    mode: Arc<Mutex<EgressMode>>,
    requests: Arc<Mutex<Vec<ConnectRequest>>>,
}

impl EgressProxy {
    pub async fn tunnelling_to(address: SocketAddr) -> Self {
        Self::start(EgressMode::Tunnel(address)).await
    }

    /// Responds to every CONNECT request with these bytes.
    pub async fn responding(response: &str) -> Self {
        Self::start(EgressMode::Respond(response.into())).await
    }

    /// Never responds.
    pub async fn silent() -> Self {
        Self::start(EgressMode::Silent).await
    }

    async fn start(mode: EgressMode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, requests) = (Arc::new(Mutex::new(mode)), Arc::default());
        let proxy = Self {
            address,
            mode: Arc::clone(&mode),
            requests: Arc::clone(&requests),
        };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&mode), Arc::clone(&requests)));
            }
        });
        proxy
    }

    /// Opens later tunnels to `address`.
    pub fn tunnel_to(&self, address: SocketAddr) {
        *self.mode.lock().unwrap() = EgressMode::Tunnel(address);
    }

    /// Returns the end of its tunnels.
    pub fn destination(&self) -> Option<SocketAddr> {
        match *self.mode.lock().unwrap() {
            EgressMode::Tunnel(address) => Some(address),
            EgressMode::Respond(_) | EgressMode::Silent => None,
        }
    }

    /// Returns `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the proxy's URL; `userinfo` is empty or ends with `@`.
    pub fn url(&self, userinfo: &str) -> String {
        format!("http://{userinfo}{}", self.address)
    }

    /// Returns the requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<ConnectRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the number of requests for tunnels to `target` so far.
    pub fn tunnel_count(&self, target: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.target == target)
            .count()
    }
}

async fn serve(
    socket: TcpStream,
    mode: Arc<Mutex<EgressMode>>,
    requests: Arc<Mutex<Vec<ConnectRequest>>>,
) {
    let mut wire = Wire::new(socket);
    let Some(request) = wire.next_request().await else {
        return;
    };
    let line = request.line();
    let target = line
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let target = target
        .unwrap_or_else(|| panic!("no CONNECT: {line}"))
        .to_owned();
    assert_eq!(request.field("host").as_deref(), Some(target.as_str()));
    requests.lock().unwrap().push(ConnectRequest {
        target,
        proxy_authorization: request.field("proxy-authorization"),
    });
    let mode = mode.lock().unwrap().clone();
    match mode {
        EgressMode::Tunnel(address) => {
            wire.write("HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
                .await;
            let Ok(mut upstream) = TcpStream::connect(address).await else {
                return;
            };
            // Ends when either side closes.
            tokio::io::copy_bidirectional(&mut wire.into_io(), &mut upstream)
                .await
                .ok();
        }
        EgressMode::Respond(response) => wire.write(response).await,
        EgressMode::Silent => std::future::pending().await,
    }
}
