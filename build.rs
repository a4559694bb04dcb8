//! Names the commit of the build, and compresses the debug sections of optimized binaries.

use std::env;
use std::process::Command;

/// Names the commit from outside.
const COMMIT: &str = "CITRIX_AUTH_PROXY_COMMIT";
/// Names it for the code. Cargo also sets it for what it runs, where the gateway would take the
/// name above for a setting.
const BUILD_COMMIT: &str = "BUILD_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    // An image and a release name it; a clone asks git; the source alone has none.
    let named = env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    let commit = named.or_else(commit_of_clone);
    println!(
        "cargo::rustc-env={BUILD_COMMIT}={}",
        commit.as_deref().unwrap_or("unknown")
    );
    let is = |variable, value| env::var(variable).is_ok_and(|found| found == value);
    // They are three quarters of the binary. Backtraces read them compressed, too.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
    }
}

/// Returns the commit that is checked out here, and lets Cargo run this again after the next one.
fn commit_of_clone() -> Option<String> {
    // A repository around an unpacked archive has other commits.
    let top = git(&["rev-parse", "--show-prefix"])?;
    let commit = git(&["rev-parse", "--short=7", "HEAD"])?;
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if !top.is_empty() {
        return None;
    }
    println!("cargo::rerun-if-changed={log}");
    Some(commit)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
