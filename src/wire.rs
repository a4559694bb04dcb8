//! Pure rules of HTTP that the steps of the path share. No I/O here.

pub mod coding;
pub mod form;
pub mod forwarded;
pub mod head_watch;
pub mod hop_by_hop;
pub mod host;
pub mod link_rewrite;
pub mod path;
pub mod prefix_tree;
pub mod retry_after;
pub mod trace_context;
pub mod transaction_id;
pub mod twins;
