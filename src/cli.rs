//! The command line. Results go to stdout, everything else to stderr; `run` prints log lines only.

pub mod admin_client;
pub mod caller;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod emulator;
pub mod healthcheck;
pub mod run;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Everything is done.
pub const DONE: u8 = 0;
/// Something failed while running: an address in use, a login of `check --online`.
pub const FAILED: u8 = 1;
/// The drain's deadline passed with requests in flight.
pub const CUT_OFF: u8 = 2;
/// The command line or the configuration is wrong (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;

/// An authenticating reverse proxy for the Citrix Cloud REST APIs.
///
/// Legacy tools point at it as their base URL; it logs in, keeps the token fresh, and puts it on every request.
#[derive(Parser)]
#[command(
    name = "citrix-auth-proxy",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What the program can be asked to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run the gateway (what happens without a command, too)
    Run(RunArgs),
    /// Check the configuration and report every problem at once
    Check(CheckArgs),
    /// Start an emulated Citrix Cloud and the gateway in front of it, and print what to try
    Demo(DemoArgs),
    /// Start the emulated Citrix Cloud alone
    Emulator(Box<citrix_emulator::EmulatorArgs>),
    /// Make what a caller of the gateway needs
    #[command(subcommand)]
    Caller(CallerCommand),
    /// Exit with 0 when the gateway is ready, for containers without a shell
    Healthcheck(AdminArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// The configuration; without it, everything comes from the environment
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// The configuration; without it, everything comes from the environment
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Connect and log in as well, and say what is in the way
    #[arg(long)]
    pub online: bool,
    /// Lines for people, or one JSON object for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines.
    Text,
    /// One object.
    Json,
}

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Where the gateway listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
}

/// What can be made for a caller.
#[derive(clap::Subcommand)]
pub enum CallerCommand {
    /// Make a secret; print it once, with the block for the configuration
    New {
        /// What the caller is called in logs and metrics
        #[arg(value_parser = caller::name)]
        name: String,
    },
    /// Print a block for the configuration that allows what a caller in mode "observe" was seen to do
    Suggest(SuggestArgs),
}

/// Arguments of `caller suggest`.
#[derive(clap::Args)]
pub struct SuggestArgs {
    /// The caller's name in the configuration of the running gateway
    #[arg(value_parser = caller::name)]
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
    /// A file with the admin listener's secret, where it has one. Without it, the secret itself is taken from
    /// CITRIX_ADMIN_SECRET
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Where a running gateway is asked.
#[derive(clap::Args)]
pub struct AdminArgs {
    /// The admin listener [default: 127.0.0.1:9090]
    #[arg(
        long,
        value_name = "ADDR",
        env = "CITRIX_AUTH_PROXY_ADMIN__ADDRESS",
        default_value = "127.0.0.1:9090"
    )]
    #[arg(hide_default_value = true)]
    pub admin: std::net::SocketAddr,
}

/// Arguments of `completions`.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// With the code to exit with: 64 after a mistake, 0 after `--help` and `--version`. What is to be said has
    /// been printed.
    pub fn from_argv() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // A closed terminal is nobody to complain to.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { DONE })
        })
    }

    /// The command, `run` when none was given.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// Prints a completion script.
pub fn completions(args: CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    let mut command = <Cli as CommandFactory>::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    say(&script)
}

/// Writes a result to stdout.
fn say(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(DONE),
        // A reader that had enough (`| head`) is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(DONE),
        Err(_) => ExitCode::from(FAILED),
    }
}

/// Writes a complaint to stderr.
fn complain(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes an error to stderr, with what caused it.
fn complain_of(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Some messages say their cause themselves.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    complain(&text);
}
