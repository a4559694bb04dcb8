//! A worker's connections to its upstreams. No lock: a worker is one thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use http::{Request, Response};
use tokio::time::Instant;

use super::body::{PoolHandle, ResponseBody};
use super::http1::Http1;
use super::http2::Http2;
use super::origin::Origin;
use super::{AttemptError, ResponseDeadline};
use crate::config::{Live, UpstreamSettings as Settings};
use crate::inbound::body::CallerBody;
use crate::upstream::dial::{ConnectError, dial};

/// Idle connections kept for one origin; more are closed when they come back.
const MAX_IDLE: usize = 256;
/// How often a lease looks again after somebody else's dial, before it gives up.
const MAX_LOOKS: usize = 4;

/// The connections of one worker.
pub struct Pool {
    live: RefCell<Arc<Live>>,
    origins: RefCell<BTreeMap<u64, OriginPool>>,
    active: Cell<usize>,
    /// The time as housekeeping last told it; near enough for the age of connections.
    now: Cell<Instant>,
}

#[derive(Default)]
struct OriginPool {
    #[expect(
        clippy::vec_box,
        reason = "a connection moves between pool, lease and body; a box moves cheaply"
    )]
    idle: Vec<Box<Http1>>,
    http2: Option<Http2>,
    /// Whether the origin was last seen to choose HTTP/1.1: then every request that finds no idle connection
    /// dials its own; otherwise one dials for all, as HTTP/2 needs but one.
    chose_http1: bool,
    dialling: Option<WeakShared<SharedDial>>,
}

type SharedDial = Pin<Box<dyn Future<Output = Result<(), Arc<ConnectError>>>>>;

/// A connection on loan for one exchange.
pub struct Lease {
    connection: PooledConnection,
    /// Whether it has carried an exchange before: then the upstream may have closed it unseen.
    pub reused: bool,
    home: PoolHandle,
}

enum PooledConnection {
    Http1(Box<Http1>),
    Http2(Http2),
}

