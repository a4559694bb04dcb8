//! `emulator`: the emulated Citrix Cloud alone.

use std::process::ExitCode;

use super::run::on_a_runtime;
use super::{FAILURE, SUCCESS, eprint_error};
use citrix_emulator::{EmulatorArgs, run};

/// Runs until a signal stops it.
pub fn emulator(args: EmulatorArgs) -> ExitCode {
    ExitCode::from(on_a_runtime(async {
        match run(args).await {
            Ok(()) => SUCCESS,
            Err(error) => {
                eprint_error(&error);
                FAILURE
            }
        }
    }))
}
