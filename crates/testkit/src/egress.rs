//! A proxy on the way out, which opens tunnels to where a test says, whatever host it is asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};

use crate::wire::Wire;

/// What every tunnel is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `host:port`.
    pub target: String,
    /// `Proxy-Authorization`.
    pub shown: Option<String>,
}

/// How requests for tunnels are answered.
#[derive(Clone)]
enum Mood {
    /// With a tunnel to this address.
    Lead(SocketAddr),
    /// With these bytes.
    Say(Vec<u8>),
    /// Not at all.
    Silent,
}

/// A running proxy.
pub struct EgressProxy {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl EgressProxy {
    /// Every tunnel leads to `address`.
    pub async fn to(address: SocketAddr) -> Self {
        Self::start(Mood::Lead(address)).await
    }

    /// Every tunnel is answered like this.
    pub async fn saying(response: &str) -> Self {
        Self::start(Mood::Say(response.into())).await
    }

    pub async fn silent() -> Self {
        Self::start(Mood::Silent).await
    }

    async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::default());
        let proxy = Self {
            address,
            mood: Arc::clone(&mood),
            asked: Arc::clone(&asked),
        };
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&mood), Arc::clone(&asked)));
            }
        });
        proxy
    }

    /// From now on tunnels lead there.
    pub fn lead_to(&self, address: SocketAddr) {
        *self.mood.lock().unwrap() = Mood::Lead(address);
    }

    /// `host:port`.
    pub fn place(&self) -> String {
        self.address.to_string()
    }

    /// Its URL, with what it is shown.
    pub fn url(&self, userinfo: &str) -> String {
        format!("http://{userinfo}{}", self.address)
    }

    /// What it was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many tunnels to `target` it was asked for so far.
    pub fn count(&self, target: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.target == target)
            .count()
    }
}

async fn serve(socket: TcpStream, mood: Arc<Mutex<Mood>>, asked: Arc<Mutex<Vec<Asked>>>) {
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
    asked.lock().unwrap().push(Asked {
        target,
        shown: request.field("proxy-authorization"),
    });
    let mood = mood.lock().unwrap().clone();
    match mood {
        Mood::Lead(address) => {
            wire.write("HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
                .await;
            let Ok(mut upstream) = TcpStream::connect(address).await else {
                return;
            };
            // Whoever closes first ends it.
            tokio::io::copy_bidirectional(&mut wire.into_io(), &mut upstream)
                .await
                .ok();
        }
        Mood::Say(response) => wire.write(response).await,
        Mood::Silent => std::future::pending().await,
    }
}
