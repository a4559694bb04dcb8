//! The cost of a GET of 1 KB next to more connections and under more configuration, and of longer
//! bodies.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use crate::Fallible;
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::shapes::{CUSTOMER, Connections, caller_block, get, measure, post};
use crate::upstream::Upstream;

const POWERS: [usize; 5] = [1, 10, 100, 1000, 10_000];
/// Time without requests.
const IDLE_TIME: Duration = Duration::from_secs(20);
const BODIES: [usize; 4] = [1024, 10 * 1024, 100 * 1024, 1024 * 1024];
/// Path of a response of 1 KB.
const SMALL: &str = "/bytes/1024";

/// Prints a line for each size.
pub(crate) fn measure_all(upstream: &Upstream) -> Fallible<()> {
    for number in POWERS {
        connections(upstream, number)?;
    }
    for number in &POWERS[..4] {
        let toml = upstream.configuration_with(&customers(upstream, *number)?);
        let request = get(SMALL, &format!("Customer: c{}\r\n", number / 2));
        report(*number, "customers", &toml, &request)?;
    }
    for number in &POWERS[..4] {
        let secret = |number: usize| format!("{number:043}");
        let blocks =
            (0..*number).map(|number| caller_block(&format!("c{number}"), &secret(number)));
        let toml = upstream.configuration(&blocks.collect::<String>());
        let request = get(
            SMALL,
            &format!("{CUSTOMER}X-Api-Key: {}\r\n", secret(number / 2)),
        );
        report(*number, "callers", &toml, &request)?;
    }
    for number in &POWERS[..4] {
        let mut blocks = String::new();
        for route in 0..*number {
            write!(
                blocks,
                "[[route]]\nprefix = '/r{route}'\nupstream = '{}'\n",
                upstream.url()
            )?;
        }
        let request = get(&format!("/r{}{SMALL}", number / 2), CUSTOMER);
        report(
            *number,
            "routes",
            &upstream.configuration(&blocks),
            &request,
        )?;
    }
    for bytes in BODIES {
        let toml = upstream.configuration("");
        report(
            bytes,
            "bytes of a response",
            &toml,
            &get(&format!("/bytes/{bytes}"), CUSTOMER),
        )?;
        let upload = post("/bytes/2", "application/json", &"x".repeat(bytes));
        report(bytes, "bytes of a request", &toml, &upload)?;
    }
    Ok(())
}

/// Measures with `number` connections, all but one idle.
fn connections(upstream: &Upstream, number: usize) -> Fallible<()> {
    let mut gateway = Gateway::start(&upstream.configuration(""))?;
    let idle = idle_callers(&gateway, number - 1)?;
    let instructions = measure(&mut gateway, &get(SMALL, CUSTOMER), Connections::One)?.instructions;
    // The sweep of each second is part of what requests take, the more of it the slower they are.
    gateway.counts()?;
    thread::sleep(IDLE_TIME);
    let idle_seconds = gateway.counts()?.instructions / IDLE_TIME.as_secs();
    println!(
        "{number:>7} connections: {instructions}, and {idle_seconds} in a second without requests"
    );
    drop(idle);
    Ok(())
}

fn report(number: usize, of: &str, toml: &str, request: &[u8]) -> Fallible<()> {
    let instructions = measure(&mut Gateway::start(toml)?, request, Connections::One)?.instructions;
    println!("{number:>7} {of}: {instructions}");
    Ok(())
}

/// Returns connections on which one request was completed.
fn idle_callers(gateway: &Gateway, number: usize) -> Fallible<Vec<Caller>> {
    let open = |_| {
        let mut caller = Caller::connect(gateway.address)?;
        caller.request(&get(SMALL, CUSTOMER))?;
        Ok(caller)
    };
    (0..number).map(open).collect()
}

fn customers(upstream: &Upstream, number: usize) -> Fallible<String> {
    let mut blocks = String::new();
    for customer in 0..number {
        write!(
            blocks,
            "[[customer]]\n{}",
            upstream.customer(&format!("c{customer}"))
        )?;
    }
    Ok(blocks)
}
