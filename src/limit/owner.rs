//! The rule of fairness: the share of a limited resource that one owner may hold.
//!
//! An owner takes more only while it then holds at most [`FACTOR`] times what is left free (dynamic
//! thresholds, Choudhury and Hahne 1998). One owner alone can hold nearly all of a limit, several
//! divide it, and a part stays free for owners that hold little. Nothing is taken back.
//!
//! The rule depends on totals, not on time or transfer rates, and costs no lock: owners are
//! resolved once per connection or configuration.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Multiple of the free part that an owner may hold: alone 10/11 of a limit, two owners 10/21 each.
const FACTOR: usize = 10;
/// Amount that every owner may hold as long as it is free: a limit of two is not divided.
const FLOOR: usize = 2;
/// Mask of the part of an IPv6 address that identifies a host, which has a whole /64 of addresses.
const IPV6_NETWORK: u128 = !0 << 64;

/// The identity of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OwnerKey {
    /// A configured caller, by a number that it keeps across reloads.
    Caller(u64),
    /// The host of an anonymous client: an IPv4 address or the /64 of an IPv6 address.
    Address(IpAddr),
    /// All anonymous clients of Unix sockets.
    Unix,
}

/// Returns the address that counts as one client: an IPv4 address, or the /64 of an IPv6 address.
pub fn client_host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl OwnerKey {
    /// Returns the key of an anonymous client; `None` is a Unix socket.
    pub fn at(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Unix, |address| Self::Address(client_host(address)))
    }

    /// Returns the key of a new configured caller.
    pub fn new_caller() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self::Caller(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The kinds of resources that owners share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// Permits of `limits.max_in_flight`.
    InFlight,
    /// Slots of `limits.max_queued`, over all queues.
    Queued,
    /// Connections of `limits.max_connections`.
    Connections,
    /// Logins whose body is arriving.
    Logins,
    /// Bytes of request bodies that may be buffered.
    BodyBytes,
    /// Bytes of unfinished request heads.
    HeadBytes,
    /// Bytes of HTTP/2 streams of connections with an admitted request.
    StreamBytes,
    /// Blind tunnels to hosts of `intercept.tunnel`.
    Tunnels,
}

const KINDS: usize = 8;

/// A party that holds resources: a configured caller or a client host.
#[derive(Debug)]
pub struct Owner {
    key: OwnerKey,
    held: [AtomicUsize; KINDS],
}

impl Owner {
    /// Creates an owner that holds nothing.
    pub fn new(key: OwnerKey) -> Arc<Self> {
        Arc::new(Self {
            key,
            held: Default::default(),
        })
    }

    /// Returns the identity.
    pub fn key(&self) -> OwnerKey {
        self.key
    }

    /// Returns the counter of what it holds of one kind.
    pub fn held(&self, kind: ResourceKind) -> &AtomicUsize {
        &self.held[kind as usize]
    }
}

/// A rejection by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// All is in use.
    Limit,
    /// The owner already holds this much, and what is left is for others.
    Share(usize),
}

impl Exceeded {
    /// Returns the detail of the failure; `in_use` is a clause like "requests are in flight".
    pub fn detail(self, limit: usize, in_use: &str, setting: &str) -> String {
        match self {
            Self::Limit => format!("{limit} {in_use} ({setting})"),
            Self::Share(held) => format!(
                "{held} of at most {limit} {in_use} for this caller, which holds the largest share ({setting})"
            ),
        }
    }
}

/// Checks that an owner may take more of a limit. `in_use` and `held` include what it takes.
///
/// # Errors
/// If the limit or the owner's share of it is exceeded.
pub fn check(limit: usize, in_use: usize, held: usize) -> Result<(), Exceeded> {
    check_above(FLOOR, limit, in_use, held)
}

/// Like [`check`], with the amount that every owner may hold as long as it is free.
pub fn check_above(floor: usize, limit: usize, in_use: usize, held: usize) -> Result<(), Exceeded> {
    let free = limit.checked_sub(in_use).ok_or(Exceeded::Limit)?;
    if held <= floor || held <= free.saturating_mul(FACTOR) {
        Ok(())
    } else {
        Err(Exceeded::Share(held - 1))
    }
}

/// A limited resource that all workers share. The limit is an argument of each operation: a reload
/// may change it.
#[derive(Debug)]
pub struct Resource {
    kind: ResourceKind,
    in_use: AtomicUsize,
}

