//! TLS towards callers: certificates of the gateway, reloaded when their files change, and certificates of callers.

mod caller;
mod reload;

pub use caller::{CallerCertificate, CertificateError};
pub use reload::{CertificateReloader, InboundTls, server_config};
