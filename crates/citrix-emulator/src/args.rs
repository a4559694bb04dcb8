//! The `emulator` command.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Client, ClientSecret, EmulatedCustomer, Emulator, EmulatorError, Faults, LinkBase, Links,
    Options, PathFault, Rate, RedirectTarget, ServiceLimits, Tls, TokenFault, start,
};

/// Runs the built-in Citrix Cloud emulator without the gateway.
#[derive(Clone, clap::Args)]
pub struct EmulatorArgs {
    /// Address to listen on; port 0 selects an ephemeral port, which is printed
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    pub listen: SocketAddr,
    /// Serve TLS with a generated certificate for localhost, 127.0.0.1 and ::1
    #[arg(long)]
    pub tls: bool,
    /// File to write the CA of the generated certificate to, as PEM
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca_out: Option<PathBuf>,
    /// Serve TLS with this certificate chain (PEM)
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with = "tls"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Address of a second listener, which emulates the API gateway of another region
    #[arg(long, value_name = "ADDR")]
    pub region_listen: Option<SocketAddr>,
    /// Id of the first customer
    #[arg(long, value_name = "ID", default_value = "acme")]
    pub customer_id: String,
    /// Id of the first customer's API client
    #[arg(long, value_name = "ID", default_value = "emulator-client")]
    pub client_id: String,
    /// Secret of that client; the suffix @TIME makes it expire [default: random]
    #[arg(long, value_name = "SECRET")]
    pub client_secret: Vec<ClientSecret>,
    /// Site id of the first customer [default: random]
    #[arg(long, value_name = "GUID")]
    pub site_id: Vec<String>,
    /// Additional customers
    #[arg(
        long,
        value_name = "CUSTOMER",
        help = "Additional customer: ID[,site=GUID...][,client=ID[,secret=SECRET[@TIME]...]...]"
    )]
    pub customer: Vec<EmulatedCustomer>,
    /// Token lifetime
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub token_lifetime: Duration,
    /// Rate limit of logins, for example 10/1m [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub login_rate: Option<Rate>,
    /// Rate limit of Secure Private Access, per customer
    #[arg(long, value_name = "RATE", default_value = "1000/1m")]
    pub access_security_rate: Rate,
    /// Rate limit of Endpoint Management reports, per customer
    #[arg(long, value_name = "RATE", default_value = "5/1m")]
    pub endpoint_management_rate: Rate,
    /// Reject a wrong customer in the system log with 403 instead of 401
    #[arg(long)]
    pub system_log_forbids: bool,
    /// Write member names of the system log as Items and RecordId instead of items and recordId
    #[arg(long)]
    pub system_log_old_names: bool,
    /// Origin of absolute links: own, called (the Host of the request), or a URL
    #[arg(long, value_name = "BASE", default_value = "own")]
    pub link_base: LinkBase,
    /// Send relative links in Monitor
    #[arg(long)]
    pub relative_links: bool,
    /// Write every / in JSON as \/
    #[arg(long)]
    pub escaped_slashes: bool,
    /// Minimum size of a machine; 7230 results in pages of 7 MB
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub machine_bytes: usize,
    /// Never compress responses
    #[arg(long)]
    pub no_compression: bool,
    /// Latency of every service
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub latency: Duration,
    /// Additional latency of Monitor
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub monitor_latency: Duration,
    /// Fault of the token endpoints
    #[arg(long, value_name = "FAULT", value_enum)]
    pub token_fault: Option<TokenFault>,
    /// Faults of paths
    #[arg(
        long,
        value_name = "FAULT",
        help = "Fault of a path: PATH=FAULT[:SECONDS][*TIMES], for example /monitorodata=429-date:5*3"
    )]
    pub fault: Vec<PathFault>,
    /// Redirect Secure Private Access to another region: other (--region-listen), or a URL
    #[arg(long, value_name = "URL")]
    pub region_redirect: Option<RedirectTarget>,
    /// Freeze the sites; each becomes active this long after its activation
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub frozen: Option<Duration>,
    /// Seconds by which the cloud's clock is ahead
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub clock_skew: i64,
    /// Send no transaction ids
    #[arg(long)]
    pub no_transaction_ids: bool,
}

