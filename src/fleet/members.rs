//! The replicas as they describe themselves in the store: each in a sealed record under its number.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::command::Fact;
use fleet_protocol::machine::Request;
use fleet_protocol::reply::{Body, QueueState};
use fleet_protocol::{Name, Replica, State};
use futures_util::future::join_all;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::handle::Fleet;
use super::keys::{FleetKeys, NameKind, Purpose, record_buffer};
use super::link::LinkStatus;
use crate::system::digest::Sha256;
use crate::system::sealing::Undecipherable;

/// The lifetime of a record.
const LIFETIME: Duration = Duration::from_mins(1);
/// The interval between writes: two may be lost.
const INTERVAL: Duration = Duration::from_secs(20);
/// The interval while there is no store: the replica may join at any moment.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of records that are read at once.
const MAX_RECORDS: usize = 200;
/// Length of a record of usual size.
const USUAL_LENGTH: usize = 512;

/// The description of a replica for the others.
#[derive(Clone, Debug)]
pub struct Description {
    /// The name for people (`fleet.replica`, else that of the pod or host).
    pub name: String,
    pub version: &'static str,
    pub commit: &'static str,
    /// The hash of what the configurations of replicas have in common.
    pub configuration: Sha256,
    /// `running` or `draining`.
    pub phase: &'static str,
    /// Start of the process, in Unix time.
    pub started: u64,
}

/// A replica as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub version: String,
    pub commit: String,
    /// A keyed hash: equal for equal configurations.
    pub configuration: String,
    pub phase: String,
    pub started: u64,
}

/// The record of a replica that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// None so far, or not read because there are many.
    Absent,
    /// Another key, or damaged.
    Undecipherable,
    Member(Member),
}

/// A replica that the store knows.
#[derive(Clone, Debug)]
pub struct Seen {
    pub replica: Replica,
    /// Time since its heartbeat.
    pub silent: Duration,
    pub record: Record,
}

/// The replicas, and queues in the order of the request.
#[derive(Clone, Debug, Default)]
pub struct Members {
    pub replicas: Vec<Seen>,
    pub queues: Vec<QueueState>,
}

impl Description {
    fn member(&self, keys: &FleetKeys) -> Member {
        let hash = keys.name(NameKind::Member, &[self.configuration.to_hex().as_bytes()]);
        Member {
            name: self.name.clone(),
            version: self.version.to_owned(),
            commit: self.commit.to_owned(),
            configuration: hash.to_string()[..8].to_owned(),
            phase: self.phase.to_owned(),
            started: self.started,
        }
    }
}

impl Member {
    /// Seals the record of a replica; `None` if it is too long.
    fn seal(&self, keys: &FleetKeys, replica: Replica) -> Option<Vec<u8>> {
        let mut text = record_buffer(USUAL_LENGTH);
        serde_json::to_writer(&mut *text, self).ok()?;
        keys.seal(Purpose::Member, name_of(replica), text).ok()
    }

    /// Opens the record of a replica.
    ///
    /// # Errors
    /// If none of the keys opens it, or it is not in the format of this version.
    pub fn open(keys: &FleetKeys, replica: Replica, record: &[u8]) -> Result<Self, Undecipherable> {
        let text: Zeroizing<Vec<u8>> = keys.open(Purpose::Member, name_of(replica), record)?;
        serde_json::from_slice(&text).map_err(|_| Undecipherable)
    }
}

/// Returns the name to which a record is bound. It does not depend on the key, so that a previous
/// key opens the record.
fn name_of(replica: Replica) -> Name {
    let mut name = [0; 16];
    name[12..].copy_from_slice(&replica.0.to_be_bytes());
    Name(name)
}

/// Returns the record of a value in the store.
pub fn record_of(keys: &FleetKeys, replica: Replica, value: Option<&[u8]>) -> Record {
    match value.map(|value| Member::open(keys, replica, value)) {
        None => Record::Absent,
        Some(Ok(member)) => Record::Member(member),
        Some(Err(Undecipherable)) => Record::Undecipherable,
    }
}

/// Returns what replicas should have in common but do not: `key`, `version`, `configuration`.
pub fn differences<'r>(records: impl Iterator<Item = &'r Record> + Clone) -> Vec<&'static str> {
    let members = records.clone().filter_map(|record| match record {
        Record::Member(member) => Some(member),
        Record::Absent | Record::Undecipherable => None,
    });
    let differs = |of: fn(&Member) -> &str| {
        let values: BTreeSet<&str> = members.clone().map(of).collect();
        values.len() > 1
    };
    let mut differ = Vec::new();
    if records
        .clone()
        .any(|record| *record == Record::Undecipherable)
    {
        differ.push("key");
    }
    if differs(|member| &member.version) || differs(|member| &member.commit) {
        differ.push("version");
    }
    if differs(|member| &member.configuration) {
        differ.push("configuration");
    }
    differ
}

impl Fleet {
    /// Returns the replicas, and the holders of permits in some queues; `None` without a store.
    pub async fn members(&self, queues: Vec<Name>) -> Option<Members> {
        let response = self.request(Request::Members(queues)).await?;
        let Body::Members(found) = response.body else {
            return None;
        };
        let read = found.replicas.iter().take(MAX_RECORDS);
        let records = join_all(read.map(|(replica, _)| self.record(*replica))).await;
        let mut records = records.into_iter();
        let seen = found.replicas.into_iter().map(|(replica, silent)| Seen {
            replica,
            silent,
            record: records.next().unwrap_or(Record::Absent),
        });
        Some(Members {
            replicas: seen.collect(),
            queues: found.queues,
        })
    }

