//! The records in the store: whether our keys open them, and what differs between replicas.

use std::collections::BTreeSet;

use fleet_protocol::command::{Command, Fact, Members};
use fleet_protocol::reply::{Body, MembersReply};
use fleet_protocol::{Keys, Timing};

use super::super::check::{Check, CheckKind};
use super::failure;
use crate::fleet::members::{Member, Record, record_of};
use crate::fleet::probe::Probe;
use crate::fleet::{Address, Source, StoreError};

/// Maximum number of replicas that are named.
const MAX_NAMED: usize = 5;

/// # Errors
/// If the store fails a command.
pub(super) async fn examine(
    probe: &Probe,
    address: &Address,
    source: &Source<'_>,
    keys: &Keys,
    report: &mut dyn FnMut(Check),
) -> Result<(), CheckKind> {
    let records = match read(probe, source, keys).await {
        Ok(records) => records,
        Err(error) => {
            report(failure(CheckKind::Records, address, &error));
            return Err(CheckKind::Records);
        }
    };
    report(opened(address, &records));
    report(compared(address, &records));
    Ok(())
}

/// Returns the records of the replicas that are alive.
async fn read(probe: &Probe, source: &Source<'_>, keys: &Keys) -> Result<Vec<Record>, StoreError> {
    let timing = Timing {
        lease: source.store.lease,
        timeout: source.fleet.timeout,
    };
    let command = Command::Members(Members { queues: Vec::new() });
    let reply = probe.run(&command, keys, &timing).await?;
    let Body::Members(MembersReply { replicas, .. }) = reply.body else {
        return Err(StoreError::Malformed);
    };
    // The check of the configuration rejects short keys.
    let secrets = source.keys().map_err(|_| StoreError::Malformed)?;
    let mut records = Vec::with_capacity(replicas.len());
    for (replica, _) in replicas {
        let get = Command::Get(Fact::Member(replica));
        let Body::Value(value) = probe.run(&get, keys, &timing).await?.body else {
            return Err(StoreError::Malformed);
        };
        records.push(record_of(&secrets, replica, value.as_deref()));
    }
    Ok(records)
}

fn opened(address: &Address, records: &[Record]) -> Check {
    let written: Vec<&Record> = records
        .iter()
        .filter(|one| **one != Record::Absent)
        .collect();
    let all = written.len();
    let closed = written
        .iter()
        .filter(|one| ***one == Record::Undecipherable)
        .count();
    let check = match (all, closed) {
        (0, _) => Check::ok(CheckKind::Records, address, "no replica has written one"),
        (_, 0) => {
            let detail = format!("fleet.key opens the records of all {all} replicas");
            Check::ok(CheckKind::Records, address, detail)
        }
        _ => {
            let detail = format!(
                "fleet.key does not open the records of {closed} of {all} replicas: they have another key, and share \
                 nothing with this one"
            );
            let advice = "set the same fleet.key on all replicas; during a rotation, the old one as fleet.key_previous";
            Check::failed(CheckKind::Records, address, detail, advice)
        }
    };
    check.fact("records", all).fact("undecipherable", closed)
}

fn compared(address: &Address, records: &[Record]) -> Check {
    let members: Vec<&Member> = records
        .iter()
        .filter_map(|record| match record {
            Record::Member(member) => Some(member),
            _ => None,
        })
        .collect();
    let mut named: Vec<String> = members
        .iter()
        .take(MAX_NAMED)
        .map(|member| format!("{} ({})", member.name, member.version))
        .collect();
    if members.len() > MAX_NAMED {
        named.push(format!("and {} more", members.len() - MAX_NAMED));
    }
    let unknown = records.len() - members.len();
    if unknown > 0 {
        named.push(format!("{unknown} unknown"));
    }
    let count = records.len();
    let list = if named.is_empty() {
        "none is joined".to_owned()
    } else {
        format!("{count} joined: {}", named.join(", "))
    };
    let differ = differences(&members);
    let check = if differ.is_empty() {
        Check::ok(CheckKind::Replicas, address, list)
    } else {
        let detail = format!("{list}; they differ in {}", differ.join(" and "));
        let advice = "update all replicas, and use one configuration";
        Check::warning(CheckKind::Replicas, address, detail, advice)
    };
    check.fact("replicas", count).fact("differ", differ)
}

/// Returns what replicas should have in common but do not.
fn differences(members: &[&Member]) -> Vec<&'static str> {
    let differs = |of: fn(&Member) -> &str| {
        let values: BTreeSet<&str> = members.iter().map(|member| of(member)).collect();
        values.len() > 1
    };
    let mut differ = Vec::new();
    if differs(|member| &member.version) || differs(|member| &member.commit) {
        differ.push("version");
    }
    if differs(|member| &member.configuration) {
        differ.push("configuration");
    }
    differ
}
