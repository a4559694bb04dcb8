//! Cost of identifying the caller of a request, and whether its timing depends on the secret.
//!
//! `cargo bench --bench callers`. Times two kinds of requests in random order and computes Welch's
//! t over the faster nine tenths of each; above about 4.5 an observer could distinguish the kinds.
//! A matching secret and a wrong one differ by about 3 ns, the branch to the response. Neither the
//! length of a partial match nor its caller matters.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]

use std::error::Error;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use citrix_auth_proxy::callers::credentials::{PresentedCredentials, X_API_KEY};
use citrix_auth_proxy::callers::gateway_token::Signer;
use citrix_auth_proxy::callers::{Callers, Identity, PeerIdentity};
use citrix_auth_proxy::config::{Caller, Mode};
use citrix_auth_proxy::system::clock::Clock;
use citrix_auth_proxy::system::digest::Sha256;
use citrix_wire::policy::Rules;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

type Fallible<T> = Result<T, Box<dyn Error>>;

const SAMPLES: usize = 400_000;
/// Address of the client, within the networks of the last caller only.
const CLIENT_ADDRESS: [u8; 4] = [10, 1, 2, 3];

/// Description and the two secrets to compare, with 20 callers.
const COMPARISONS: [(&str, &str, &str); 4] = [
    ("two wrong secrets", "secret 98", "secret 99"),
    (
        "a wrong secret and the first caller's, from another network",
        "secret 98",
        "secret 10",
    ),
    (
        "a wrong secret and that of the last but one, from another network",
        "secret 98",
        "secret 28",
    ),
    (
        "a wrong secret and that of the admitted caller",
        "secret 98",
        "secret 29",
    ),
];

fn main() -> Fallible<()> {
    // `cargo test --benches` also runs this.
    let samples = if std::env::args().any(|argument| argument == "--bench") {
        SAMPLES
    } else {
        2_000
    };
    for count in [1, 10, 1000] {
        let callers = callers(count)?;
        let unknown = headers("an unknown secret");
        let start = Instant::now();
        for _ in 0..samples / 10 {
            black_box(identify(&callers, &unknown)).ok();
        }
        let each = start.elapsed().as_secs_f64() * 1e9 / (samples / 10) as f64;
        println!("{count:>5} callers: {each:.0} ns per request");
    }
    let signer = Signer::random()?;
    let token_callers = callers(1)?;
    let caller = token_callers.get(0).ok_or("a caller")?;
    let token = signer.issue(
        Some(&caller.name),
        caller.secrets.first(),
        Clock::SYSTEM.now(),
        Duration::from_hours(1),
    )?;
    let token_headers = HeaderMap::from_iter([(
        AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {}", *token))?,
    )]);
    let start = Instant::now();
    for _ in 0..samples / 10 {
        let credentials = PresentedCredentials::read(&token_headers)?;
        black_box(token_callers.admit(&credentials, peer(), &signer, Clock::SYSTEM)).ok();
    }
    let each = start.elapsed().as_secs_f64() * 1e9 / (samples / 10) as f64;
    println!("a gateway token: {each:.0} ns per request");
    let callers = callers(20)?;
    for (description, one, other) in COMPARISONS {
        let (difference, t) = compare(&callers, [one, other], samples);
        println!("{difference:>6.2} ns, t = {t:>6.2}: {description}");
    }
    Ok(())
}

/// Returns callers with secrets, of which only the last permits [`CLIENT_ADDRESS`].
fn callers(count: usize) -> Fallible<Callers> {
    let caller = |number: usize| -> Fallible<Caller> {
        let network = if number + 1 == count {
            "10.0.0.0/8"
        } else {
            "192.0.2.0/24"
        };
        Ok(Caller {
            name: format!("caller-{number}"),
            secrets: vec![Sha256::of(format!("secret {}", number + 10).as_bytes())],
            networks: vec![network.parse()?],
            certificate: None,
            rules: Rules::default(),
            max_concurrent: None,
            max_per_second: None,
            mode: Mode::Enforce,
        })
    };
    Ok(Callers::new(
        (0..count).map(caller).collect::<Fallible<_>>()?,
    ))
}

fn headers(secret: &str) -> HeaderMap {
    let value = HeaderValue::from_str(secret).unwrap_or(HeaderValue::from_static(""));
    HeaderMap::from_iter([(X_API_KEY, value)])
}

fn identify(callers: &Callers, headers: &HeaderMap) -> Result<Identity, ()> {
    let credentials = PresentedCredentials::read(headers).map_err(drop)?;
    callers.identify(&credentials, peer()).map_err(drop)
}

fn peer() -> PeerIdentity<'static> {
    PeerIdentity {
        address: Some(IpAddr::from(CLIENT_ADDRESS)),
        certificate: None,
    }
}

/// Returns how many nanoseconds longer the first secret takes than the second, and Welch's t of the
/// difference.
fn compare(callers: &Callers, secrets: [&str; 2], samples: usize) -> (f64, f64) {
    let requests = secrets.map(headers);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..samples {
        let which = usize::from(fastrand::bool());
        let start = Instant::now();
        black_box(identify(callers, black_box(&requests[which]))).ok();
        times[which].push(start.elapsed().as_secs_f64() * 1e9);
    }
    let [(mean_a, error_a), (mean_b, error_b)] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (
        mean_a - mean_b,
        (mean_a - mean_b) / (error_a + error_b).sqrt(),
    )
}
