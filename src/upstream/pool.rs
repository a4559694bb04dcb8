//! The upstream connections of a worker. A worker is one thread, so there is no lock.

mod by_owner;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::by_owner::Http2Connections;
use super::connections::OriginConnections;
use super::http1::Http1;
use super::http2::{Http2, Http2Stream, Traffic};
use super::origin::Origin;
use crate::config::{Live, UpstreamSettings as Settings};
use crate::limit::owner::OwnerKey;
use crate::upstream::dial::{ConnectError, dial};

/// Maximum number of idle connections per origin; others are closed when they are returned.
const MAX_IDLE: usize = 256;
/// Number of shared dials a lease waits for before it dials its own connection.
const MAX_SHARED_DIALS: usize = 16;

/// The connections of one worker.
pub struct Pool {
    live: RefCell<Arc<Live>>,
    origins: RefCell<BTreeMap<u64, OriginPool>>,
    active: Cell<usize>,
    /// Time of the last eviction, precise enough for the age of connections.
    now: Cell<Instant>,
}

#[derive(Default)]
struct OriginPool {
    #[expect(
        clippy::vec_box,
        reason = "a connection moves between pool, lease and body; a box moves cheaply"
    )]
    idle: Vec<Box<Http1>>,
    /// Another is opened when all of an owner have no capacity.
    http2: Http2Connections,
    /// The origin last chose HTTP/1.1. Then each request without an idle connection dials its own;
    /// otherwise one dials for all of its owner, because HTTP/2 needs few.
    chose_http1: bool,
    dialling: HashMap<OwnerKey, WeakShared<SharedDial>>,
}

type SharedDial = Pin<Box<dyn Future<Output = Result<(), Arc<ConnectError>>>>>;

/// A connection for one exchange.
pub struct Lease {
    pub(super) connection: PooledConnection,
    /// It has carried an exchange before, so the upstream may have closed it unnoticed.
    pub reused: bool,
    pub(super) pool: PoolHandle,
}

pub(super) enum PooledConnection {
    Http1(Box<Http1>),
    Http2(Http2Stream),
}

impl PooledConnection {
    /// Marks the connection as used, and returns `true` if it was before. One that was dialled for
    /// several requests comes out of the pool, but is new.
    fn mark_used(&mut self) -> bool {
        match self {
            Self::Http1(connection) => std::mem::replace(&mut connection.used, true),
            Self::Http2(stream) => stream.mark_used(),
        }
    }
}

/// The pool of a connection, which counts as active until this is dropped.
pub(super) struct PoolHandle {
    pub(super) pool: Rc<Pool>,
    pub(super) origin: u64,
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        self.pool.ended();
    }
}

impl Pool {
    /// Returns an empty pool.
    pub fn new(live: Arc<Live>) -> Rc<Self> {
        Rc::new(Self {
            live: RefCell::new(live),
            origins: RefCell::default(),
            active: Cell::new(0),
            now: Cell::new(Instant::now()),
        })
    }

    pub fn configure(&self, live: Arc<Live>) {
        *self.live.borrow_mut() = live;
    }

    fn setting<T>(&self, of: impl FnOnce(&Settings) -> T) -> T {
        of(&self.live.borrow().upstream)
    }

    fn with<T>(&self, origin: u64, f: impl FnOnce(&mut OriginPool) -> T) -> T {
        f(self.origins.borrow_mut().entry(origin).or_default())
    }

    /// Returns a connection to `origin`, pooled or new, for a request of `owner`.
    ///
    /// # Errors
    /// When none can be opened.
    pub async fn lease(
        self: &Rc<Self>,
        origin: &Arc<Origin>,
        owner: OwnerKey,
    ) -> Result<Lease, Arc<ConnectError>> {
        for _ in 0..MAX_SHARED_DIALS {
            if let Some(lease) = self.reuse(origin, owner).await {
                return Ok(lease);
            }
            if self.with(origin.id, |pool| pool.chose_http1) {
                return self.dial(origin, owner).await;
            }
            self.shared_dial(origin, owner).await?;
        }
        // Other requests took the connection each time.
        self.dial(origin, owner).await
    }

    /// Returns a connection to `origin` for a request that another one failed. Pooled HTTP/1.1
    /// connections become stale together; one of HTTP/2 that fails leaves the pool.
    ///
    /// # Errors
    /// When none can be opened.
    pub async fn lease_another(
        self: &Rc<Self>,
        origin: &Arc<Origin>,
        owner: OwnerKey,
    ) -> Result<Lease, Arc<ConnectError>> {
        if self.with(origin.id, |pool| pool.chose_http1) {
            self.dial(origin, owner).await
        } else {
            self.lease(origin, owner).await
        }
    }

