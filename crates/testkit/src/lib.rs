//! Building blocks for tests: scripted upstreams, raw clients, certificates and reference models.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers panic to fail a test; skipped tests say so"
)]

pub mod egress;
pub mod firewall;
pub mod http2;
pub mod path_table;
pub mod pki;
pub mod ports;
pub mod servers;
pub mod socket_end;
pub mod store;
pub mod strict_http1;
pub mod strict_http2;
pub mod token_endpoint;
pub mod upstream;
pub mod wire;