impl EmulatorArgs {
    fn options(&self) -> Options {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Tls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            _ if self.tls => Tls::SelfSigned,
            _ => Tls::Off,
        };
        Options {
            listen: self.listen,
            region_listen: self.region_listen,
            tls,
            customer: self.first_customer(),
            more_customers: self.customer.clone(),
            token_lifetime: self.token_lifetime,
            limits: ServiceLimits {
                logins: self.login_rate,
                access_security: self.access_security_rate,
                endpoint_management: self.endpoint_management_rate,
            },
            system_log_forbids: self.system_log_forbids,
            system_log_old_names: self.system_log_old_names,
            links: Links {
                base: self.link_base.clone(),
                relative: self.relative_links,
                escaped: self.escaped_slashes,
            },
            machine_bytes: self.machine_bytes,
            compress: !self.no_compression,
            faults: Faults {
                token: self.token_fault,
                latency: self.latency,
                monitor_latency: self.monitor_latency,
                no_transaction_ids: self.no_transaction_ids,
                paths: self.fault.clone(),
                region_redirect: self.region_redirect.clone(),
                clock_skew: self.clock_skew,
            },
        }
    }

    fn first_customer(&self) -> EmulatedCustomer {
        let mut client = Client::new(&self.client_id);
        if !self.client_secret.is_empty() {
            client.secrets.clone_from(&self.client_secret);
        }
        let mut customer = EmulatedCustomer {
            clients: vec![client],
            ..EmulatedCustomer::new(&self.customer_id)
        };
        if !self.site_id.is_empty() {
            customer.sites.clone_from(&self.site_id);
        }
        customer
    }
}

/// Starts the emulator, prints its addresses and credentials to stdout, and serves until SIGINT or
/// SIGTERM.
///
/// # Errors
/// Fails if the emulator cannot start, or if its CA or its report cannot be written.
pub async fn run(args: EmulatorArgs) -> Result<(), EmulatorError> {
    // Before the report, since a reader of the report may send a signal at once.
    let signal = end_signal()?;
    let emulator = start(args.options()).await?;
    if let Some(thaws_in) = args.frozen {
        emulator.freeze(thaws_in);
    }
    // Absolute, since the gateway may run in another directory.
    let ca_out = args.ca_out.map(std::path::absolute).transpose()?;
    if let (Some(path), Some(pem)) = (&ca_out, emulator.ca_pem()) {
        let cannot_write = |source| EmulatorError::WriteCa {
            path: path.clone(),
            source,
        };
        tokio::fs::write(path, pem).await.map_err(cannot_write)?;
    }
    let report = report(&emulator, ca_out.as_deref());
    io::stdout().write_all(report.as_bytes())?;
    io::stdout().flush()?;
    signal.await;
    emulator.stop().await;
    Ok(())
}

/// Returns an environment file for the gateway; everything else is in comments.
fn report(emulator: &Emulator, ca: Option<&Path>) -> String {
    let address = emulator.address();
    let (customer, client, secret) = (
        emulator.customer_id(),
        emulator.client_id(),
        emulator.client_secret(),
    );
    let (url, token_url) = (emulator.base_url(), emulator.token_url(customer));
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
    let region = emulator
        .region_url()
        .map(|url| format!("# other region: {url}\n"))
        .unwrap_or_default();
    let others = other_customers(emulator);
    format!(
        "# Citrix Cloud emulator, listening on {address}\n\
         # base URL: {url}\n\
         # token URL: {token_url}\n\
         # token URL of the legacy JSON endpoint: {}\n\
         # site: {}\n\
         {region}\
         {others}\
         # counters: {url}/_emulator/stats\n\
         #\n\
         # In the gateway's environment:\n\
         {environment}\
         #\n\
         # Or in its configuration file:\n\
         {file}",
        emulator.trust_url(),
        emulator.site_id(),
    )
}