    /// Opens a connection to `origin`. If its caller leaves meanwhile, it is added to the pool: the
    /// upstream sees no connections that close unused.
    ///
    /// # Errors
    /// When it cannot be opened.
    async fn dial(
        self: &Rc<Self>,
        origin: &Arc<Origin>,
        owner: OwnerKey,
    ) -> Result<Lease, Arc<ConnectError>> {
        let (claim, opened) = oneshot::channel();
        let (this, target) = (Rc::clone(self), Arc::clone(origin));
        tokio::task::spawn_local(async move {
            let opened = this.open(&target, owner).await;
            if let Err(Ok(PooledConnection::Http1(unclaimed))) = claim.send(opened) {
                this.return_idle(target.id, unclaimed);
            }
        });
        let aborted = |_| Arc::new(ConnectError::Http("the worker ends".into()));
        let connection = opened.await.map_err(aborted)??;
        Ok(self.lend(connection, origin.id))
    }

    fn lend(self: &Rc<Self>, mut connection: PooledConnection, origin: u64) -> Lease {
        self.active.set(self.active.get() + 1);
        let reused = connection.mark_used();
        Lease {
            connection,
            reused,
            pool: PoolHandle {
                pool: Rc::clone(self),
                origin,
            },
        }
    }

    /// Returns a pooled connection to `origin` for a request of `owner` that is alive and below
    /// `upstream.max_connection_age`.
    pub fn reuse(
        self: &Rc<Self>,
        origin: &Origin,
        owner: OwnerKey,
    ) -> impl Future<Output = Option<Lease>> {
        poll_fn(move |cx| {
            let connection = self.open_connection(origin.id, owner, cx);
            Poll::Ready(connection.map(|connection| self.lend(connection, origin.id)))
        })
    }

    fn open_connection(
        &self,
        origin: u64,
        owner: OwnerKey,
        cx: &mut Context<'_>,
    ) -> Option<PooledConnection> {
        let now = self.now.get();
        let max_age = self.setting(|settings| settings.max_connection_age);
        let too_old = |born: Instant| now.saturating_duration_since(born) >= max_age;
        let http2 = self.with(origin, |pool| {
            pool.http2
                .retain(|connection| !too_old(connection.born()) && connection.is_alive());
            pool.http2.stream(owner)
        });
        if let Some(stream) = http2 {
            return Some(PooledConnection::Http2(stream));
        }
        // The youngest first, so that the others reach the age at which they are closed.
        while let Some(mut connection) = self.with(origin, |pool| pool.idle.pop()) {
            let usable = connection.is_usable(cx);
            if usable && !too_old(connection.born) && !connection.is_about_to_close() {
                return Some(PooledConnection::Http1(connection));
            }
        }
        None
    }

    /// Opens a connection. One of HTTP/2 is added to the pool, where it has a stream for the
    /// request that opens it.
    async fn open(
        &self,
        origin: &Origin,
        owner: OwnerKey,
    ) -> Result<PooledConnection, Arc<ConnectError>> {
        let limit = self.setting(|settings| settings.connect_timeout);
        let (io, http2) = dial(origin.dial_target(), &origin.dial_config, limit).await?;
        if http2 {
            let mut connection = Http2::open(io, &origin.url.authority).await?;
            let stream = connection.stream();
            self.with(origin.id, |pool| {
                pool.chose_http1 = false;
                pool.http2.push(owner, connection);
            });
            Ok(PooledConnection::Http2(stream))
        } else {
            self.with(origin.id, |pool| pool.chose_http1 = true);
            Ok(PooledConnection::Http1(Http1::new(io)))
        }
    }

    /// Returns the owner's dial in progress, or starts one. Its connection is added to the pool.
    fn shared_dial(self: &Rc<Self>, origin: &Arc<Origin>, owner: OwnerKey) -> Shared<SharedDial> {
        let in_progress = self.with(origin.id, |pool| {
            pool.dialling.get(&owner).and_then(WeakShared::upgrade)
        });
        in_progress.unwrap_or_else(|| {
            let (this, target) = (Rc::clone(self), Arc::clone(origin));
            let dialling: SharedDial = Box::pin(async move {
                if let PooledConnection::Http1(connection) = this.open(&target, owner).await? {
                    this.with(target.id, |pool| pool.idle.push(connection));
                }
                Ok(())
            });
            let shared = dialling.shared();
            // It continues if all who wait for it leave.
            tokio::task::spawn_local(shared.clone().map(drop));
            self.with(origin.id, |pool| {
                pool.dialling.retain(|_, dial| dial.upgrade().is_some());
                pool.dialling
                    .extend(shared.downgrade().map(|dial| (owner, dial)));
            });
            shared
        })
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.setting(|settings| settings.idle_timeout)
    }

