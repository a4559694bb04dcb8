//! A customer's site: its id for `Citrix-InstanceId`, its activation after Citrix froze it, and
//! redirects to other regions.
//!
//! One [`agent`] per customer sends requests of its own on the control runtime. The data path reads
//! the [`slot`] and waits there.

pub mod agent;
pub mod api;
pub mod regions;
pub mod response;
pub mod shared_regions;
pub mod slot;
