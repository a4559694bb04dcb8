//! `[admin]`.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Report, listen, secret};
use crate::config::raw::RawAdmin;
use crate::config::{AdminSettings, BindAddress, ListenAddress};

const DEFAULT_PORT: u16 = 9090;
const ADDRESS: &str = "\"127.0.0.1:9090\"";
const HASH: &str = "\"<64 hex digits>\" (printed by: printf %s SECRET | sha256sum)";

pub(super) fn check_admin(
    admin: &RawAdmin,
    listeners: &[ListenAddress],
    report: &mut Report<'_>,
) -> AdminSettings {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
    let address = report
        .read(&admin.address, ADDRESS, |leaf| {
            listen::tcp_address(leaf.text()?)
        })
        .unwrap_or(default);
    let secret_sha256 = report.read(&admin.secret_sha256, HASH, |leaf| {
        secret::sha256(leaf.value.as_ref())
    });
    if !address.ip().to_canonical().is_loopback() {
        let purpose = format!("required because {address} is not a loopback address");
        report.require(&admin.secret_sha256, &purpose, HASH);
    }
    let bind = BindAddress::Tcp(address);
    if let Some(other) = listen::conflicting(listeners, &bind) {
        let problem = if *other == bind {
            format!("{address} is also an address of [listen]")
        } else {
            format!("{address} conflicts with {other} of [listen]; one of them includes the other")
        };
        report.add(&admin.address.path, problem);
    }
    AdminSettings {
        address,
        secret_sha256,
    }
}