    fn ended(&self) {
        self.active.set(self.active.get() - 1);
    }

    /// Adds an HTTP/1.1 connection to the pool, or closes one that may not carry another request.
    pub(super) fn return_idle(&self, origin: u64, mut connection: Box<Http1>) {
        if !connection.is_reusable() {
            return;
        }
        connection.begin_idle();
        self.with(origin, |pool| {
            if pool.idle.len() < MAX_IDLE {
                pool.idle.push(connection);
            }
        });
    }

    /// Removes a connection, which closes after its last stream.
    pub(super) fn retire_http2(&self, origin: u64, connection: &Rc<Traffic>) {
        self.with(origin, |pool| pool.http2.retire(connection));
    }

    /// Closes idle connections that are too old, idle for too long, closed, or to an origin that is
    /// no longer `known`.
    pub fn evict_idle(&self, known: impl Fn(u64) -> bool) {
        let now = Instant::now();
        self.now.set(now);
        let live = Arc::clone(&self.live.borrow());
        let settings = &live.upstream;
        let mut origins = self.origins.borrow_mut();
        origins.retain(|origin, _| known(*origin));
        for pool in origins.values_mut() {
            pool.idle.retain_mut(|connection| {
                now.duration_since(*connection.idle_since.get_or_insert(now))
                    < settings.pool_idle_timeout
                    && now.duration_since(connection.born) < settings.max_connection_age
                    && !connection.is_about_to_close()
                    && connection.is_alive()
            });
            // Requests in progress have their own handle; the connection closes after the last of
            // them.
            pool.http2.retain(|connection| {
                now.duration_since(connection.born()) < settings.max_connection_age
                    && connection.idle_time(now) < settings.pool_idle_timeout
                    && connection.is_alive()
            });
        }
    }

    /// Returns the pooled connections by origin.
    pub fn by_origin(&self) -> BTreeMap<u64, OriginConnections> {
        let origins = self.origins.borrow();
        let connections = origins.iter().map(|(origin, pool)| {
            let connections = OriginConnections {
                http1_idle: pool.idle.len(),
                http2: pool.http2.len(),
                chose_http1: pool.chose_http1,
            };
            (*origin, connections)
        });
        connections.collect()
    }

    /// Returns the numbers of active and of idle connections.
    pub fn counts(&self) -> (i64, i64) {
        let idle = |pool: &OriginPool| pool.idle.len() + pool.http2.len();
        let idle = self.origins.borrow().values().map(idle).sum::<usize>();
        let count = |number| i64::try_from(number).unwrap_or(i64::MAX);
        (count(self.active.get()), count(idle))
    }
}

impl Lease {
    /// Returns `false` if an HTTP/1.1 connection is no longer usable. One of HTTP/2 fails a request
    /// that it did not send.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.connection {
            PooledConnection::Http1(connection) => connection.is_alive(),
            PooledConnection::Http2(_) => true,
        }
    }

    /// Returns `true` for HTTP/2, where the target includes the authority.
    pub fn is_http2(&self) -> bool {
        matches!(self.connection, PooledConnection::Http2(_))
    }
}

#[cfg(test)]
mod tests {
    use http::uri::{Authority, Scheme};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::*;
    use crate::config::{UpstreamUrl, from_toml};
    use crate::upstream::dial::DialConfig;

    #[tokio::test]
    async fn dial_of_a_caller_that_left_ends_in_the_pool() {
        let env = ["CUSTOMER_ID", "CLIENT_ID", "CLIENT_SECRET"];
        let env = env.map(|name| (format!("CITRIX_{name}"), "x".to_owned()));
        let config = from_toml("", env).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let authority = Authority::try_from(authority).unwrap();
        let url = UpstreamUrl::new(Scheme::HTTP, authority, String::new()).unwrap();
        let origin = Arc::new(Origin::new(0, &url, &DialConfig::unreachable()));
        let test = async {
            for chose_http1 in [false, true] {
                let pool = Pool::new(Arc::clone(&config.live));
                pool.with(origin.id, |of_origin| of_origin.chose_http1 = chose_http1);
                assert!(pool.lease(&origin, OwnerKey::Unix).now_or_never().is_none());
                // The socket of the dial is connected by the system.
                listener.accept().await.unwrap();
                while pool.counts() != (0, 1) {
                    tokio::task::yield_now().await;
                }
            }
        };
        LocalSet::new().run_until(test).await;
    }
}
