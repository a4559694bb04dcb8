//! HTTP and Citrix Cloud rules without I/O.
//!
//! All functions are pure: no sockets, no runtime, no clock. The modules at the root implement
//! rules of HTTP, [`citrix`] those of Citrix Cloud; [`policy`] evaluates a caller's rules.

pub mod basic_auth;
pub mod cache_control;
pub mod citrix;
pub mod coding;
pub mod connect_target;
pub mod field_list;
pub mod form;
pub mod forwarded;
pub mod frame_guard;
pub mod framing_guard;
pub mod head_limit;
mod header_block;
pub mod hex;
pub mod hop_by_hop;
pub mod host;
pub mod http1;
pub mod json;
pub mod known_fields;
pub mod link_rewrite;
pub mod lookalikes;
pub mod max_forwards;
pub mod path;
pub mod path_readings;
pub mod percent;
pub mod policy;
pub mod prefix_tree;
pub mod response_framing;
pub mod retry_after;
pub mod trace_context;
pub mod transaction_id;
