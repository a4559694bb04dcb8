//! The rows of Monitor and of analytics, with the names and types of Citrix's own model
//! (contract §4). They are invented, and the same at every start.

use std::time::{Duration, SystemTime};

use super::model::{EntitySet, Service, navigation, property};
use super::primitive::EdmType::{Boolean, DateTimeOffset, Double, Guid, Int32, Int64, String};
use super::primitive::Primitive;
use crate::responses::synthetic_uuid;

/// Rows of the large sets.
const ROWS: usize = 2500;
const GROUPS: usize = 12;
const CATALOGS: usize = 5;
const APPLICATIONS: usize = 40;

pub(super) static MONITOR: Service = Service {
    namespace: "Citrix.Monitor.Model",
    sets: &[
        &MACHINE_SET,
        &SESSION_SET,
        &CONNECTION_SET,
        &USER_SET,
        &DESKTOP_GROUP_SET,
        &CATALOG_SET,
        &APPLICATION_SET,
    ],
};

pub(super) static ANALYTICS: Service = Service {
    namespace: "Citrix.Analytics",
    sets: &[&SESSION_EVENTS, &MACHINE_EVENTS, &USER_EVENTS],
};

static MACHINE_SET: EntitySet = EntitySet {
    name: "Machines",
    kind: "Machine",
    rows: ROWS,
    properties: &[
        property("Id", Guid, machine_id),
        property("Name", String, |i| {
            format!("ACME\\{}", machine_name(i)).into()
        }),
        property("DnsName", String, |i| {
            format!("vda-{i:04}.acme.example").into()
        }),
        property("LifecycleState", Int32, |_| 0_usize.into()),
        property("IPAddress", String, |i| {
            is_on(i).then(|| address(10, i)).into()
        }),
        property("IsAssigned", Boolean, |i| (i % 2 == 0).into()),
        property("IsInMaintenanceMode", Boolean, |i| (i % 50 == 49).into()),
        property("CurrentRegistrationState", Int32, |i| if_on(i, 1, 2).into()),
        property("CurrentPowerState", Int32, |i| if_on(i, 3, 2).into()),
        property("FailureDate", DateTimeOffset, |_| Primitive::Null),
        property("CatalogId", Guid, |i| guid(6, i % CATALOGS)),
        property("DesktopGroupId", Guid, |i| guid(5, i % GROUPS)),
        property("ModifiedDate", DateTimeOffset, start),
    ],
    navigations: &[
        navigation("Catalog", &CATALOG_SET, |i| i % CATALOGS),
        navigation("DesktopGroup", &DESKTOP_GROUP_SET, |i| i % GROUPS),
    ],
};

static SESSION_SET: EntitySet = EntitySet {
    name: "Sessions",
    kind: "Session",
    rows: ROWS,
    properties: &[
        property("SessionKey", Guid, session_key),
        property("StartDate", DateTimeOffset, start),
        property("LogOnDuration", Int32, |i| log_on_duration(i).into()),
        property("EndDate", DateTimeOffset, |i| {
            has_ended(i).then(|| at(i + 480)).into()
        }),
        property("ExitCode", Int32, |i| usize::from(has_ended(i)).into()),
        property("FailureId", Int64, |_| Primitive::Null),
        property("FailureDate", DateTimeOffset, |_| Primitive::Null),
        property("ConnectionState", Int32, |i| {
            (if has_ended(i) { 3_usize } else { 5 }).into()
        }),
        property("ConnectionStateChangeDate", DateTimeOffset, start),
        property("LifecycleState", Int32, |i| {
            usize::from(has_ended(i)).into()
        }),
        property("CurrentConnectionId", Int64, connection_id),
        property("UserId", Int64, |i| user_id(user_of(i))),
        property("MachineId", Guid, machine_id),
        property("SessionType", Int32, |i| (i % 2).into()),
        property("IsAnonymous", Boolean, |_| false.into()),
        property("CreatedDate", DateTimeOffset, start),
        property("ModifiedDate", DateTimeOffset, |i| at(i + 5).into()),
    ],
    navigations: &[
        navigation("CurrentConnection", &CONNECTION_SET, |i| i),
        navigation("Machine", &MACHINE_SET, |i| i),
        navigation("User", &USER_SET, user_of),
    ],
};

