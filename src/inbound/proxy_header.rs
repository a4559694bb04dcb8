//! PROXY protocol version 2: a load balancer sends the client's address before everything else on
//! the connection.
//!
//! Version 1 is not supported: it is text without a length, and easily mistaken for a request.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::listener::canonical;

/// The first bytes of a header (section 2.2 of the specification).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of signature, version and command, family, and length field.
const FIXED_BYTES: usize = 16;
/// Maximum length of a header. Addresses take 36 bytes, or 216 for unix sockets; the rest is TLVs,
/// which are ignored.
const MAX_BYTES: usize = 4096;
/// Version 2 and LOCAL: a connection of the load balancer itself, such as a health check.
const LOCAL: u8 = 0x20;
/// The first bytes of version 1.
const VERSION_1: &[u8] = b"PROXY ";

/// A missing or invalid header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Reading failed.
    #[error("failed to read the PROXY header: {0}")]
    Io(#[from] io::Error),
    /// Closed before the first byte, as by a TCP health check.
    #[error("closed before a PROXY header")]
    Nothing,
    /// Other bytes, most likely a request or a TLS handshake.
    #[error("no PROXY header from a peer in listen.proxy_protocol; enable it on the load balancer")]
    Missing,
    /// The text form.
    #[error("PROXY header of version 1; only version 2 is supported")]
    Version1,
    /// Longer than the maximum.
    #[error("PROXY header of {0} bytes; the maximum is {MAX_BYTES}")]
    TooLong(usize),
    /// Not conforming to the specification.
    #[error("malformed PROXY header")]
    Malformed,
    /// No TCP address: a unix socket, another protocol, or unspecified.
    #[error("PROXY header without a TCP address")]
    NoAddress,
}

/// Reads exactly the header. Returns `None` for a connection of the load balancer itself.
///
/// # Errors
/// When there is no valid header with a TCP address. The bytes read are lost then.
pub async fn read(
    io: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut header = [0; MAX_BYTES];
    read_fixed(io, &mut header[..FIXED_BYTES]).await?;
    let length = FIXED_BYTES
        + usize::from(u16::from_be_bytes([
            header[FIXED_BYTES - 2],
            header[FIXED_BYTES - 1],
        ]));
    let header = header
        .get_mut(..length)
        .ok_or(ProxyHeaderError::TooLong(length))?;
    io.read_exact(&mut header[FIXED_BYTES..]).await?;
    parse(header)
}

/// Reads the fixed part. Fails at the first byte that differs, rather than after a timeout.
async fn read_fixed(
    io: &mut (impl AsyncRead + Unpin),
    fixed: &mut [u8],
) -> Result<(), ProxyHeaderError> {
    let mut length = 0;
    while length < fixed.len() {
        let read = io.read(&mut fixed[length..]).await?;
        if read == 0 {
            let nothing = length == 0;
            return Err(if nothing {
                ProxyHeaderError::Nothing
            } else {
                ProxyHeaderError::Malformed
            });
        }
        length += read;
        let signature = length.min(SIGNATURE.len());
        if fixed[..signature] != SIGNATURE[..signature] {
            let text = length.min(VERSION_1.len());
            let version_1 = fixed[..text] == VERSION_1[..text];
            return Err(if version_1 {
                ProxyHeaderError::Version1
            } else {
                ProxyHeaderError::Missing
            });
        }
    }
    Ok(())
}

fn parse(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let form = ParseConfig {
        include_tlvs: false,
        allow_v1: false,
        allow_v2: true,
    };
    let (parsed, _) = ProxyHeader::parse(header, form).map_err(|_| ProxyHeaderError::Malformed)?;
    match parsed.proxied_address() {
        Some(client) if client.protocol == Protocol::Stream => Ok(Some(canonical(client.source))),
        // Without an address the balancer's own would stand for the caller's, and with it whatever
        // is allowed there.
        None if header[SIGNATURE.len()] == LOCAL => Ok(None),
        _ => Err(ProxyHeaderError::NoAddress),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a header of this command, family and protocol, with what follows.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const IPV4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 1, 0xbb];

    fn ipv6(source: &str) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0x30, 0x39, 1, 0xbb]].concat()
    }

    /// Returns the result, and the bytes that follow the header.
    async fn parsed(bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, Vec<u8>) {
        let mut io = bytes;
        let parsed = read(&mut io).await.map_err(|error| error.to_string());
        (parsed, io.to_vec())
    }

    #[tokio::test]
    async fn header_yields_the_address_and_no_byte_more_is_read() {
        let noop = [IPV4, &[4, 0, 3, 1, 2, 3]].concat();
        for (header, caller) in [
            (header(0x21, 0x11, IPV4), Some("203.0.113.9:12345")),
            (header(0x21, 0x11, &noop), Some("203.0.113.9:12345")),
            (
                header(0x21, 0x21, &ipv6("2001:db8::9")),
                Some("[2001:db8::9]:12345"),
            ),
            (
                header(0x21, 0x21, &ipv6("::ffff:127.0.0.1")),
                Some("127.0.0.1:12345"),
            ),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, IPV4), None),
            (header(0x20, 0x31, &[0; 216]), None),
        ] {
            let (found, rest) = parsed(&[&header[..], b"GET"].concat()).await;
            assert_eq!(
                found,
                Ok(caller.map(|caller| caller.parse().unwrap())),
                "{header:?}"
            );
            assert_eq!(rest, b"GET");
        }
    }

    #[tokio::test]
    async fn invalid_headers_are_distinguished() {
        let long = header(
            0x21,
            0x11,
            &[IPV4, &[4, 0x10, 0][..], &[0; 0x1000]].concat(),
        );
        for (bytes, why) in [
            (vec![], "closed before"),
            (b"\r\n\r\n\0\r\nQUIT".to_vec(), "malformed"),
            (b"GET / HTTP/1.1\r\n".to_vec(), "no PROXY header"),
            (b"\r\nGET / HTTP/1.1\r\n".to_vec(), "no PROXY header"),
            (b"\x16\x03\x01\x02\x00".to_vec(), "no PROXY header"),
            (
                b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n".to_vec(),
                "version 1",
            ),
            (header(0x11, 0x11, IPV4), "malformed"),
            (header(0x22, 0x11, IPV4), "malformed"),
            (header(0x21, 0x41, IPV4), "malformed"),
            (header(0x21, 0x11, &IPV4[..11]), "malformed"),
            (header(0x21, 0x21, IPV4), "malformed"),
            (header(0x21, 0x00, &[]), "without a TCP address"),
            (header(0x21, 0x12, IPV4), "without a TCP address"),
            (header(0x21, 0x31, &[0; 216]), "without a TCP address"),
            (long, "maximum is 4096"),
            (header(0x21, 0x11, IPV4)[..20].to_vec(), "failed to read"),
        ] {
            let (found, _) = parsed(&bytes).await;
            assert!(
                found.as_ref().is_err_and(|error| error.contains(why)),
                "{why}: {found:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), command: u8, family: u8) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let _ = parsed(&tail).await;
                let _ = parsed(&header(command, family, &tail)).await;
            });
        }
    }
}
