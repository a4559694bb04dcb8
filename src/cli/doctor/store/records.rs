//! The records in the store: whether the keys open them, and what differs between replicas.

use fleet_protocol::command::{Command, Fact, Members};
use fleet_protocol::reply::{Body, MembersReply};
use fleet_protocol::{Keys, Timing};

use super::super::check::{Check, CheckKind};
use super::{Examination, failure};
use crate::fleet::keys::Purpose;
use crate::fleet::members::{Member, Record, differences, record_of};
use crate::fleet::probe::Probe;
use crate::fleet::tokens::identity;
use crate::fleet::{Address, StoreError};

/// Maximum number of replicas that are named.
const MAX_NAMED: usize = 5;

/// The records in the store.
struct Found {
    /// Of the replicas that are alive.
    records: Vec<Record>,
    /// Of the customers with a token: whether its record opens.
    tokens: Vec<bool>,
}

/// # Errors
/// If the store fails a command.
pub(super) async fn examine(
    probe: &Probe,
    address: &Address,
    with: &Examination<'_>,
    keys: &Keys,
    report: &mut dyn FnMut(Check),
) -> Result<(), CheckKind> {
    let found = match read(probe, with, keys).await {
        Ok(found) => found,
        Err(error) => {
            report(failure(CheckKind::Records, address, &error));
            return Err(CheckKind::Records);
        }
    };
    report(opened(address, &found));
    report(compared(address, &found.records));
    Ok(())
}

async fn read(probe: &Probe, with: &Examination<'_>, keys: &Keys) -> Result<Found, StoreError> {
    let source = &with.source;
    let timing = Timing {
        lease: source.store.lease,
        timeout: source.fleet.timeout,
    };
    let get = async |fact| match probe.run(&Command::Get(fact), keys, &timing).await?.body {
        Body::Value(value) => Ok(value),
        _ => Err(StoreError::Malformed),
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
        let value = get(Fact::Member(replica)).await?;
        records.push(record_of(&secrets, replica, value.as_deref()));
    }
    let mut tokens = Vec::new();
    for credential in with.credentials {
        let name = identity(&secrets, credential);
        if let Some(record) = get(Fact::Token(name)).await? {
            tokens.push(secrets.open(Purpose::Token, name, &record).is_ok());
        }
    }
    Ok(Found { records, tokens })
}

fn opened(address: &Address, found: &Found) -> Check {
    let written = found.records.iter().filter(|one| **one != Record::Absent);
    let (all, tokens) = (written.clone().count(), found.tokens.len());
    let closed = written
        .filter(|one| **one == Record::Undecipherable)
        .count();
    let damaged = found.tokens.iter().filter(|opens| !**opens).count();
    let check = if closed > 0 {
        let detail = format!(
            "fleet.key does not open the records of {closed} of {all} replicas: they have another key, and share \
             nothing with this one"
        );
        let advice = "set the same fleet.key on all replicas; during a rotation, the old one as fleet.key_previous";
        Check::failed(CheckKind::Records, address, detail, advice)
    } else if damaged > 0 {
        let detail = format!("fleet.key does not open {damaged} of {tokens} tokens in the store");
        let advice =
            "find out what else writes to the keys cap:1:*; the gateway logs in for itself";
        Check::failed(CheckKind::Records, address, detail, advice)
    } else if all + tokens == 0 {
        Check::ok(CheckKind::Records, address, "none yet")
    } else {
        let detail = format!("fleet.key opens all: replicas {all}, tokens {tokens}");
        Check::ok(CheckKind::Records, address, detail)
    };
    let check = check.fact("records", all).fact("tokens", tokens);
    check.fact("undecipherable", closed + damaged)
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
    let mut differ = differences(records.iter());
    // The check before reports it.
    differ.retain(|what| *what != "key");
    let check = if differ.is_empty() {
        Check::ok(CheckKind::Replicas, address, list)
    } else {
        let detail = format!("{list}; they differ in {}", differ.join(" and "));
        let advice = "update all replicas, and use one configuration";
        Check::warning(CheckKind::Replicas, address, detail, advice)
    };
    check.fact("replicas", count).fact("differ", differ)
}
