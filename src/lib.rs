//! An authenticating reverse proxy for the Citrix Cloud REST APIs.
//!
//! A request takes seven steps, each a file in `proxy/`, in alphabetical order:
//!
//! ```text
//! accept      a connection comes in, TLS or not, HTTP/1 or HTTP/2            inbound/
//! admit       whose request is it, may it come in, for which customer?         callers
//! pick_route  which upstream does its path lead to?                          snapshot
//! prepare     what leaves: our headers in, the caller's connection's out     wire/, citrix/
//! queue       a turn where Citrix lets few in, a place among those in flight    limit/
//! send        the token goes in, the request out, on a pooled connection     token/slot, upstream/
//! translate   the answer as the caller may see it                            exchange
//! ```
//!
//! Off the path, one task a credential keeps the token fresh ([`token`]), the admin listener answers probes and
//! scrapes ([`admin`]), and [`app`] puts it all together. ARCHITECTURE.md tells the rest.

pub mod admin;
pub mod app;
pub mod callers;
pub mod cli;
pub mod config;
pub mod error;
pub mod exchange;
pub mod inbound;
pub mod limit;
pub mod login;
pub mod observe;
pub mod proxy;
pub mod site;
pub mod state;
pub mod system;
pub mod tls;
pub mod token;
pub mod upstream;
