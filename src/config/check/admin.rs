//! `[admin]`: the listener of probes and metrics.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Report, file, listen, secret};
use crate::config::{AdminSettings, BindAddress, ListenAddress};

const DEFAULT_PORT: u16 = 9090;
const ADDRESS: &str = "\"127.0.0.1:9090\"";
const HASH: &str = "\"<64 hex digits>\", as printf %s SECRET | sha256sum prints them";

pub(super) fn check(
    admin: &file::Admin,
    listeners: &[ListenAddress],
    report: &mut Report<'_>,
) -> AdminSettings {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
    let address = report
        .read(&admin.address, ADDRESS, |leaf| listen::tcp(leaf.text()?))
        .unwrap_or(default);
    let secret_sha256 = report.read(&admin.secret_sha256, HASH, secret::sha256);
    if admin.secret_sha256.value.is_none() && !address.ip().to_canonical().is_loopback() {
        let what = format!("missing: {address} can be reached from other machines");
        report.missing(&admin.secret_sha256, &what, HASH);
    }
    let taken = listeners
        .iter()
        .any(|listener| listener.address == BindAddress::Tcp(address));
    if taken && address.port() != 0 {
        report.wrong(
            &admin.address,
            format!("{address} is listened on for callers already"),
            ADDRESS,
        );
    }
    AdminSettings {
        address,
        secret_sha256,
    }
}
