//! Names in the store.

use std::fmt;
use std::str::FromStr;

use citrix_wire::hex;

use crate::time::StoreTime;

/// A keyed hash of a queue, caller, place or identity. The store learns no plain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub [u8; 16]);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A name, replica or ticket that is not in the format of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        hex::decode(text.as_bytes()).map(Self).ok_or(InvalidName)
    }
}

/// A random number for each start of a process: a restarted replica is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica(pub u32);

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Replica {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bytes = hex::decode(text.as_bytes()).ok_or(InvalidName)?;
        Ok(Self(u32::from_be_bytes(bytes)))
    }
}

/// A request for a permit, and the permit it becomes.
///
/// The replica names it before the store knows of it, so that it can leave without a reply. Tickets
/// with equal tags are served in the order of their names, which begin with the time of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Arrival on the store's clock, as the replica knows it.
    pub arrived: StoreTime,
    /// The replica that holds it.
    pub replica: Replica,
    /// Its number in the replica.
    pub number: u64,
}

impl fmt::Display for Ticket {
    /// Pads the parts, so that names and tickets have the same order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            arrived,
            replica,
            number,
        } = self;
        write!(f, "{:013}/{replica}/{number:012x}", arrived.0)
    }
}

impl FromStr for Ticket {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(InvalidName);
        let (arrived, replica, number) = (part()?, part()?, part()?);
        let ticket = Self {
            arrived: StoreTime(arrived.parse().map_err(|_| InvalidName)?),
            replica: replica.parse()?,
            number: u64::from_str_radix(number, 16).map_err(|_| InvalidName)?,
        };
        // Only names that `Display` writes.
        (ticket.to_string() == text)
            .then_some(ticket)
            .ok_or(InvalidName)
    }
}

/// The keys of one fleet. All are in one hash slot.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Returns the keys of the fleet with this name.
    pub fn new(fleet: &str) -> Self {
        Self {
            prefix: format!("cap:1:{{{fleet}}}:"),
        }
    }

    /// Returns the prefix of all keys and channels.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the channel to one replica.
    pub fn channel(&self, replica: Replica) -> String {
        format!("{}r:{replica}", self.prefix)
    }

    /// Returns the channel to all replicas.
    pub fn channel_to_all(&self) -> String {
        format!("{}all", self.prefix)
    }

    pub(crate) fn key(&self, name: impl fmt::Display) -> String {
        format!("{}{name}", self.prefix)
    }
}
