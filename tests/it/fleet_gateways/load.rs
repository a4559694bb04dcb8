//! Pollers that repeat a request at once, each as a caller of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use crate::harness::{Gateway, Wire, get};

/// Longest wait for responses.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<[AtomicUsize]>,
    tasks: JoinSet<Vec<u16>>,
}

impl Load {
    /// Starts a number of pollers at each replica, each with a query of its own: identical ones would
    /// share responses.
    pub fn start(replicas: &[Gateway], pollers: usize, path: &'static str) -> Self {
        let addresses: Vec<SocketAddr> = replicas
            .iter()
            .map(|replica| replica.address().parse().unwrap())
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let served: Arc<[AtomicUsize]> = (0..addresses.len() * pollers)
            .map(|_| AtomicUsize::new(0))
            .collect();
        let mut tasks = JoinSet::new();
        for number in 0..served.len() {
            let target = addresses[number / pollers];
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            let path = format!("{path}&poller={number}");
            tasks.spawn(async move {
                let mut statuses = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let Some(status) = request(target, caller(number), &path).await else {
                        break;
                    };
                    statuses.push(status);
                    served[number].fetch_add(1, Ordering::Relaxed);
                }
                statuses
            });
        }
        Self {
            stop,
            served,
            tasks,
        }
    }

    /// Returns the number of responses of each poller.
    pub fn served(&self) -> Vec<usize> {
        let counts = self.served.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until each poller has this many more responses.
    pub async fn each_served(&self, more: usize) {
        let (goal, end) = (self.served(), Instant::now() + DEADLINE);
        let is_short = |(now, before): (&usize, &usize)| *now < before + more;
        while self.served().iter().zip(&goal).any(is_short) {
            let counts = || (goal.clone(), self.served());
            assert!(Instant::now() < end, "{:?}", counts());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the statuses of all responses.
    pub async fn stop(self) -> Vec<u16> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }

    /// Ends the load; every request must have been served.
    pub async fn ends_without_failure(self) {
        let statuses = self.stop().await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
}

/// Returns the address of a poller, by which gateways tell callers apart.
fn caller(number: usize) -> Ipv4Addr {
    let number = u8::try_from(number + 1).unwrap();
    Ipv4Addr::new(127, 0, 1, number)
}

/// Sends a request from an address, and returns the status; `None` if the connection is refused.
pub async fn request(target: SocketAddr, from: Ipv4Addr, path: &str) -> Option<u16> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut wire = Wire::new(socket.connect(target).await.ok()?);
    wire.write(get(path)).await;
    // Longer than other waits: the queue's timeout is the limit.
    let response = tokio::time::timeout(DEADLINE, wire.next_response()).await;
    Some(response.unwrap().expect("a response").status())
}