impl PooledConnection {
    /// Marks it as used; whether it was before. One that was dialled for several requests goes through the pool
    /// like any other, and is new all the same.
    fn use_again(&mut self) -> bool {
        match self {
            Self::Http1(connection) => std::mem::replace(&mut connection.used, true),
            Self::Http2(connection) => connection.used.replace(true),
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(live: Arc<Live>) -> Rc<Self> {
        Rc::new(Self {
            live: RefCell::new(live),
            origins: RefCell::default(),
            active: Cell::new(0),
            now: Cell::new(Instant::now()),
        })
    }

    /// Goes by other settings from now on.
    pub fn configure(&self, live: Arc<Live>) {
        *self.live.borrow_mut() = live;
    }

    fn setting<T>(&self, of: impl FnOnce(&Settings) -> T) -> T {
        of(&self.live.borrow().upstream)
    }

    fn with<T>(&self, origin: u64, f: impl FnOnce(&mut OriginPool) -> T) -> T {
        f(self.origins.borrow_mut().entry(origin).or_default())
    }

    /// A connection to `origin`: one at hand, else a new one.
    ///
    /// # Errors
    /// When none can be opened.
    pub async fn lease(self: &Rc<Self>, origin: &Arc<Origin>) -> Result<Lease, Arc<ConnectError>> {
        for _ in 0..MAX_LOOKS {
            if let Some(lease) = self.reuse(origin).await {
                return Ok(lease);
            }
            if self.with(origin.id, |pool| pool.chose_http1) {
                return self.dial(origin).await;
            }
            self.shared_dial(origin).await?;
        }
        // Others were quicker each time.
        self.dial(origin).await
    }

    /// A new connection to `origin`, whatever is at hand.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn dial(self: &Rc<Self>, origin: &Origin) -> Result<Lease, Arc<ConnectError>> {
        let connection = self.open(origin).await?;
        Ok(self.lend(connection, origin.id))
    }

    fn lend(self: &Rc<Self>, mut connection: PooledConnection, origin: u64) -> Lease {
        self.active.set(self.active.get() + 1);
        let reused = connection.use_again();
        Lease {
            connection,
            reused,
            home: PoolHandle {
                pool: Rc::clone(self),
                origin,
            },
        }
    }

    /// A connection to `origin` that is open already, young enough and still alive.
    pub async fn reuse(self: &Rc<Self>, origin: &Origin) -> Option<Lease> {
        let connection = self.open_connection(origin.id).await?;
        Some(self.lend(connection, origin.id))
    }

    async fn open_connection(&self, origin: u64) -> Option<PooledConnection> {
        let now = self.now.get();
        let oldest = self.setting(|settings| settings.max_connection_age);
        let too_old = |born: Instant| now.saturating_duration_since(born) >= oldest;
        let http2 = self.with(origin, |pool| {
            pool.http2
                .take_if(|connection| too_old(connection.born) || !connection.is_alive());
            pool.http2.clone()
        });
        if let Some(connection) = http2 {
            return Some(PooledConnection::Http2(connection));
        }
        // The youngest first: the others may then grow old enough to be closed.
        while let Some(mut connection) = self.with(origin, |pool| pool.idle.pop()) {
            let usable = poll_fn(|cx| Poll::Ready(connection.is_usable(cx))).await;
            if usable && !too_old(connection.born) {
                return Some(PooledConnection::Http1(connection));
            }
        }
        None
    }

    /// Opens a connection; an HTTP/2 one is left in the pool for the others as well.
    async fn open(&self, origin: &Origin) -> Result<PooledConnection, Arc<ConnectError>> {
        let limit = self.setting(|settings| settings.connect_timeout);
        let (io, http2) = dial(origin.dial_target(), &origin.dial_config, limit).await?;
        if http2 {
            let connection = Http2::open(io).await?;
            self.with(origin.id, |pool| {
                pool.chose_http1 = false;
                pool.http2 = Some(connection.clone());
            });
            Ok(PooledConnection::Http2(connection))
        } else {
            self.with(origin.id, |pool| pool.chose_http1 = true);
            Ok(PooledConnection::Http1(Http1::open(io).await?))
        }
    }

    /// Waits for the one dial that is under way, or begins it; what it opens is then at hand in the pool.
    fn shared_dial(self: &Rc<Self>, origin: &Arc<Origin>) -> Shared<SharedDial> {
        let under_way = self.with(origin.id, |pool| {
            pool.dialling.as_ref().and_then(WeakShared::upgrade)
        });
        under_way.unwrap_or_else(|| {
            let (this, target) = (Rc::clone(self), Arc::clone(origin));
            let dialling: SharedDial = Box::pin(async move {
                if let PooledConnection::Http1(connection) = this.open(&target).await? {
                    this.with(target.id, |pool| pool.idle.push(connection));
                }
                Ok(())
            });
            let shared = dialling.shared();
            self.with(origin.id, |pool| pool.dialling = shared.downgrade());
            shared
        })
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.setting(|settings| settings.idle_timeout)
    }

    pub(super) fn ended(&self) {
        self.active.set(self.active.get() - 1);
    }

    pub(super) fn return_idle(&self, origin: u64, mut connection: Box<Http1>) {
        connection.idle_since = None;
        self.with(origin, |pool| {
            if pool.idle.len() < MAX_IDLE {
                pool.idle.push(connection);
            }
        });
    }

    /// Closes idle connections that are too old, unused for too long, dead, or to an origin that is not `known` any
    /// more. To be called now and then.
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
                    && connection.is_alive()
            });
            // Requests under way keep their own handle; the connection closes after the last of them.
            pool.http2.take_if(|connection| {
                now.duration_since(connection.born) >= settings.max_connection_age
                    || !connection.is_alive()
            });
        }
    }

    /// Connections in use and connections waiting, for the metrics.
    pub fn counts(&self) -> (i64, i64) {
        let waiting = |pool: &OriginPool| pool.idle.len() + usize::from(pool.http2.is_some());
        let idle = self.origins.borrow().values().map(waiting).sum::<usize>();
        let count = |number| i64::try_from(number).unwrap_or(i64::MAX);
        (count(self.active.get()), count(idle))
    }
}

impl Lease {
    /// Whether the exchange will speak HTTP/2, which names the authority in the target.
    pub fn is_http2(&self) -> bool {
        matches!(self.connection, PooledConnection::Http2(_))
    }

    /// One exchange: the response's head, and a body that brings the connection home.
    ///
    /// # Errors
    /// When no response head came.
    pub async fn exchange(
        mut self,
        request: Request<CallerBody>,
        deadline: &ResponseDeadline,
    ) -> Result<Response<ResponseBody>, AttemptError> {
        let outcome = match &mut self.connection {
            PooledConnection::Http1(connection) => connection.exchange(request, deadline).await,
            PooledConnection::Http2(connection) => {
                deadline.bound(connection.exchange(request)).await
            }
        };
        if let (Err(AttemptError::TimedOut), PooledConnection::Http2(mine)) =
            (&outcome, &self.connection)
        {
            // It may be dead without anybody knowing; the next request shall not find out the same way.
            let is_mine = |pooled: &mut Http2| Rc::ptr_eq(&pooled.used, &mine.used);
            self.home
                .pool
                .with(self.home.origin, |pool| pool.http2.take_if(is_mine));
        }
        let response = outcome?;
        let Self {
            connection, home, ..
        } = self;
        let http1 = match connection {
            PooledConnection::Http1(connection) => Some(connection),
            PooledConnection::Http2(_) => None,
        };
        Ok(response.map(|incoming| ResponseBody::new(incoming, http1, deadline.upload(), home)))
    }
}
