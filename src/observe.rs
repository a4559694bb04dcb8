//! Metrics, recent exchanges, spans and logs.

pub mod audit;
pub mod metrics;
pub mod recent;
pub mod spans;
pub mod summary;
pub mod telemetry;
