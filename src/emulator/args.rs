//! The `emulator` command.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Emulator, EmulatorError, Faults, Options, Tls, TokenFault, start};

/// Runs the built-in Citrix Cloud emulator alone.
#[derive(Clone, clap::Args)]
pub struct EmulatorArgs {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    pub listen: SocketAddr,
    /// Speak TLS with a fresh certificate for localhost, 127.0.0.1 and ::1
    #[arg(long)]
    pub tls: bool,
    /// Write the fresh certificate's CA there, as PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca_out: Option<PathBuf>,
    /// Speak TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "tls")]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The customer
    #[arg(long, value_name = "ID", default_value = "acme")]
    pub customer_id: String,
    /// The API client's id
    #[arg(long, value_name = "ID", default_value = "emulator-client")]
    pub client_id: String,
    /// The API client's secret [default: a random one]
    #[arg(long, value_name = "SECRET")]
    pub client_secret: Option<String>,
    /// The site's id, a GUID [default: a random one]
    #[arg(long, value_name = "GUID")]
    pub site_id: Option<String>,
    /// How long a token lives
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub token_lifetime: Duration,
    /// How long services take to answer
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// How the token endpoints misbehave
    #[arg(long, value_name = "FAULT", value_enum)]
    pub token_fault: Option<TokenFault>,
    /// Send no transaction ids
    #[arg(long)]
    pub no_transaction_ids: bool,
}

impl EmulatorArgs {
    fn options(&self) -> Options {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Tls::Files { certificate: certificate.clone(), key: key.clone() }
            }
            _ if self.tls => Tls::SelfSigned,
            _ => Tls::Off,
        };
        let default = Options::default();
        Options {
            listen: self.listen,
            tls,
            customer_id: self.customer_id.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone().unwrap_or(default.client_secret),
            token_lifetime: self.token_lifetime,
            site_id: self.site_id.clone().unwrap_or(default.site_id),
            faults: Faults {
                token: self.token_fault,
                latency: self.latency,
                no_transaction_ids: self.no_transaction_ids,
            },
        }
    }
}

/// Starts the emulator, says on stdout where it is and how to log in, and serves until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start, or cannot write its CA or its report.
pub async fn run(args: EmulatorArgs) -> Result<(), EmulatorError> {
    // Before the report: whoever has read it may send a signal.
    let signal = end_signal()?;
    let emulator = start(args.options()).await?;
    // Absolute, as the gateway may run elsewhere.
    let ca_out = args.ca_out.map(std::path::absolute).transpose()?;
    if let (Some(path), Some(pem)) = (&ca_out, emulator.ca_pem()) {
        let cannot_write = |source| EmulatorError::WriteCa { path: path.clone(), source };
        tokio::fs::write(path, pem).await.map_err(cannot_write)?;
    }
    let report = report(&emulator, ca_out.as_deref());
    io::stdout().write_all(report.as_bytes())?;
    io::stdout().flush()?;
    signal.await;
    emulator.stop().await;
    Ok(())
}

/// An environment file for the gateway, with everything else in comments.
fn report(emulator: &Emulator, ca: Option<&Path>) -> String {
    let Emulator { state, address, .. } = emulator;
    let (url, token_url) = (emulator.base_url(), emulator.token_url(&state.customer_id));
    let (customer, client, secret) = (&state.customer_id, &state.client_id, &state.client_secret);
    let mut environment = format!(
        "CITRIX_CUSTOMER_ID={customer}\n\
         CITRIX_CLIENT_ID={client}\n\
         CITRIX_CLIENT_SECRET={secret}\n\
         CITRIX_AUTH_PROXY_CITRIX__API_URL={url}\n\
         CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL={token_url}\n"
    );
    let mut file = format!(
        "# [citrix]\n\
         # customer_id = {customer:?}\n\
         # client_id = {client:?}\n\
         # client_secret = {secret:?}\n\
         # api_url = {url:?}\n\
         # token_url = {token_url:?}\n"
    );
    if let Some(ca) = ca {
        environment += &format!("CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE={}\n", ca.display());
        file += &format!("# [upstream]\n# ca_file = {ca:?}\n");
    }
    format!(
        "# Citrix Cloud emulator, listening on {address}\n\
         # base URL: {url}\n\
         # token URL: {token_url}\n\
         # token URL of the legacy JSON endpoint: {}\n\
         # site: {}\n\
         # counters: {url}/_emulator/stats\n\
         #\n\
         # In the gateway's environment:\n\
         {environment}\
         #\n\
         # Or in its configuration file:\n\
         {file}",
        emulator.trust_url(),
        state.site_id,
    )
}

/// Resolves at the first SIGINT or SIGTERM; both are caught from the call on.
#[cfg(unix)]
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler there is nothing to wait for, so it ends at once.
        tokio::signal::ctrl_c().await.ok();
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        emulator: EmulatorArgs,
    }

    fn parse(line: &str) -> Result<EmulatorArgs, clap::Error> {
        Command::try_parse_from(line.split(' ')).map(|command| command.emulator)
    }

    #[test]
    fn options_come_from_the_command_line() {
        let line = "emulator --tls --token-lifetime 5s --token-fault error-in-200 --latency 20ms --client-secret x==";
        let options = parse(line).unwrap().options();
        assert!(matches!(options.tls, Tls::SelfSigned));
        assert_eq!(options.token_lifetime, Duration::from_secs(5));
        assert_eq!(options.client_secret, "x==");
        let latency = Duration::from_millis(20);
        let token = Some(TokenFault::ErrorIn200);
        assert_eq!(options.faults, Faults { token, latency, no_transaction_ids: false });
    }

    #[test]
    fn tls_options_that_make_no_sense_together_are_refused() {
        for line in [
            "emulator --ca-out ca.pem",
            "emulator --tls-cert c.pem",
            "emulator --tls-key k.pem",
            "emulator --tls --tls-cert c.pem --tls-key k.pem",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn the_report_is_an_environment_file() {
        let emulator = start(Options::default()).await.unwrap();
        let report = report(&emulator, Some(Path::new("/ca.pem")));
        let lines: Vec<_> = report.lines().filter(|line| !line.starts_with('#')).collect();
        let port = emulator.address().port();
        assert_eq!(
            lines,
            [
                "CITRIX_CUSTOMER_ID=acme".to_owned(),
                "CITRIX_CLIENT_ID=emulator-client".to_owned(),
                format!("CITRIX_CLIENT_SECRET={}", emulator.client_secret()),
                format!("CITRIX_AUTH_PROXY_CITRIX__API_URL=http://127.0.0.1:{port}"),
                format!(
                    "CITRIX_AUTH_PROXY_CITRIX__TOKEN_URL=http://127.0.0.1:{port}/cctrustoauth2/acme/tokens/clients"
                ),
                "CITRIX_AUTH_PROXY_UPSTREAM__CA_FILE=/ca.pem".to_owned(),
            ]
        );
    }
}
