//! Connections of callers: listeners, TLS, HTTP versions, timeouts and request bodies.

pub mod body;
pub mod connection;
pub mod connection_count;
pub mod descriptor_budget;
pub mod http1;
pub mod http2;
pub mod intercept_metrics;
pub mod intercepted;
pub mod listener;
pub mod passed_sockets;
pub mod proxy_header;
pub mod replay_buffer;
pub mod shortage;
pub mod stream;
mod stream_body;
pub mod strict;
pub mod tls;
pub mod transfer_rate;
