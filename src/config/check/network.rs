//! Networks in CIDR notation.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Report;
use crate::config::Networks;
use crate::config::value::{Checked, Leaf, shown};

const EXAMPLE: &str = "[\"10.0.0.0/8\", \"2001:db8::/32\"]";

/// A list of networks; a single address is a network of its own.
pub(super) fn networks(leaf: &Leaf, report: &mut Report<'_>) -> Networks {
    let texts = report.read(leaf, EXAMPLE, Leaf::texts).unwrap_or_default();
    let mut networks = Vec::with_capacity(texts.len());
    for text in texts {
        match network(&text) {
            Ok(network) => networks.push(network),
            Err(what) => report.wrong(leaf, what, EXAMPLE),
        }
    }
    Networks::new(networks)
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Checked<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>(),
    };
    let network =
        network.map_err(|_| format!("{} is not a network, as in 10.0.0.0/8", shown(text)))?;
    // Half a slip of the pen: is it the address that is meant, or the network it is in?
    if network.addr() != network.network() {
        return Err(format!(
            "{} has bits beyond its prefix; the network is {}",
            shown(text),
            network.trunc()
        ));
    }
    // Addresses are compared in their IPv4 form, so such a network would never match.
    if network.addr().to_canonical() != network.addr() {
        return Err(format!(
            "{} is an IPv4 network in IPv6's form; write it as IPv4",
            shown(text)
        ));
    }
    Ok(network)
}
