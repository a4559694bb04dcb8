//! An authenticating reverse proxy for the Citrix Cloud REST APIs.
//!
//! A request takes seven steps, each a file in `proxy/`, in alphabetical order:
//!
//! ```text
//! accept      accepts a connection and detects its protocol        inbound
//! admit       authenticates the caller, evaluates its rules        callers
//! pick_route  finds the upstream for the path                      state
//! prepare     builds the upstream request                          citrix_wire
//! queue       waits for a token, a site id and permits             limit, token, site
//! send        adds the token and sends on a pooled connection      upstream
//! translate   rewrites the response for the caller                 exchange
//! ```
//!
//! Off the path, one task per credential keeps the token fresh ([`token`]), the admin listener
//! serves probes and scrapes ([`admin`]), and [`app`] starts and stops everything. ARCHITECTURE.md
//! has the rest.

pub mod admin;
pub mod app;
pub mod callers;
pub mod cli;
pub mod config;
pub mod error;
pub mod exchange;
pub mod fleet;
pub mod inbound;
pub mod intercept;
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
