//! A tunnel through the egress proxy (RFC 9110 section 9.3.6).
//!
//! hyper writes and reads the one exchange. hyper-util's `Tunnel` does the same, but does not tell the status.

use bytes::Bytes;
use citrix_wire::host;
use futures_util::future::try_join;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{DialTarget, EgressProxyFault};
use crate::config::ConnectProxy;

/// How the program names itself.
pub const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("citrix-auth-proxy/", env!("CARGO_PKG_VERSION")));

/// The longest head of an answer, in bytes. Those of proxies are a few hundred.
const MAX_HEAD: usize = 16 * 1024;

/// Asks for a connection to `peer` on one to `proxy`; the connection, on which `peer` is to be talked to now.
///
/// # Errors
/// When the proxy does not make one.
pub async fn open<S>(
    socket: S,
    proxy: &ConnectProxy,
    peer: DialTarget<'_>,
) -> Result<S, EgressProxyFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(proxy, peer);
    let (mut sender, connection) = Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(EgressProxyFault::Broken)?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(EgressProxyFault::Broken)?;
        let status = response.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(EgressProxyFault::Refused(status))
        }
    };
    // It ends when the answer says that the bytes behind it are not HTTP.
    let handed_over = async {
        connection
            .without_shutdown()
            .await
            .map_err(EgressProxyFault::Broken)
    };
    let ((), parts) = try_join(answer, handed_over).await?;
    // Citrix's TLS speaks after us: it was somebody else.
    if !parts.read_buf.is_empty() {
        return Err(EgressProxyFault::Talkative);
    }
    Ok(parts.io.into_inner())
}

fn request(proxy: &ConnectProxy, peer: DialTarget<'_>) -> Request<Empty<Bytes>> {
    let authority = format!("{}:{}", host::add_brackets(peer.host), peer.port);
    let mut request = Request::new(Empty::new());
    *request.method_mut() = http::Method::CONNECT;
    let headers = request.headers_mut();
    // Both were part of a URL, so neither fails.
    if let Ok(host) = HeaderValue::from_str(&authority) {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, PRODUCT);
    if let Some(shown) = proxy.authorization() {
        headers.insert(PROXY_AUTHORIZATION, shown.clone());
    }
    if let Ok(target) = authority.parse() {
        *request.uri_mut() = target;
    }
    request
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::config::Egress;

    const PEER: DialTarget<'static> = DialTarget {
        host: "api.cloud.com",
        port: 443,
        server_name: None,
    };

    fn proxy() -> ConnectProxy {
        Egress::through("http://user:p%40ss@proxy:3128", None, "")
            .unwrap()
            .proxy()
            .unwrap()
    }

    /// A proxy that answers like this and then says nothing more; what it was asked.
    async fn answering(
        answer: &[u8],
        peer: DialTarget<'_>,
    ) -> (Result<DuplexStream, EgressProxyFault>, String, DuplexStream) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let serve = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(theirs.read_u8().await.unwrap());
            }
            theirs.write_all(answer).await.unwrap();
            if answer.is_empty() {
                theirs.shutdown().await.unwrap();
            }
            String::from_utf8(asked).unwrap()
        };
        let proxy = proxy();
        let (opened, asked) = tokio::join!(open(ours, &proxy, peer), serve);
        (opened, asked, theirs)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_by_name_with_the_proxys_password() {
        let (opened, asked, mut theirs) =
            answering(b"HTTP/1.1 200 Connection established\r\n\r\n", PEER).await;
        let lines: Vec<&str> = asked.trim_end().split("\r\n").collect();
        assert_eq!(lines[0], "CONNECT api.cloud.com:443 HTTP/1.1");
        assert!(lines.contains(&"host: api.cloud.com:443"), "{asked}");
        assert!(
            lines.contains(&"proxy-authorization: Basic dXNlcjpwQHNz"),
            "{asked}"
        );
        let mut ours = opened.unwrap();
        theirs.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        ours.read_exact(&mut read).await.unwrap();
        ours.write_all(&read).await.unwrap();
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }

    #[tokio::test]
    async fn addresses_of_ipv6_are_in_brackets() {
        let peer = DialTarget {
            host: "2001:db8::1",
            ..PEER
        };
        let (opened, asked, _theirs) =
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", peer).await;
        assert!(
            asked.starts_with("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"),
            "{asked}"
        );
        // A length means nothing behind CONNECT.
        opened.unwrap();
    }

    #[tokio::test]
    async fn what_the_proxy_says_is_told() {
        for (answer, told) in [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nhello",
                "answered 407 to CONNECT",
            ),
            (
                "HTTP/1.0 403 Forbidden\r\n\r\n<html>",
                "answered 403 to CONNECT",
            ),
            (
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 999\r\n\r\n",
                "answered 502 to CONNECT",
            ),
            (
                "HTTP/1.1 301 Moved\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n",
                "answered 301 to CONNECT",
            ),
            ("", "did not answer CONNECT as a proxy does"),
            (
                "SSH-2.0-OpenSSH_9.6\r\n\r\n",
                "did not answer CONNECT as a proxy does",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nhello",
                "sent something behind its answer to CONNECT",
            ),
        ] {
            let (opened, ..) = answering(answer.as_bytes(), PEER).await;
            assert_eq!(
                opened.err().map(|fault| fault.to_string()).as_deref(),
                Some(told),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_read_to_it() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(40 * 1024));
        let (opened, ..) = answering(endless.as_bytes(), PEER).await;
        assert!(matches!(opened, Err(EgressProxyFault::Broken(_))));
    }
}
