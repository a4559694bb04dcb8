//! Tunnels through the egress proxy (RFC 9110 section 9.3.6).
//!
//! hyper performs the CONNECT exchange. hyper-util's `Tunnel` is not used, because it does not
//! return the status.

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
use crate::upstream::bounded::Bounded;

/// The `User-Agent` of the gateway's own requests.
pub const PRODUCT: HeaderValue =
    HeaderValue::from_static(concat!("citrix-auth-proxy/", env!("CARGO_PKG_VERSION")));

/// Maximum size of a response head in bytes. Usual ones have a few hundred.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Maximum number of bytes that are read for it, interim responses included.
const MAX_RECEIVED_BYTES: usize = 4 * MAX_HEAD_BYTES;

/// Requests a tunnel to `target` on a connection to `proxy`, and returns that connection.
///
/// # Errors
/// When the proxy does not open the tunnel.
pub async fn open<S>(
    socket: S,
    proxy: &ConnectProxy,
    target: DialTarget<'_>,
) -> Result<S, EgressProxyFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(proxy, target);
    let (mut sender, connection) = Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(Bounded::new(socket, MAX_RECEIVED_BYTES)))
        .await
        .map_err(EgressProxyFault::Broken)?;
    let status = async {
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
    // Ends after a response that switches the connection to a tunnel.
    let tunnel = async {
        connection
            .without_shutdown()
            .await
            .map_err(EgressProxyFault::Broken)
    };
    let ((), parts) = try_join(status, tunnel).await?;
    // A TLS server does not send first, so these bytes are the proxy's.
    if !parts.read_buf.is_empty() {
        return Err(EgressProxyFault::UnexpectedData);
    }
    Ok(parts.io.into_inner().into_inner())
}

fn request(proxy: &ConnectProxy, target: DialTarget<'_>) -> Request<Empty<Bytes>> {
    let authority = format!("{}:{}", host::add_brackets(target.host), target.port);
    let mut request = Request::new(Empty::new());
    *request.method_mut() = http::Method::CONNECT;
    let headers = request.headers_mut();
    // Host and port come from a URL, so neither conversion fails.
    if let Ok(host) = HeaderValue::from_str(&authority) {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, PRODUCT);
    if let Some(authorization) = proxy.authorization() {
        headers.insert(PROXY_AUTHORIZATION, authorization.clone());
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

    const TARGET: DialTarget<'static> = DialTarget {
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

    /// Opens a tunnel through a proxy that sends `response`. Returns the result, the request and
    /// the proxy's side.
    async fn open_with(
        response: &[u8],
        target: DialTarget<'_>,
    ) -> (Result<DuplexStream, EgressProxyFault>, String, DuplexStream) {
        let (client, mut server) = duplex(256 * 1024);
        let serve = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(server.read_u8().await.unwrap());
            }
            server.write_all(response).await.unwrap();
            if response.is_empty() {
                server.shutdown().await.unwrap();
            }
            String::from_utf8(request).unwrap()
        };
        let proxy = proxy();
        let (opened, request) = tokio::join!(open(client, &proxy, target), serve);
        (opened, request, server)
    }

    #[tokio::test]
    async fn connect_request_has_host_name_and_authorization() {
        let (opened, request, mut server) =
            open_with(b"HTTP/1.1 200 Connection established\r\n\r\n", TARGET).await;
        let lines: Vec<&str> = request.trim_end().split("\r\n").collect();
        assert_eq!(lines[0], "CONNECT api.cloud.com:443 HTTP/1.1");
        assert!(lines.contains(&"host: api.cloud.com:443"), "{request}");
        assert!(
            lines.contains(&"proxy-authorization: Basic dXNlcjpwQHNz"),
            "{request}"
        );
        let mut client = opened.unwrap();
        server.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        client.read_exact(&mut read).await.unwrap();
        client.write_all(&read).await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }

    #[tokio::test]
    async fn ipv6_target_is_in_brackets() {
        let target = DialTarget {
            host: "2001:db8::1",
            ..TARGET
        };
        let (opened, request, _theirs) = open_with(b"HTTP/1.1 200 OK\r\n\r\n", target).await;
        assert!(
            request.starts_with("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"),
            "{request}"
        );
        opened.unwrap();
    }

    #[tokio::test]
    async fn rfc9110_9_3_6_framing_fields_of_a_2xx_response_to_connect_are_ignored() {
        const LENGTH: &str = "Content-Length: 5\r\n";
        const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
        for fields in [&[LENGTH][..], &[CHUNKED], &[LENGTH, CHUNKED]] {
            let response = format!("HTTP/1.1 200 OK\r\n{}\r\n", fields.concat());
            let (opened, _, mut server) = open_with(response.as_bytes(), TARGET).await;
            let mut client = opened.unwrap_or_else(|error| panic!("{fields:?}: {error}"));
            // Neither of that length nor chunked.
            let mut read = [0; 10];
            server.write_all(b"data\r\ndata").await.unwrap();
            client.read_exact(&mut read).await.unwrap();
            client.write_all(&read).await.unwrap();
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"data\r\ndata");
        }
    }

    #[tokio::test]
    async fn response_determines_the_fault() {
        for (response, fault) in [
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nhello",
                "CONNECT rejected with 407",
            ),
            (
                "HTTP/1.0 403 Forbidden\r\n\r\n<html>",
                "CONNECT rejected with 403",
            ),
            (
                "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 999\r\n\r\n",
                "CONNECT rejected with 502",
            ),
            (
                "HTTP/1.1 301 Moved\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n",
                "CONNECT rejected with 301",
            ),
            ("", "invalid response to CONNECT"),
            ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "invalid response to CONNECT"),
            (
                "HTTP/1.1 200 OK\r\n\r\nhello",
                "unexpected data after the response to CONNECT",
            ),
        ] {
            let (opened, ..) = open_with(response.as_bytes(), TARGET).await;
            assert_eq!(
                opened.err().map(|error| error.to_string()).as_deref(),
                Some(fault),
                "{response}"
            );
        }
    }

    #[tokio::test]
    async fn endless_response_head_is_rejected() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(40 * 1024));
        let (opened, ..) = open_with(endless.as_bytes(), TARGET).await;
        assert!(matches!(opened, Err(EgressProxyFault::Broken(_))));
    }

    #[tokio::test]
    async fn endless_interim_responses_are_rejected() {
        let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(2 * MAX_RECEIVED_BYTES / 25);
        let (opened, ..) = open_with(endless.as_bytes(), TARGET).await;
        assert!(matches!(opened, Err(EgressProxyFault::Broken(_))));
    }
}
