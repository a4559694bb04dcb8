//! Which of a name's addresses answers first (RFC 8305, "Happy Eyeballs").
//!
//! Our own, since hyper-util's connector tries the addresses of one family one after the other, each with a part of
//! the time, and does not tell a name that is not found from an address where nobody answers.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

/// Addresses of one name that are tried at most: what more there are would come too late anyway.
pub const MAX_ADDRESSES: usize = 16;
/// After how long the next address is tried as well (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The first connection that `connect` brings about. The next address is tried when one fails, or has not answered
/// for 250 ms; the attempts that lose are dropped.
///
/// # Errors
/// The last error, when none connects.
pub async fn first<T, F>(
    addresses: &[SocketAddr],
    mut connect: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
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

/// The families in turns, the first one's first, each in its own order (RFC 8305 section 4).
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

    /// What becomes of an attempt.
    #[derive(Clone, Copy)]
    enum ScriptedAttempt {
        Connects(u64),
        Fails(u64),
        Hangs,
    }
    use ScriptedAttempt::{Connects, Fails, Hangs};

    /// Tries addresses that behave like this, in this order; the winner's number, when it won, and when each began.
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
    fn families_take_turns() {
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
    async fn an_address_that_answers_is_alone() {
        let (won, at, starts) = race(&[Connects(200), Connects(1)]).await;
        assert_eq!((won.unwrap(), at, starts), (0, 200, vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_costs_a_quarter_of_a_second() {
        let (won, at, starts) = race(&[Hangs, Hangs, Connects(10)]).await;
        assert_eq!((won.unwrap(), at, starts), (2, 510, vec![0, 250, 500]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_costs_nothing() {
        let (won, at, starts) = race(&[Fails(5), Fails(5), Connects(5)]).await;
        assert_eq!((won.unwrap(), at, starts), (2, 15, vec![0, 5, 10]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_may_still_win() {
        let (won, at, starts) = race(&[Connects(300), Hangs]).await;
        assert_eq!((won.unwrap(), at, starts), (0, 300, vec![0, 250]));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_error_is_told() {
        let (won, at, _) = race(&[Fails(600), Fails(1), Fails(1)]).await;
        assert_eq!((won.unwrap_err().to_string().as_str(), at), ("0", 600));
        let (won, ..) = race(&[]).await;
        assert_eq!(won.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
