//! `config show`: the configuration in effect, with the origin of each value.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::{ConfigCommand, USAGE, eprint, print};
use crate::config::{self, Origin, Setting};

/// Width of a key with its value, so that most origins form a column.
const WIDTH: usize = 46;

/// Prints the configuration in TOML, with the origin of each value as a comment.
pub fn config(command: &ConfigCommand) -> ExitCode {
    let ConfigCommand::Show { config: file } = command;
    match config::effective(file.as_deref(), config::process_environment()) {
        Ok(settings) => print(text(&settings).as_bytes()),
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| eprint(&problem.to_string()));
            ExitCode::from(USAGE)
        }
    }
}

fn text(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut table = "";
    for setting in settings {
        if setting.table != table {
            let separator = if text.is_empty() { "" } else { "\n" };
            table = &setting.table;
            // Writing to a string does not fail.
            let _ = writeln!(text, "{separator}{table}");
        }
        let origin = match &setting.origin {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Variable(name) => name,
        };
        let _ = match &setting.value {
            Some(value) => {
                let line = format!("{} = {value}", setting.key);
                writeln!(text, "{line:WIDTH$} # {origin}")
            }
            None => writeln!(text, "# {} is not set", setting.key),
        };
    }
    text
}
