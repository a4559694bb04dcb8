//! What the program asks Citrix about a customer's site on its own account: which one it is, for
//! `Citrix-InstanceId`, and to wake it up when it is frozen.
//!
//! One [`agent`] per customer asks, on the control side. The data path reads and waits at its [`slot`].

pub mod agent;
pub mod api;
pub mod regions;
pub mod response;
pub mod slot;
