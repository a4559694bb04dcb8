//! Connection attempts to the addresses of a name (RFC 8305, "Happy Eyeballs").
//!
//! hyper-util's connector is not used: it tries the addresses of one family in sequence, each with
//! a share of the timeout, and does not distinguish failed lookups from failed connections.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// Maximum number of addresses of a name; more could not be tried in time.
pub const MAX_ADDRESSES: usize = 16;
/// Time after which the next address is tried as well (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Returns the first connection. The next address is tried when an attempt fails or has taken 250
/// ms; the other attempts are dropped.
///
/// # Errors
/// The last error, if no attempt succeeds.
pub async fn first<T, F>(
    addresses: &[SocketAddr],
    mut connect: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(connect(address));
        }
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

/// Interleaves the address families, beginning with that of the first address (RFC 8305 section 4).
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut mixed = Vec::with_capacity(addresses.len());
    while mixed.len() < addresses.len() {
        mixed.extend(preferred.next());
        mixed.extend(others.next());
    }
    mixed
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const V6: [&str; 3] = [
        "[2001:db8::1]:443",
        "[2001:db8::2]:443",
        "[2001:db8::3]:443",
    ];
    const V4: [&str; 2] = ["192.0.2.1:443", "192.0.2.2:443"];

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The outcome of an attempt.
    #[derive(Clone, Copy)]
    enum ScriptedAttempt {
        Connects(u64),
        Fails(u64),
        Hangs,
    }
    use ScriptedAttempt::{Connects, Fails, Hangs};

    /// Runs scripted attempts. Returns the winner's index, the duration in ms, and the start of
    /// each attempt.
    async fn race(script: &[ScriptedAttempt]) -> (io::Result<usize>, u128, Vec<u128>) {
        let began = Instant::now();
        let addresses: Vec<SocketAddr> = (0..script.len())
            .map(|n| SocketAddr::from(([192, 0, 2, 1], u16::try_from(n).unwrap())))
            .collect();
        let mut starts = Vec::new();
        let won = first(&addresses, |address| {
            starts.push(began.elapsed().as_millis());
            let number = usize::from(address.port());
            let attempt = script[number];
            async move {
                match attempt {
                    Connects(after) => sleep(Duration::from_millis(after)).await,
                    Fails(after) => {
                        sleep(Duration::from_millis(after)).await;
                        return Err(io::Error::other(number.to_string()));
                    }
                    Hangs => std::future::pending().await,
                }
                Ok(number)
            }
        })
        .await;
        (won, began.elapsed().as_millis(), starts)
    }

    #[test]
    fn address_families_are_interleaved() {
        let all = [&V6[..], &V4[..]].concat();
        let mixed = [V6[0], V4[0], V6[1], V4[1], V6[2]];
        assert_eq!(interleaved(&addresses(&all)), addresses(&mixed));
        let v4_first = [&V4[..], &V6[..]].concat();
        let mixed = [V4[0], V6[0], V4[1], V6[1], V6[2]];
        assert_eq!(interleaved(&addresses(&v4_first)), addresses(&mixed));
        assert_eq!(interleaved(&addresses(&V4)), addresses(&V4));
        assert_eq!(interleaved(&[]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn fast_address_is_the_only_attempt() {
        let (won, at, starts) = race(&[Connects(200), Connects(1)]).await;
        assert_eq!((won.unwrap(), at, starts), (0, 200, vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_address_delays_by_250_ms() {
        let (won, at, starts) = race(&[Hangs, Hangs, Connects(10)]).await;
        assert_eq!((won.unwrap(), at, starts), (2, 510, vec![0, 250, 500]));
    }

    #[tokio::test(start_paused = true)]
    async fn refusing_address_does_not_delay() {
        let (won, at, starts) = race(&[Fails(5), Fails(5), Connects(5)]).await;
        assert_eq!((won.unwrap(), at, starts), (2, 15, vec![0, 5, 10]));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_address_can_win() {
        let (won, at, starts) = race(&[Connects(300), Hangs]).await;
        assert_eq!((won.unwrap(), at, starts), (0, 300, vec![0, 250]));
    }

    #[tokio::test(start_paused = true)]
    async fn last_error_is_returned_if_all_fail() {
        let (won, at, _) = race(&[Fails(600), Fails(1), Fails(1)]).await;
        assert_eq!((won.unwrap_err().to_string().as_str(), at), ("0", 600));
        let (won, ..) = race(&[]).await;
        assert_eq!(won.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