    /// Returns the record of a replica; `Absent` without a store.
    pub async fn record(&self, replica: Replica) -> Record {
        let fact = Fact::Member(replica);
        let response = self.request(Request::Get(fact)).await;
        let Some(Body::Value(value)) = response.map(|response| response.body) else {
            return Record::Absent;
        };
        record_of(&self.keys(), replica, value.as_deref())
    }
}

/// Keeps the record of this replica in the store, and logs when keys of replicas differ.
pub async fn announce(
    fleet: Arc<Fleet>,
    mut description: watch::Receiver<Description>,
) -> Infallible {
    let (mut joins, mut keys) = (fleet.status(), fleet.status());
    let mut differed = false;
    loop {
        let current = description.borrow_and_update().clone();
        let is_written = write(&fleet, &current).await;
        let interval = if is_written { INTERVAL } else { RETRY_INTERVAL };
        tokio::select! {
            () = sleep(interval) => {}
            () = join(&mut joins) => {}
            () = changed(&mut description) => {}
            differ = key_change(&mut keys, differed) => {
                differed = differ;
                log_keys(&fleet, differ);
            }
        }
    }
}

/// Returns `true` if the record is in the store.
async fn write(fleet: &Fleet, description: &Description) -> bool {
    let replica = fleet.replica();
    let record = {
        let keys = fleet.keys();
        description.member(&keys).seal(&keys, replica)
    };
    let Some(value) = record else { return false };
    let request = Request::Set {
        fact: Fact::Member(replica),
        value,
        lifetime: LIFETIME,
    };
    fleet.request(request).await.is_some()
}

/// Waits until the replica joins; pending while it stays joined.
pub async fn join(status: &mut watch::Receiver<LinkStatus>) {
    let was_joined = status.borrow().state == State::Joined;
    if was_joined {
        until(status, |status| status.state != State::Joined).await;
    }
    until(status, |status| status.state == State::Joined).await;
}

/// Waits until it is known that replicas have different keys, or have no more.
async fn key_change(status: &mut watch::Receiver<LinkStatus>, differed: bool) -> bool {
    until(status, |status| {
        status.state == State::Joined && status.keys_differ != differed
    })
    .await;
    !differed
}

fn log_keys(fleet: &Fleet, differ: bool) {
    let key = format!("{:08x}", fleet.keys().fingerprint().0);
    if differ {
        tracing::warn!(
            key,
            "replicas of the fleet have different keys; permits and logins are not shared with all"
        );
    } else {
        tracing::info!(key, "replicas of the fleet have one key");
    }
}

/// Waits for a status; for ever once the link has ended.
async fn until(
    status: &mut watch::Receiver<LinkStatus>,
    condition: impl FnMut(&LinkStatus) -> bool,
) {
    if status.wait_for(condition).await.is_err() {
        std::future::pending().await
    }
}

async fn changed(description: &mut watch::Receiver<Description>) {
    if description.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: char, previous: Option<char>) -> FleetKeys {
        let secret = |byte: char| byte.to_string().repeat(32).into();
        let previous = previous.map(secret);
        FleetKeys::new("default", &secret(key), previous.as_ref()).unwrap()
    }

    fn description(configuration: &str) -> Description {
        Description {
            name: "gateway-0".to_owned(),
            version: "0.1.0",
            commit: "abc",
            configuration: Sha256::of(configuration.as_bytes()),
            phase: "running",
            started: 1_795_000_000,
        }
    }

    #[test]
    fn record_opens_with_present_and_previous_key_and_for_its_replica_only() {
        let (one, other) = (Replica(1), Replica(2));
        let (old, new) = (keys('o', None), keys('n', Some('o')));
        let member = description("a").member(&old);
        let record = member.seal(&old, one).unwrap();
        assert_eq!(Member::open(&old, one, &record), Ok(member.clone()));
        assert_eq!(Member::open(&new, one, &record), Ok(member));
        assert_eq!(Member::open(&old, other, &record), Err(Undecipherable));
        let sealed_for_other = keys('x', None);
        assert_eq!(
            record_of(&sealed_for_other, one, Some(&record)),
            Record::Undecipherable
        );
        assert_eq!(record_of(&old, one, None), Record::Absent);
        assert_eq!(
            record_of(&old, one, Some(&record[1..])),
            Record::Undecipherable
        );
    }

    #[test]
    fn differences_are_named() {
        let keys = keys('k', None);
        let one = Record::Member(description("a").member(&keys));
        let other = |change: fn(&mut Member)| {
            let mut member = description("a").member(&keys);
            change(&mut member);
            Record::Member(member)
        };
        for (records, expected) in [
            (vec![], vec![]),
            (vec![one.clone(), one.clone(), Record::Absent], vec![]),
            (vec![one.clone(), Record::Undecipherable], vec!["key"]),
            (
                vec![one.clone(), other(|member| member.commit.clear())],
                vec!["version"],
            ),
            (
                vec![one.clone(), other(|member| member.configuration.clear())],
                vec!["configuration"],
            ),
            (vec![one, other(|member| member.name.clear())], vec![]),
        ] {
            assert_eq!(differences(records.iter()), expected, "{records:?}");
        }
    }

    #[test]
    fn configurations_are_compared_by_a_keyed_hash() {
        let keys_of_fleet = keys('k', None);
        let of =
            |configuration, keys: &FleetKeys| description(configuration).member(keys).configuration;
        assert_eq!(of("a", &keys_of_fleet), of("a", &keys_of_fleet));
        assert_ne!(of("a", &keys_of_fleet), of("b", &keys_of_fleet));
        assert_ne!(of("a", &keys_of_fleet), of("a", &keys('l', None)));
    }
}