/// Returns one line per client of the additional customers.
fn other_customers(emulator: &Emulator) -> String {
    let mut lines = String::new();
    for customer in emulator.customers().skip(1) {
        for client in &customer.clients {
            let secrets: Vec<_> = client
                .secrets
                .iter()
                .map(|secret| &secret.value[..])
                .collect();
            let (secrets, sites) = (secrets.join(" "), customer.sites.join(" "));
            lines += &format!(
                "# customer {}: client {} secret {secrets} site {sites}\n",
                customer.id, client.id
            );
        }
    }
    lines
}

/// Registers handlers for SIGINT and SIGTERM; the future resolves at the first signal.
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

/// Returns a future that resolves at Ctrl-C.
#[cfg(not(unix))]
fn end_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the emulator stops at once.
        tokio::signal::ctrl_c().await.ok();
    })
}

/// Parses a duration such as `90s`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "not a duration; expected, for example, 90s".to_owned())
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
    fn command_line_sets_options() {
        let line = "emulator --tls --token-lifetime 5s --token-fault error-in-200 --latency 20ms --client-secret x==";
        let options = parse(line).unwrap().options();
        assert!(matches!(options.tls, Tls::SelfSigned));
        assert_eq!(options.token_lifetime, Duration::from_secs(5));
        assert_eq!(options.customer.clients[0].secrets[0].value, "x==");
        let latency = Duration::from_millis(20);
        let token = Some(TokenFault::ErrorIn200);
        assert_eq!(
            options.faults,
            Faults {
                token,
                latency,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn empty_command_line_sets_default_options() {
        let options = parse("emulator").unwrap().options();
        let default = Options::default();
        assert_eq!(options.limits, default.limits);
        assert_eq!(options.links, default.links);
        assert_eq!(options.faults, default.faults);
        assert_eq!(
            (options.machine_bytes, options.compress),
            (default.machine_bytes, default.compress)
        );
        assert_eq!(options.customer.id, default.customer.id);
        assert_eq!(
            options.customer.clients[0].id,
            default.customer.clients[0].id
        );
    }

    #[test]
    fn command_line_sets_customers_limits_links_and_faults() {
        let line = "emulator --customer contoso,secret=y== --customer fabrikam --client-secret a --client-secret b@1h \
                    --site-id s1 --site-id s2 --login-rate 3/10s --link-base https://api-eu.cloud.com \
                    --fault /cvad=502*2 --fault /=429-body --region-redirect other --clock-skew -300";
        let options = parse(&line.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap()
            .options();
        let ids: Vec<_> = options
            .more_customers
            .iter()
            .map(|customer| &customer.id[..])
            .collect();
        assert_eq!(ids, ["contoso", "fabrikam"]);
        assert_eq!(
            (
                options.customer.clients[0].secrets.len(),
                options.customer.sites.len()
            ),
            (2, 2)
        );
        assert_eq!(
            options.limits.logins,
            Some(Rate {
                count: 3,
                per: Duration::from_secs(10)
            })
        );
        assert_eq!(
            options.links.base,
            LinkBase::Origin("https://api-eu.cloud.com".to_owned())
        );
        assert_eq!(
            (options.faults.paths.len(), options.faults.clock_skew),
            (2, -300)
        );
        assert_eq!(options.faults.region_redirect, Some(RedirectTarget::Other));
    }

    #[test]
    fn conflicting_tls_options_are_rejected() {
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
    async fn report_is_an_environment_file() {
        let emulator = start(Options::default()).await.unwrap();
        let report = report(&emulator, Some(Path::new("/ca.pem")));
        let lines: Vec<_> = report
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
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
