//! The command line. Results go to stdout, everything else to stderr; `run` prints log lines only.

pub mod admin_client;
pub mod ca;
pub mod caller;
pub mod check;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod emulator;
pub mod healthcheck;
pub mod run;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

/// Exit code: success.
pub const SUCCESS: u8 = 0;
/// Exit code: a failure at run time, such as an address in use or a failed online check.
pub const FAILURE: u8 = 1;
/// Exit code: `lifecycle.drain_timeout` expired with requests in flight.
pub const DRAIN_TIMEOUT: u8 = 2;
/// Exit code: an invalid command line or configuration (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;

/// An authenticating reverse proxy for the Citrix Cloud REST APIs.
///
/// Tools use it as their base URL. It logs in, keeps the token fresh and adds it to every request.
#[derive(Parser)]
#[command(
    name = "citrix-auth-proxy",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), ")"),
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// Run the gateway (the default command)
    Run(RunArgs),
    /// Validate the configuration and report every problem at once
    Check(CheckArgs),
    /// Start an emulated Citrix Cloud with the gateway in front of it and print commands to try
    Demo(DemoArgs),
    /// Start the emulated Citrix Cloud alone
    Emulator(Box<citrix_emulator::EmulatorArgs>),
    /// Create secrets and rules for callers
    #[command(subcommand)]
    Caller(CallerCommand),
    /// Create the certificate authority of the intercept listener
    #[command(subcommand)]
    Ca(CaCommand),
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Exit with 0 if the gateway is ready, for containers without a shell
    Healthcheck(HealthcheckArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Configuration file [default: the environment alone]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// Configuration file [default: the environment alone]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also connect and log in, and report what fails
    #[arg(long)]
    pub online: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Output format of `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Plain text
    Text,
    /// One JSON object
    Json,
}

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Address of the gateway; port 0 selects an ephemeral port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
}

/// Subcommands of `caller`.
#[derive(clap::Subcommand)]
pub enum CallerCommand {
    /// Generate a secret; print it once, with the configuration block for it
    New {
        /// Name of the caller in logs and metrics
        #[arg(value_parser = caller::name)]
        name: String,
    },
    /// Print a configuration block that permits the observed requests of a caller in mode "observe"
    Suggest(SuggestArgs),
    /// List the callers of the running gateway, and when each of their secrets was last used
    List(OperatorArgs),
}

/// Subcommands of `ca`.
#[derive(clap::Subcommand)]
pub enum CaCommand {
    /// Create an authority for Citrix's domains; print how clients trust it
    New(NewCaArgs),
}

/// Arguments of `ca new`.
#[derive(clap::Args)]
pub struct NewCaArgs {
    /// Folder for ca.pem, ca.key and ca-root.pem; existing files are not overwritten
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Further domain of the authority, for hosts of your routes; can be repeated
    #[arg(long = "domain", value_name = "DOMAIN", value_parser = ca::domain)]
    domains: Vec<String>,
}

/// Subcommands of `config`.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Print the effective configuration with the origin of each value, without secrets
    Show {
        /// Configuration file [default: the environment alone]
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Arguments of `caller suggest`.
#[derive(clap::Args)]
pub struct SuggestArgs {
    /// Name of the caller in the configuration of the running gateway
    #[arg(value_parser = caller::name)]
    name: String,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Arguments of commands that an operator sends to a running gateway.
#[derive(clap::Args)]
pub struct OperatorArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// File with the secret of the admin listener [default: the value of CITRIX_ADMIN_SECRET]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Arguments of commands that query a running gateway.
#[derive(clap::Args)]
pub struct AdminArgs {
    /// Address of the admin listener [default: 127.0.0.1:9090]
    #[arg(
        long,
        value_name = "ADDR",
        env = "CITRIX_AUTH_PROXY_ADMIN__ADDRESS",
        default_value = "127.0.0.1:9090"
    )]
    #[arg(hide_default_value = true)]
    pub admin: std::net::SocketAddr,
}

/// Arguments of `healthcheck`.
#[derive(clap::Args)]
pub struct HealthcheckArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// Repeat until the gateway is ready, for at most this time, for example 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

/// Arguments of `completions`.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Shell to complete for
    shell: clap_complete::Shell,
}

impl Cli {
    /// Parses the command line.
    ///
    /// # Errors
    /// The exit code, once the message is printed: 64 for an invalid command line, 0 for `--help`
    /// and `--version`.
    pub fn from_argv() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // A closed terminal leaves no place to report an error.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { SUCCESS })
        })
    }

    /// Returns the command; `run` is the default.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration; expected, for example, 30s".to_owned())
}

/// Prints a completion script.
pub fn completions(args: CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    let mut command = <Cli as CommandFactory>::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(&script)
}

/// Writes a result to stdout.
fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::from(SUCCESS),
        // A reader that closes the pipe early (`| head`) is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(SUCCESS),
        Err(_) => ExitCode::from(FAILURE),
    }
}

/// Writes a line to stderr.
fn eprint(text: &str) {
    // A closed stderr leaves no place to report an error.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes an error and its causes to stderr.
fn eprint_error(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Some messages include their cause.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    eprint(&text);
}
