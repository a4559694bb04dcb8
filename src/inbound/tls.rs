//! TLS for callers: the gateway's certificate, which is reloaded when its files change, and client
//! certificates.

mod caller;
mod pair;
mod reload;

pub use caller::{CallerCertificate, CertificateError};
pub use reload::{CertificateReloader, InboundTls, check};
