//! Command line of the soak.

use std::path::PathBuf;
use std::time::Duration;

use crate::Fallible;

/// Duration, rate and the folder of the results.
pub(crate) struct Options {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// Requests per second.
    pub(crate) rate: u32,
    pub(crate) output: PathBuf,
    /// Whether overload is measured instead.
    pub(crate) is_overload: bool,
}

impl Options {
    /// Reads `--for`, `--seed`, `--rate` and `--output`, each with a value, and `overload`.
    pub(crate) fn parse(arguments: &[String]) -> Fallible<Self> {
        let mut options = Self {
            time: Duration::from_secs(60),
            seed: 1,
            rate: 200,
            output: PathBuf::from("target/soak"),
            is_overload: false,
        };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = arguments.next() {
            if name == "overload" {
                options.is_overload = true;
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} without a value"))?;
            match name.as_str() {
                "--for" => options.time = humantime::parse_duration(value)?,
                "--seed" => options.seed = value.parse()?,
                "--rate" => options.rate = value.parse()?,
                "--output" => options.output = value.into(),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}
