//! What it costs to find out whose request it is, and whether the time tells anything of the secrets.
//!
//! `cargo bench --bench callers`. Two kinds of requests are timed in random order, and Welch's t is computed over the
//! faster nine tenths of each; beyond 4.5 or so the kinds could be told apart. A secret that fits as a whole is told from
//! one that does not by some 3 ns, which is the branch to what is then said; how far one fits, or whose it is, is not.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

use std::error::Error;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use citrix_auth_proxy::callers::credentials::{PresentedCredentials, X_API_KEY};
use citrix_auth_proxy::callers::gateway_token::Signer;
use citrix_auth_proxy::callers::{Callers, PeerIdentity};
use citrix_auth_proxy::config::{Caller, Mode};
use citrix_auth_proxy::system::clock::Clock;
use citrix_auth_proxy::system::digest::Sha256;
use citrix_wire::policy::Rules;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

type Fallible<T> = Result<T, Box<dyn Error>>;

const SAMPLES: usize = 400_000;
const HERE: [u8; 4] = [10, 1, 2, 3];

fn main() -> Fallible<()> {
    // `cargo test --benches` runs it, too.
    let samples = if std::env::args().any(|argument| argument == "--bench") {
        SAMPLES
    } else {
        2_000
    };
    for count in [1, 10, 1000] {
        let callers = callers(count)?;
        let nobody = shown("nobody's secret");
        let began = Instant::now();
        for _ in 0..samples / 10 {
            black_box(identify(&callers, &nobody)).ok();
        }
        let each = began.elapsed().as_secs_f64() * 1e9 / (samples / 10) as f64;
        println!("{count:>5} callers: {each:.0} ns a request");
    }
    let signer = Signer::random()?;
    let callers_of_tokens = callers(1)?;
    let caller = callers_of_tokens.get(0).ok_or("a caller")?;
    let token = signer.issue(Some(caller), Clock::SYSTEM.now(), Duration::from_hours(1))?;
    let bearing = HeaderMap::from_iter([(
        AUTHORIZATION,
        HeaderValue::from_str(&format!("Bearer {}", *token))?,
    )]);
    let began = Instant::now();
    for _ in 0..samples / 10 {
        let shown = PresentedCredentials::read(&bearing)?;
        black_box(callers_of_tokens.admit(&shown, here(), &signer, Clock::SYSTEM)).ok();
    }
    let each = began.elapsed().as_secs_f64() * 1e9 / (samples / 10) as f64;
    println!("a gateway token: {each:.0} ns a request");
    let callers = callers(20)?;
    for (what, one, other) in [
        ("one wrong secret or another", "secret 98", "secret 99"),
        (
            "a wrong secret or the first caller's, from elsewhere",
            "secret 98",
            "secret 10",
        ),
        (
            "a wrong secret or the last caller's, from elsewhere",
            "secret 98",
            "secret 28",
        ),
        (
            "a wrong secret or the right one of who comes from here",
            "secret 98",
            "secret 29",
        ),
    ] {
        let (difference, t) = compare(&callers, [one, other], samples);
        println!("{difference:>6.2} ns, t = {t:>6.2}: {what}");
    }
    Ok(())
}

/// Callers with secrets, all but the last of them from elsewhere.
fn callers(count: usize) -> Fallible<Callers> {
    let caller = |number: usize| -> Fallible<Caller> {
        let network = if number + 1 == count {
            "10.0.0.0/8"
        } else {
            "192.0.2.0/24"
        };
        Ok(Caller {
            name: format!("caller-{number}"),
            secret: Some(Sha256::of(format!("secret {}", number + 10).as_bytes())),
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

fn shown(secret: &str) -> HeaderMap {
    let value = HeaderValue::from_str(secret).unwrap_or(HeaderValue::from_static(""));
    HeaderMap::from_iter([(X_API_KEY, value)])
}

fn identify(callers: &Callers, headers: &HeaderMap) -> Result<usize, ()> {
    let shown = PresentedCredentials::read(headers).map_err(drop)?;
    callers.identify(&shown, here()).map_err(drop)
}

fn here() -> PeerIdentity<'static> {
    PeerIdentity {
        address: Some(IpAddr::from(HERE)),
        certificate: None,
    }
}

/// How much longer the first of two secrets takes, and Welch's t of that.
fn compare(callers: &Callers, secrets: [&str; 2], samples: usize) -> (f64, f64) {
    let requests = secrets.map(shown);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..samples {
        let which = usize::from(fastrand::bool());
        let began = Instant::now();
        black_box(identify(callers, black_box(&requests[which]))).ok();
        times[which].push(began.elapsed().as_secs_f64() * 1e9);
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