static CONNECTION_SET: EntitySet = EntitySet {
    name: "Connections",
    kind: "Connection",
    rows: ROWS,
    properties: &[
        property("Id", Int64, connection_id),
        property("ClientName", String, |i| format!("LAPTOP-{i:04}").into()),
        property("ClientAddress", String, |i| address(192, i).into()),
        property("ClientVersion", String, |_| "24.2.0.187".into()),
        property("ClientPlatform", String, |i| {
            ["Windows", "Macintosh", "Linux"][i % 3].into()
        }),
        property("ConnectedViaHostName", String, |_| Primitive::Null),
        property("IsReconnect", Boolean, |i| (i % 5 == 4).into()),
        property("IsSecureIca", Boolean, |_| true.into()),
        property("Protocol", String, |_| "HDX".into()),
        property("LogOnStartDate", DateTimeOffset, start),
        property("LogOnEndDate", DateTimeOffset, |i| at(i + 1).into()),
        property("BrokeringDuration", Int64, |i| (200 + i * 13 % 900).into()),
        property("BrokeringDate", DateTimeOffset, start),
        property("DisconnectCode", Int64, |_| Primitive::Null),
        property("DisconnectDate", DateTimeOffset, |_| Primitive::Null),
        property("SessionKey", Guid, session_key),
        property("CreatedDate", DateTimeOffset, start),
        property("ModifiedDate", DateTimeOffset, start),
    ],
    navigations: &[navigation("Session", &SESSION_SET, |i| i)],
};

static USER_SET: EntitySet = EntitySet {
    name: "Users",
    kind: "User",
    rows: ROWS,
    properties: &[
        property("Id", Int64, user_id),
        property("Sid", String, |i| sid(i + 20_000)),
        property("Upn", String, |i| {
            format!("{}@acme.example", user_name(i)).into()
        }),
        property("UserName", String, |i| user_name(i).into()),
        property("FullName", String, |i| format!("User {i:04}").into()),
        property("Domain", String, |_| "ACME".into()),
        property("CreatedDate", DateTimeOffset, |_| created()),
        property("ModifiedDate", DateTimeOffset, start),
    ],
    navigations: &[],
};

static DESKTOP_GROUP_SET: EntitySet = EntitySet {
    name: "DesktopGroups",
    kind: "DesktopGroup",
    rows: GROUPS,
    properties: &[
        property("Id", Guid, |i| guid(5, i)),
        property("Name", String, |i| group_name(i).into()),
        property("IsRemotePC", Boolean, |_| false.into()),
        property("DesktopKind", Int32, |i| (i % 2).into()),
        property("LifecycleState", Int32, |_| 0_usize.into()),
        property("SessionSupport", Int32, |i| (1 + i % 2).into()),
        property("DeliveryType", Int32, |i| (i % 3).into()),
        property("IsInMaintenanceMode", Boolean, |_| false.into()),
        property("MachineCost", Double, |_| 0.25.into()),
        property("CreatedDate", DateTimeOffset, |_| created()),
        property("ModifiedDate", DateTimeOffset, start),
    ],
    navigations: &[],
};

static CATALOG_SET: EntitySet = EntitySet {
    name: "Catalogs",
    kind: "Catalog",
    rows: CATALOGS,
    properties: &[
        property("Id", Guid, |i| guid(6, i)),
        property("Name", String, |i| format!("Catalog {i}").into()),
        property("LifecycleState", Int32, |_| 0_usize.into()),
        property("ProvisioningType", Int32, |_| 1_usize.into()),
        property("IsMachinePhysical", Boolean, |_| false.into()),
        property("AllocationType", Int32, |i| (1 + i % 2).into()),
        property("SessionSupport", Int32, |i| (1 + i % 2).into()),
        property("CreatedDate", DateTimeOffset, |_| created()),
        property("ModifiedDate", DateTimeOffset, start),
    ],
    navigations: &[],
};

static APPLICATION_SET: EntitySet = EntitySet {
    name: "Applications",
    kind: "Application",
    rows: APPLICATIONS,
    properties: &[
        property("Id", Guid, |i| guid(7, i)),
        property("Name", String, |i| format!("Application {i:02}").into()),
        property("PublishedName", String, |i| {
            format!("Application {i:02}").into()
        }),
        property("ApplicationType", Int32, |_| 0_usize.into()),
        property("Enabled", Boolean, |i| (i % 10 != 9).into()),
        property("AdminFolder", String, |_| "Office\\".into()),
        property("LifecycleState", Int32, |_| 0_usize.into()),
        property("Path", String, |i| {
            format!("C:\\Program Files\\{i:02}.exe").into()
        }),
        property("BrowserName", String, |i| {
            format!("application-{i:02}").into()
        }),
        property("CreatedDate", DateTimeOffset, |_| created()),
        property("ModifiedDate", DateTimeOffset, start),
    ],
    navigations: &[],
};

