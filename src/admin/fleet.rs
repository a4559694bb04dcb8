//! `GET /fleet`: the replicas that share a store, and who holds which permit there.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use fleet_protocol::reply::QueueState;
use fleet_protocol::{Replica, State};
use http::StatusCode;
use serde::Serialize;

use super::times::{Times, rfc3339};
use super::{Admin, FORMAT, FullResponse, json, text};
use crate::fleet::members::{Member, Members, Record, Seen, differences};
use crate::fleet::{Fleet, FleetStatus};
use crate::state::published::SharedQueue;

/// Maximum number of queues whose holders are read.
const MAX_QUEUES: usize = 256;

/// The last second of the year 9999.
const MAX_UNIX_TIME: u64 = 253_402_300_799;

const NO_STORE: &str = "this gateway shares no store (fleet.url)\n";

#[derive(Serialize)]
struct FleetDocument<'a> {
    format: u32,
    now: String,
    state: &'static str,
    /// Since when.
    since: String,
    /// The name of this replica.
    replica: &'a str,
    /// The number of this replica in the store.
    id: String,
    /// The address of the store in use.
    store: Option<String>,
    /// Fingerprint of `fleet.key`.
    key: String,
    /// Properties that replicas should have in common but do not.
    differ: Vec<&'static str>,
    /// `None` without the store.
    replicas: Option<Vec<ReplicaView>>,
    /// Queues with holders or waiting requests.
    queues: Vec<QueueView<'a>>,
}

#[derive(Serialize)]
struct ReplicaView {
    id: String,
    /// Whether it sends this response.
    this: bool,
    /// `same`, `differs`, or unknown before its first record.
    key: Option<&'static str>,
    last_heartbeat_s: f64,
    #[serde(flatten)]
    member: Option<MemberView>,
}

#[derive(Serialize)]
struct MemberView {
    name: String,
    version: String,
    commit: String,
    configuration: String,
    phase: String,
    started_at: String,
}

#[derive(Serialize)]
struct QueueView<'a> {
    customer: &'a str,
    service: &'a str,
    /// Number of permits.
    at_once: u32,
    holders: Vec<HolderView>,
    /// Tickets that wait: one for each caller and replica.
    waiting: u32,
}

#[derive(Serialize)]
struct HolderView {
    id: String,
    name: Option<String>,
}

pub(super) async fn respond(admin: &Admin) -> FullResponse {
    let Some(fleet) = &admin.shared.fleet else {
        return text(StatusCode::NOT_FOUND, NO_STORE);
    };
    // Never closed. A flood of requests does not become one of commands.
    let _permit = admin.members.acquire().await.ok();
    let published = admin.shared.published.load_full();
    let mut queues = published.shared_queues();
    queues.truncate(MAX_QUEUES);
    let names = queues.iter().map(|queue| queue.name).collect();
    let members = fleet.members(names).await;
    let status = fleet.status().borrow().clone();
    let times = Times::now(&admin.shared);
    let document = document(admin, fleet, &status, members, &queues, &times);
    json(StatusCode::OK, &document)
}

fn document<'a>(
    admin: &'a Admin,
    fleet: &Fleet,
    status: &FleetStatus,
    members: Option<Members>,
    queues: &'a [SharedQueue],
    times: &Times,
) -> FleetDocument<'a> {
    let found = members.as_ref();
    let names = found.map_or_else(BTreeMap::new, names_of);
    let states = found.map_or(&[][..], |members| &members.queues);
    let view = |(queue, state)| QueueView::new(queue, state, &names);
    let queues = queues.iter().zip(states).map(view);
    FleetDocument {
        format: FORMAT,
        now: times.precise(times.instant),
        state: state_name(status.state),
        since: times.seconds(status.since),
        replica: &admin.replica,
        id: fleet.replica().to_string(),
        store: status.store.as_ref().map(ToString::to_string),
        key: format!("{:08x}", fleet.keys().fingerprint().0),
        differ: found.map_or_else(Vec::new, |members| {
            differences(members.replicas.iter().map(|seen| &seen.record))
        }),
        queues: queues.filter(QueueView::is_used).collect(),
        replicas: members.map(|members| {
            let mut replicas: Vec<_> = members.replicas;
            replicas.sort_by_cached_key(|seen| (name_of(&seen.record).cloned(), seen.replica));
            let own = fleet.replica();
            replicas
                .into_iter()
                .map(|seen| ReplicaView::new(seen, own))
                .collect()
        }),
    }
}

/// Returns the value of `state`.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Joined => "joined",
        State::Away => "away",
        State::Alone => "alone",
    }
}

fn name_of(record: &Record) -> Option<&String> {
    match record {
        Record::Member(member) => Some(&member.name),
        _ => None,
    }
}

fn names_of(members: &Members) -> BTreeMap<Replica, String> {
    let named = |seen: &Seen| Some((seen.replica, name_of(&seen.record)?.clone()));
    members.replicas.iter().filter_map(named).collect()
}

impl ReplicaView {
    fn new(seen: Seen, own: Replica) -> Self {
        let key = match seen.record {
            Record::Absent => None,
            Record::Undecipherable => Some("differs"),
            Record::Member(_) => Some("same"),
        };
        let member = match seen.record {
            Record::Member(member) => Some(MemberView::new(member)),
            _ => None,
        };
        Self {
            id: seen.replica.to_string(),
            this: seen.replica == own,
            key,
            last_heartbeat_s: (seen.silent.as_secs_f64() * 10.0).round() / 10.0,
            member,
        }
    }
}

impl MemberView {
    fn new(member: Member) -> Self {
        let started = UNIX_EPOCH + Duration::from_secs(member.started.min(MAX_UNIX_TIME));
        Self {
            name: member.name,
            version: member.version,
            commit: member.commit,
            configuration: member.configuration,
            phase: member.phase,
            started_at: rfc3339(started),
        }
    }
}

impl<'a> QueueView<'a> {
    fn new(queue: &'a SharedQueue, state: &QueueState, names: &BTreeMap<Replica, String>) -> Self {
        let holders = state.holders.iter().map(|ticket| HolderView {
            id: ticket.replica.to_string(),
            name: names.get(&ticket.replica).cloned(),
        });
        Self {
            customer: &queue.customer,
            service: &queue.service,
            at_once: queue.at_once,
            holders: holders.collect(),
            waiting: state.waiting,
        }
    }

    fn is_used(&self) -> bool {
        !self.holders.is_empty() || self.waiting > 0
    }
}
