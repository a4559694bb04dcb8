//! `training BINARY [ROUNDS]` sends the traffic that trains a profile-guided build to an instrumented
//! gateway. It exits with 1 if a response is wrong: a profile of failures would be worthless.

#![expect(clippy::print_stdout, reason = "the program prints its result")]

use std::path::Path;

use training::Fallible;

/// Some twenty thousand requests.
const ROUNDS: usize = 20;

fn main() -> Fallible<()> {
    let binary = std::env::args_os()
        .nth(1)
        .ok_or("usage: training BINARY [ROUNDS]")?;
    let rounds = match std::env::args().nth(2) {
        Some(rounds) => rounds.parse()?,
        None => ROUNDS,
    };
    let sent = training::train(Path::new(&binary), rounds)?;
    println!("trained with {sent} requests");
    Ok(())
}
