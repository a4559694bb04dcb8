//! Networks in CIDR notation.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Report;
use crate::config::Networks;
use crate::config::value::{Checked, Leaf, shown};

const EXAMPLE: &str = "[\"10.0.0.0/8\", \"2001:db8::/32\"]";

/// Returns the valid networks of a list.
pub(super) fn networks(leaf: &Leaf, report: &mut Report<'_>) -> Networks {
    let texts = report.read(leaf, EXAMPLE, Leaf::texts).unwrap_or_default();
    let mut networks = Vec::with_capacity(texts.len());
    for text in texts {
        match network(&text) {
            Ok(network) => networks.push(network),
            Err(problem) => report.invalid(leaf, problem, EXAMPLE),
        }
    }
    Networks::new(networks)
}

/// Parses a network or a single address.
pub(super) fn network(text: &str) -> Checked<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>(),
    };
    let network = network.map_err(|_| format!("invalid network {}", shown(text)))?;
    // Ambiguous: the address or its network may be meant.
    if network.addr() != network.network() {
        return Err(format!(
            "invalid network {}: bits are set beyond the prefix; the network is {}",
            shown(text),
            network.trunc()
        ));
    }
    // Addresses are compared in their IPv4 form, so an IPv4-mapped network would match none.
    if network.addr().to_canonical() != network.addr() {
        return Err(format!(
            "invalid network {}: write an IPv4-mapped network as IPv4",
            shown(text)
        ));
    }
    Ok(network)
}
