//! The conditions of a measurement.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Fallible;
use crate::cloud::Cloud;
use crate::gateway::{binary, start_ready};

/// Describes machine, gateway and store.
pub(crate) async fn describe() -> Fallible<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name| {
        let values = processors.lines().filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            (field.trim() == name).then(|| value.trim().to_owned())
        });
        values.collect::<Vec<_>>()
    };
    let model = field("model name").into_iter().next().unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let store = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let cloud = Cloud::start(Duration::ZERO).await?;
    let gateways = start_ready(1, &cloud.configuration()).await?;
    let program = gateways[0].status().await?["program"].clone();
    let text = |name: &str| program[name].as_str().unwrap_or_default().to_owned();
    Ok(format!(
        "- machine: {cores} cores ({model}), Linux {}; {}\n\
         - gateway: {} {}, commit {}, one worker, {}\n\
         - bench: commit {}\n\
         - store: {}\n\
         - date: {}",
        kernel.trim(),
        load()?,
        text("name"),
        text("version"),
        text("commit"),
        binary()?.display(),
        output("git", &["describe", "--always", "--dirty"]),
        output(&store, &["--version"]),
        text("started_at"),
    ))
}

/// Describes how busy the machine is.
pub(crate) fn load() -> Fallible<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let averages: Vec<&str> = load.split(' ').take(3).collect();
    Ok(format!("load average {}", averages.join(" ")))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    output.unwrap_or_else(|error| error.to_string())
}
