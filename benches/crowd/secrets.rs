//! Timing of rejections as their caller measures it: it must not depend on the secret.

use std::collections::HashMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use citrix_wire::hex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::Fallible;
use crate::callers::read_response;
use crate::gateway::Gateway;

/// Name and secret of a caller whose networks include the loopback address.
const LOCAL: (&str, &str) = ("here-1", "0123456789abcdef0123456789abcdef0123456789A");
/// Name and secret of a caller whose networks exclude it.
const REMOTE: (&str, &str) = ("else-1", "fedcba9876543210fedcba9876543210fedcba9876B");
/// Description, name and secret of the credentials sent: all of one length, all rejected with 401.
const CREDENTIALS: [(&str, &str, &str); 5] = [
    (
        "wrong",
        LOCAL.0,
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    ),
    (
        "wrong in another way",
        LOCAL.0,
        "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
    ),
    (
        "right except for its last character",
        LOCAL.0,
        "0123456789abcdef0123456789abcdef0123456789z",
    ),
    (
        "wrong, of an unknown name",
        "absent",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    ),
    ("right, from another network", REMOTE.0, REMOTE.1),
];

/// Sends `requests` requests in random order on one connection and compares the time of each kind
/// with the first.
pub(crate) async fn compare(requests: usize) -> Fallible<()> {
    let mut toml = String::new();
    for ((name, secret), network) in [(LOCAL, "127.0.0.0/8"), (REMOTE, "192.0.2.0/24")] {
        let hash = digest(&SHA256, secret.as_bytes());
        let hash = hex::encode(hash.as_ref());
        write!(
            toml,
            "[[caller]]\nname = '{name}'\nsecret_sha256 = '{hash}'\nnetworks = ['{network}']\n"
        )?;
    }
    let gateway = Gateway::start_with(&toml).await?;
    let heads = CREDENTIALS.map(|(_, name, secret)| {
        let credentials = BASE64_STANDARD.encode(format!("{name}:{secret}"));
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n")
    });
    let mut times: HashMap<usize, Vec<f64>> = HashMap::new();
    let mut socket = TcpStream::connect(gateway.address).await?;
    socket.set_nodelay(true)?;
    for _ in 0..requests {
        let which = fastrand::usize(..CREDENTIALS.len());
        let start = Instant::now();
        socket.write_all(heads[which].as_bytes()).await?;
        let status = read_response(&mut socket).await?;
        times
            .entry(which)
            .or_default()
            .push(start.elapsed().as_secs_f64() * 1e9);
        if status != 401 {
            return Err(format!("{status} for a secret that is {}", CREDENTIALS[which].0).into());
        }
    }
    let (mean, error) = summary(times.remove(&0).unwrap_or_default());
    println!(
        "wrong secret: rejected in {:.1} µs; differences from that:",
        mean / 1e3
    );
    for (which, (description, ..)) in CREDENTIALS.iter().enumerate().skip(1) {
        let (other_mean, other_error) = summary(times.remove(&which).unwrap_or_default());
        let difference = other_mean - mean;
        println!(
            "{difference:>7.0} ns, t = {:>5.2}: {description}",
            difference / (error + other_error).sqrt()
        );
    }
    Ok(())
}

/// Returns the mean of the faster nine tenths and the square of its standard error.
fn summary(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    times.truncate((times.len() * 9 / 10).max(2));
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}