impl Resource {
    /// Creates an unused resource.
    pub fn new(kind: ResourceKind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            in_use: AtomicUsize::new(0),
        })
    }

    /// Returns the amount in use.
    pub fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Takes `count` for `owner`.
    ///
    /// # Errors
    /// If the limit or the owner's share of it is exceeded.
    pub fn acquire(
        self: &Arc<Self>,
        owner: &Arc<Owner>,
        count: usize,
        limit: usize,
    ) -> Result<OwnedPermit, Exceeded> {
        self.take(owner, count, limit)?;
        Ok(OwnedPermit {
            resource: Arc::clone(self),
            owner: Arc::clone(owner),
            count,
        })
    }

    fn take(&self, owner: &Owner, count: usize, limit: usize) -> Result<(), Exceeded> {
        // Counted before the check, so that concurrent owners never exceed the limit together.
        let in_use = self.in_use.fetch_add(count, Ordering::Relaxed) + count;
        let held = owner.held(self.kind).fetch_add(count, Ordering::Relaxed) + count;
        check(limit, in_use, held).inspect_err(|_| self.release(owner, count))
    }

    fn release(&self, owner: &Owner, count: usize) {
        owner.held(self.kind).fetch_sub(count, Ordering::Relaxed);
        self.in_use.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A part of a resource, released on drop.
#[derive(Debug)]
pub struct OwnedPermit {
    resource: Arc<Resource>,
    owner: Arc<Owner>,
    count: usize,
}

impl OwnedPermit {
    /// Takes `more` for the same owner.
    ///
    /// # Errors
    /// If the limit or the owner's share of it is exceeded; the permit is unchanged.
    pub fn grow(&mut self, more: usize, limit: usize) -> Result<(), Exceeded> {
        self.resource.take(&self.owner, more, limit)?;
        self.count += more;
        Ok(())
    }
}

impl OwnedPermit {
    /// Takes more for the same owner until it is `total`.
    ///
    /// # Errors
    /// If the limit or the owner's share of it is exceeded; the permit is unchanged.
    pub fn grow_to(&mut self, total: usize, limit: usize) -> Result<(), Exceeded> {
        match total.checked_sub(self.count) {
            None | Some(0) => Ok(()),
            Some(more) => self.grow(more, limit),
        }
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.resource.release(&self.owner, self.count);
    }
}

/// The slots of one queue, of `limits.max_queued`.
#[derive(Debug)]
pub struct QueueSlots(Arc<Resource>);

impl Default for QueueSlots {
    fn default() -> Self {
        Self(Resource::new(ResourceKind::Queued))
    }
}

impl QueueSlots {
    /// Returns the number of slots in use.
    pub fn in_use(&self) -> usize {
        self.0.in_use()
    }

    /// Takes a slot for `owner`, whose slots of all queues count.
    ///
    /// # Errors
    /// If `max_queued` slots, or too many of the owner's, are in use.
    pub fn acquire(&self, owner: &Arc<Owner>, max_queued: usize) -> Result<OwnedPermit, Exceeded> {
        self.0.acquire(owner, 1, max_queued)
    }
}

/// The owners that are client hosts. A host is an owner as long as it has a connection.
#[derive(Debug, Default)]
pub struct Owners(Mutex<ByKey>);

#[derive(Debug, Default)]
struct ByKey {
    /// Keyed hashes, so that a client cannot choose addresses that collide.
    owners: HashMap<OwnerKey, Weak<Owner>>,
    /// Number of owners at which those without a connection are removed.
    purge_at: usize,
}

impl Owners {
    /// Returns the owner at `address`; `None` is a Unix socket. Called once per connection.
    pub fn at(&self, address: Option<IpAddr>) -> Arc<Owner> {
        let key = OwnerKey::at(address);
        // A panic leaves nothing half updated.
        let mut by_key = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = by_key.owners.get(&key).and_then(Weak::upgrade) {
            return owner;
        }
        if by_key.owners.len() >= by_key.purge_at {
            by_key.owners.retain(|_, owner| owner.strong_count() > 0);
            // At least as many insertions precede the next purge as it visits owners.
            by_key.purge_at = by_key.owners.len() * 2 + 64;
        }
        let owner = Owner::new(key);
        by_key.owners.insert(key, Arc::downgrade(&owner));
        owner
    }
}
