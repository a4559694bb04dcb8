//! TLS for callers: sessions, the gateway's certificate, which is reloaded when its files change,
//! client certificates, and failed handshakes.

mod caller;
mod failure;
mod intercept;
mod pair;
mod reload;
mod stream;

pub use caller::{CallerCertificate, CertificateError};
pub use failure::{HandshakeFailure, HandshakeFailures};
pub use intercept::{InterceptTls, ServedHost, ServedHosts, read_authority};
pub use reload::{CertificateReloader, InboundTls, check};
pub use stream::TlsStream;
