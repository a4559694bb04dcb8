//! `emulator`: the emulated Citrix Cloud alone.

use std::process::ExitCode;

use super::run::on_a_runtime;
use super::{DONE, FAILED, complain_of};
use citrix_emulator::{EmulatorArgs, run};

/// Serves until it is told to stop.
pub fn emulator(args: EmulatorArgs) -> ExitCode {
    ExitCode::from(on_a_runtime(async {
        match run(args).await {
            Ok(()) => DONE,
            Err(error) => {
                complain_of(&error);
                FAILED
            }
        }
    }))
}
