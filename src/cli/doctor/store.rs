//! The fleet's store: connects as the gateway does, then tries what the gateway needs there.

mod commands;
mod connection;
mod contents;
mod records;

use std::sync::Arc;

use fleet_protocol::Keys;

use super::check::{Check, CheckKind};
use crate::config::Credential;
use crate::fleet::link::{Route, Store};
use crate::fleet::probe::Probe;
use crate::fleet::{Address, Source, StoreError, Target};
use crate::system::clock::Clock;

/// Steps in order. A sentinel has the first four.
const STEPS: [CheckKind; 10] = [
    CheckKind::Dns,
    CheckKind::Tcp,
    CheckKind::Tls,
    CheckKind::Auth,
    CheckKind::Role,
    CheckKind::Commands,
    CheckKind::Eviction,
    CheckKind::Skew,
    CheckKind::Records,
    CheckKind::Replicas,
];

/// Inputs of the steps besides a connection.
pub(super) struct Examination<'a> {
    pub(super) source: Source<'a>,
    pub(super) credentials: &'a [Arc<Credential>],
    pub(super) clock: Clock,
}

/// Runs all steps, each within the timeout of connections.
pub(super) async fn examine(with: &Examination<'_>, report: &mut dyn FnMut(Check)) {
    let store = with.source.link_store();
    let Some(address) = primary(&store, report).await else {
        return;
    };
    let probe = match connection::open(&address, &store.target, true, report).await {
        Ok(probe) => probe,
        Err(failed) => return skip(&STEPS, failed, &address, report),
    };
    if let Err(failed) = steps(&probe, &address, with, &store.keys, report).await {
        skip(&STEPS, failed, &address, report);
    }
}

async fn steps(
    probe: &Probe,
    address: &Address,
    with: &Examination<'_>,
    keys: &Keys,
    report: &mut dyn FnMut(Check),
) -> Result<(), CheckKind> {
    contents::role(probe, address, report).await?;
    commands::examine(probe, address, keys, report).await?;
    contents::eviction(probe, address, report).await;
    let limit = with.source.fleet.timeout;
    contents::skew(probe, address, limit, with.clock, report).await;
    records::examine(probe, address, with, keys, report).await
}

/// Returns the address of the primary: from `fleet.url`, or as the sentinels name it.
async fn primary(store: &Store, report: &mut dyn FnMut(Check)) -> Option<Address> {
    let (addresses, master, target) = match &store.route {
        Route::Direct(address) => return Some(address.clone()),
        Route::Sentinels {
            addresses,
            master,
            target,
        } => (addresses, master, target),
    };
    let mut named = None;
    for sentinel in addresses {
        let address = Address::Tcp(sentinel.clone());
        let found = sentinel_primary(&address, master, target, report).await;
        named = named.or(found);
    }
    if named.is_none() {
        let check = Check::failed(
            CheckKind::Primary,
            master,
            "no sentinel names a primary",
            "check fleet.sentinels, fleet.sentinel_master and fleet.sentinel_password",
        );
        report(check);
    }
    named
}

async fn sentinel_primary(
    address: &Address,
    master: &str,
    target: &Target,
    report: &mut dyn FnMut(Check),
) -> Option<Address> {
    let probe = match connection::open(address, target, false, report).await {
        Ok(probe) => probe,
        Err(failed) => {
            skip(&STEPS[..4], failed, address, report);
            return None;
        }
    };
    match probe.primary(master).await {
        Ok(Some(primary)) => {
            let check = Check::ok(
                CheckKind::Primary,
                address,
                format!("{master} is {primary}"),
            );
            report(check.fact("primary", primary.to_string()));
            Some(Address::Tcp(primary))
        }
        Ok(None) => {
            let detail = format!("the sentinel does not know {master}");
            let advice = "set fleet.sentinel_master to the name that it monitors";
            report(Check::failed(CheckKind::Primary, address, detail, advice));
            None
        }
        Err(error) => {
            report(failure(CheckKind::Primary, address, &error));
            None
        }
    }
}

/// Returns the check of a step that the store failed.
fn failure(kind: CheckKind, address: &Address, error: &StoreError) -> Check {
    let diagnosis = error.diagnosis();
    Check::failed(kind, address, diagnosis.cause, diagnosis.advice)
}

/// Reports the steps after a failed one.
fn skip(steps: &[CheckKind], failed: CheckKind, address: &Address, report: &mut dyn FnMut(Check)) {
    let rest = steps.iter().skip_while(|step| **step != failed).skip(1);
    for step in rest {
        let why = format!("{} failed", failed.name());
        report(Check::skipped(*step, address, why));
    }
}
