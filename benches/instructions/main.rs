//! Instructions that the gateway executes per request, allocations and clock reads, counted by
//! callgrind.
//!
//! `just instructions` runs `just dist`, measures a few shapes of requests, and fails for
//! one that exceeds its budget in `budgets.toml` by more than that file says; `just budgets` records
//! what it measures. `-- growth` measures how a GET grows with connections, customers, callers, routes
//! and the size of bodies instead. `GATEWAY` names another binary.
//!
//! Only the gateway runs under valgrind, which must be installed: with one worker, one connection
//! and one request at a time, so that the count depends on neither the load nor the speed of the
//! machine. Callers and the upstream are in this process.

#![expect(clippy::print_stdout, reason = "a bench prints its results")]

mod budgets;
mod caller;
mod gateway;
mod growth;
mod profile;
mod shapes;
mod upstream;

use std::error::Error;
use std::process::ExitCode;

use budgets::Budgets;
use gateway::Gateway;
use upstream::Upstream;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo test --benches` also runs this, but nothing that is measured is built.
    if !given("--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let upstream = Upstream::start()?;
    if given("growth") {
        growth::measure_all(&upstream)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut measured = Vec::new();
    for shape in shapes::all() {
        let mut gateway = Gateway::start(&upstream.configuration(&shape.toml))?;
        let counts = shapes::measure(&mut gateway, &shape.request, shape.connections)?;
        println!(
            "{:<10} per request: {:>7} instructions, {:>3} allocations, {:>3} clock reads",
            shape.name, counts.instructions, counts.allocations, counts.clock_reads
        );
        gateway.keep_profile(shape.name)?;
        if counts.allocations == 0 || counts.clock_reads == 0 {
            return Err(
                "no call of the allocator or clock: their names in profile.rs are wrong".into(),
            );
        }
        measured.push((shape.name, counts));
    }
    if given("--update") {
        budgets::record(&measured)?;
        return Ok(ExitCode::SUCCESS);
    }
    let exceeded = Budgets::read()?.exceeded(&measured);
    exceeded.iter().for_each(|line| println!("{line}"));
    Ok(if exceeded.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