static SESSION_EVENTS: EntitySet = EntitySet {
    name: "sessions",
    kind: "session",
    rows: ROWS,
    properties: &[
        property("SessionKey", Guid, session_key),
        property("Timestamp", DateTimeOffset, start),
        property("SessionExperience", Double, |i| {
            [92.5, 71.0, 48.25][i % 3].into()
        }),
        property("SessionState", String, |_| "Active".into()),
        property("SessionType", String, |i| {
            ["Desktop", "Application"][i % 2].into()
        }),
        property("UserName", String, |i| user_name(user_of(i)).into()),
        property("SessionStartTime", DateTimeOffset, start),
        property("MachineName", String, |i| machine_name(i).into()),
        property("DeliveryGroupName", String, |i| {
            group_name(i % GROUPS).into()
        }),
        property("SessionLogonDuration", Double, |i| {
            [12.5, 30.0][i % 2].into()
        }),
    ],
    navigations: &[],
};

static MACHINE_EVENTS: EntitySet = EntitySet {
    name: "machines",
    kind: "machine",
    rows: ROWS,
    properties: &[
        property("MachineId", Guid, machine_id),
        property("Timestamp", DateTimeOffset, start),
        property("MachineName", String, |i| machine_name(i).into()),
        property("DeliveryGroupName", String, |i| {
            group_name(i % GROUPS).into()
        }),
        property("Status", Int32, |i| if_on(i, 2, 5).into()),
    ],
    navigations: &[],
};

static USER_EVENTS: EntitySet = EntitySet {
    name: "users",
    kind: "user",
    rows: ROWS,
    properties: &[
        property("UserName", String, |i| user_name(i).into()),
        property("Timestamp", DateTimeOffset, start),
        property("UserExperience", Double, |i| [95.0, 66.5][i % 2].into()),
        property("TotalSessions", Int32, |i| (1 + i % 4).into()),
    ],
    navigations: &[],
};

/// Returns the id of a row in a collection.
fn guid(collection: u16, index: usize) -> Primitive {
    synthetic_uuid(collection, index).into()
}

/// Returns a time that many minutes after 2025-01-15T08:30:00Z.
fn at(minutes: usize) -> SystemTime {
    let seconds = 1_736_929_800 + 60 * minutes as u64;
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns the time of what happened in the row: rows are a minute apart.
fn start(index: usize) -> Primitive {
    at(index).into()
}

/// Returns the time when everything was set up, a week before the first event.
fn created() -> Primitive {
    (at(0) - Duration::from_secs(7 * 24 * 3600)).into()
}

fn machine_id(index: usize) -> Primitive {
    guid(3, index)
}

/// The same name as in CVAD.
fn machine_name(index: usize) -> std::string::String {
    format!("VDA-{index:04}")
}

/// Returns `false` for the machines that are switched off.
fn is_on(index: usize) -> bool {
    index % 25 != 24
}

fn if_on(index: usize, on: usize, off: usize) -> usize {
    if is_on(index) { on } else { off }
}

fn session_key(index: usize) -> Primitive {
    guid(8, index)
}

fn has_ended(index: usize) -> bool {
    index % 4 == 3
}

/// Returns milliseconds; null while the user logs on.
fn log_on_duration(index: usize) -> Option<usize> {
    (index % 20 != 19).then_some(8_000 + index * 37 % 30_000)
}

fn connection_id(index: usize) -> Primitive {
    (400_000 + index).into()
}

fn user_of(session: usize) -> usize {
    session * 7 % ROWS
}

fn user_id(index: usize) -> Primitive {
    (index + 1).into()
}

fn user_name(index: usize) -> std::string::String {
    format!("user{index:04}")
}

fn group_name(index: usize) -> std::string::String {
    format!("Group {index}")
}

fn sid(number: usize) -> Primitive {
    format!("S-1-5-21-1004336348-1177238915-682003330-{number}").into()
}

fn address(network: u8, index: usize) -> std::string::String {
    format!("{network}.168.{}.{}", index / 250, 1 + index % 250)
}
