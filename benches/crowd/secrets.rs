//! Whether the time of a refusal, measured by who is refused, tells anything of a secret.

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
use crate::callers::whole_answer;
use crate::gateway::Gateway;

/// Who is configured: one from here, and one whose secret is right but who comes from elsewhere.
const HERE: (&str, &str) = ("here-1", "0123456789abcdef0123456789abcdef0123456789A");
const ELSEWHERE: (&str, &str) = ("else-1", "fedcba9876543210fedcba9876543210fedcba9876B");
/// What is shown: all of one length, and all refused with 401.
const SHOWN: [(&str, &str, &str); 5] = [
    (
        "wrong",
        HERE.0,
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    ),
    (
        "wrong, once more",
        HERE.0,
        "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
    ),
    (
        "right but for the last character",
        HERE.0,
        "0123456789abcdef0123456789abcdef0123456789z",
    ),
    (
        "wrong, of an unknown name",
        "nobody",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    ),
    ("right, from elsewhere", ELSEWHERE.0, ELSEWHERE.1),
];

/// Asks so often in random order, on one connection, and compares each kind with the first.
pub(crate) async fn compare(requests: usize) -> Fallible<()> {
    let mut toml = String::new();
    for ((name, secret), network) in [(HERE, "127.0.0.0/8"), (ELSEWHERE, "192.0.2.0/24")] {
        let hash = digest(&SHA256, secret.as_bytes());
        let hash = hex::encode(hash.as_ref());
        write!(
            toml,
            "[[caller]]\nname = '{name}'\nsecret_sha256 = '{hash}'\nnetworks = ['{network}']\n"
        )?;
    }
    let gateway = Gateway::start_with(&toml).await?;
    let asked = SHOWN.map(|(_, name, secret)| {
        let credentials = BASE64_STANDARD.encode(format!("{name}:{secret}"));
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n")
    });
    let mut times: HashMap<usize, Vec<f64>> = HashMap::new();
    let mut socket = TcpStream::connect(gateway.address).await?;
    socket.set_nodelay(true)?;
    for _ in 0..requests {
        let which = fastrand::usize(..SHOWN.len());
        let began = Instant::now();
        socket.write_all(asked[which].as_bytes()).await?;
        let status = whole_answer(&mut socket).await?;
        times
            .entry(which)
            .or_default()
            .push(began.elapsed().as_secs_f64() * 1e9);
        if status != 401 {
            return Err(format!("{status} for a secret that is {}", SHOWN[which].0).into());
        }
    }
    let (mean, error) = summary(times.remove(&0).unwrap_or_default());
    println!(
        "a secret that is wrong: refused in {:.1} µs; compared with that",
        mean / 1e3
    );
    for (which, (what, ..)) in SHOWN.iter().enumerate().skip(1) {
        let (other_mean, other_error) = summary(times.remove(&which).unwrap_or_default());
        let difference = other_mean - mean;
        println!(
            "{difference:>7.0} ns, t = {:>5.2}: {what}",
            difference / (error + other_error).sqrt()
        );
    }
    Ok(())
}

/// Mean of the faster nine tenths, and the square of its standard error.
fn summary(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    times.truncate((times.len() * 9 / 10).max(2));
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}
