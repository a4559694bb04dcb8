//! PROXY protocol version 2: a load balancer tells whom it connects, ahead of everything else on the connection.
//!
//! Version 1 is text without a length and easily mistaken for a request, so it is not read.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::listener::canonical;

/// What a header begins with (section 2.2 of the specification).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;
/// What a header may hold in all. Addresses take 36 bytes, or 216 for unix sockets; the rest is notes (TLVs), of which
/// none is used here.
const LONGEST: usize = 4096;
/// Version 2, and the connection is the sender's own: a health check.
const LOCAL: u8 = 0x20;
/// What version 1 begins with.
const VERSION_1: &[u8] = b"PROXY ";

/// Why no caller's address is known.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Reading failed.
    #[error("reading the PROXY header failed: {0}")]
    Io(#[from] io::Error),
    /// The connection was closed before a byte came, as a health check of the port alone does.
    #[error("closed before a PROXY header came")]
    Nothing,
    /// Something else began, most likely a request or a handshake.
    #[error(
        "no PROXY header, which a peer in listen.proxy_protocol must send; is it switched on there?"
    )]
    Missing,
    /// The text form.
    #[error("a PROXY header of version 1; listen.proxy_protocol takes version 2 only")]
    Version1,
    /// More than fits.
    #[error("a PROXY header of {0} bytes; at most {LONGEST} are read")]
    TooLong(usize),
    /// Not as the specification says.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// A caller without an address of TCP: on a unix socket, of another protocol, or not known.
    #[error("the PROXY header tells no address of TCP")]
    NoAddress,
}

/// Reads the header that `io` begins with, and not a byte beyond. `None` when the sender speaks for itself.
///
/// # Errors
/// When there is no header, or none that tells an address. What was read is lost then.
pub async fn read(
    io: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut header = [0; LONGEST];
    read_fixed(io, &mut header[..FIXED]).await?;
    let length = FIXED + usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
    let header = header
        .get_mut(..length)
        .ok_or(ProxyHeaderError::TooLong(length))?;
    io.read_exact(&mut header[FIXED..]).await?;
    parse(header)
}

/// The part that every header has; what cannot become one is told at once, not after a timeout.
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
        Some(told) if told.protocol == Protocol::Stream => Ok(Some(canonical(told.source))),
        // Without an address the balancer's own would stand for the caller's, and with it whatever is allowed there.
        None if header[SIGNATURE.len()] == LOCAL => Ok(None),
        _ => Err(ProxyHeaderError::NoAddress),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of this command, family and protocol, with what follows.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const IPV4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 1, 0xbb];

    fn ipv6(source: &str) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        [&source.octets()[..], &[0; 16], &[0x30, 0x39, 1, 0xbb]].concat()
    }

    /// What is told, and what is left for those who read on.
    async fn told(bytes: &[u8]) -> (Result<Option<SocketAddr>, String>, Vec<u8>) {
        let mut io = bytes;
        let told = read(&mut io).await.map_err(|error| error.to_string());
        (told, io.to_vec())
    }

    #[tokio::test]
    async fn a_header_tells_the_caller_and_what_follows_is_left() {
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
            let (found, rest) = told(&[&header[..], b"GET"].concat()).await;
            assert_eq!(
                found,
                Ok(caller.map(|caller| caller.parse().unwrap())),
                "{header:?}"
            );
            assert_eq!(rest, b"GET");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_of_a_tcp_connection_is_told_apart() {
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
            (header(0x21, 0x00, &[]), "tells no address"),
            (header(0x21, 0x12, IPV4), "tells no address"),
            (header(0x21, 0x31, &[0; 216]), "tells no address"),
            (long, "at most 4096"),
            (header(0x21, 0x11, IPV4)[..20].to_vec(), "reading"),
        ] {
            let (found, _) = told(&bytes).await;
            assert!(
                found.as_ref().is_err_and(|error| error.contains(why)),
                "{why}: {found:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..300), command: u8, family: u8) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let _ = told(&tail).await;
                let _ = told(&header(command, family, &tail)).await;
            });
        }
    }
}
