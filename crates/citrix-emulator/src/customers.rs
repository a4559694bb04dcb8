//! Who may log in, and for whom (contract §1.5 and §7).

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

/// A customer of the cloud. Not `Debug`, as its clients are not.
#[derive(Clone)]
pub struct EmulatedCustomer {
    /// Its id, compared without regard to letter case.
    pub id: String,
    /// The ids of its CVAD sites; none for a customer without DaaS.
    pub sites: Vec<String>,
    /// Its API clients.
    pub clients: Vec<Client>,
}

/// An API client: an identity of its own within its customer. Not `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Client {
    /// Its id, unique in the cloud.
    pub id: String,
    /// The secrets it may log in with; several are active while they are rotated.
    pub secrets: Vec<ClientSecret>,
}

/// A secret of an API client. Not `Debug`.
#[derive(Clone)]
pub struct ClientSecret {
    /// What the client sends.
    pub value: String,
    /// How long after the emulator's start it expires; never when none.
    pub lifetime: Option<Duration>,
}

impl EmulatedCustomer {
    /// A customer with one site and one client, `{id}-client`, with one random secret.
    pub fn new(id: &str) -> Self {
        let client = Client::new(&format!("{id}-client"));
        Self {
            id: id.to_owned(),
            sites: vec![Uuid::new_v4().to_string()],
            clients: vec![client],
        }
    }
}

impl Default for EmulatedCustomer {
    /// `acme` with the client `emulator-client`.
    fn default() -> Self {
        Self {
            clients: vec![Client::new("emulator-client")],
            ..Self::new("acme")
        }
    }
}

impl Client {
    /// A client with one random secret.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            secrets: vec![ClientSecret::random()],
        }
    }
}

impl ClientSecret {
    /// Real secrets end in `==`, which trips callers that forget to url-encode the form (contract §1.1); sixteen
    /// bytes of base64 do too.
    pub fn random() -> Self {
        Self {
            value: STANDARD.encode(Uuid::new_v4().as_bytes()),
            lifetime: None,
        }
    }
}

/// Why a description of a customer or a secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomerError {
    /// It has no id.
    #[error("a customer begins with its id, as in contoso,client=contoso-client,secret=…")]
    NoId,
    /// A part that is not understood. The part is not shown: it could be a secret.
    #[error("part {0} is none of site=…, client=… and secret=…")]
    Part(usize),
}

impl FromStr for ClientSecret {
    type Err = std::convert::Infallible;

    /// `SECRET`, or `SECRET@TIME` for one that expires.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let timed = text.rsplit_once('@').and_then(|(value, lifetime)| {
            let lifetime = humantime::parse_duration(lifetime).ok()?;
            Some(Self {
                value: value.to_owned(),
                lifetime: Some(lifetime),
            })
        });
        Ok(timed.unwrap_or_else(|| Self {
            value: text.to_owned(),
            lifetime: None,
        }))
    }
}

impl FromStr for EmulatedCustomer {
    type Err = CustomerError;

    /// `ID[,site=GUID…][,client=ID[,secret=SECRET…]…]`. What is left out is as in [`EmulatedCustomer::new`]; a secret
    /// belongs to the client before it.
    fn from_str(text: &str) -> Result<Self, CustomerError> {
        let mut parts = text.split(',');
        let id = parts
            .next()
            .filter(|id| !id.is_empty() && !id.contains('='))
            .ok_or(CustomerError::NoId)?;
        let mut customer = Self {
            id: id.to_owned(),
            sites: Vec::new(),
            clients: Vec::new(),
        };
        for (number, part) in parts.enumerate() {
            match part.split_once('=') {
                Some(("site", site)) => customer.sites.push(site.to_owned()),
                Some(("client", id)) => {
                    customer.clients.push(Client {
                        id: id.to_owned(),
                        secrets: Vec::new(),
                    });
                }
                Some(("secret", secret)) => {
                    let Ok(secret) = secret.parse();
                    match customer.clients.last_mut() {
                        Some(client) => client.secrets.push(secret),
                        None => {
                            customer.clients.push(Client {
                                id: format!("{id}-client"),
                                secrets: vec![secret],
                            });
                        }
                    }
                }
                _ => return Err(CustomerError::Part(number + 2)),
            }
        }
        let made_up = Self::new(id);
        if customer.sites.is_empty() {
            customer.sites = made_up.sites;
        }
        if customer.clients.is_empty() {
            customer.clients = made_up.clients;
        }
        for client in customer
            .clients
            .iter_mut()
            .filter(|client| client.secrets.is_empty())
        {
            client.secrets.push(ClientSecret::random());
        }
        Ok(customer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_described_in_one_line() {
        let line = "contoso,site=s1,site=s2,client=a,secret=x==,secret=y==@90s,client=b";
        let customer: EmulatedCustomer = line.parse().ok().unwrap();
        assert_eq!(
            (&customer.id[..], &customer.sites[..]),
            ("contoso", &["s1".to_owned(), "s2".to_owned()][..])
        );
        let [a, b] = &customer.clients[..] else {
            panic!("two clients")
        };
        let secrets: Vec<_> = a
            .secrets
            .iter()
            .map(|secret| (&secret.value[..], secret.lifetime))
            .collect();
        assert_eq!(
            secrets,
            [("x==", None), ("y==", Some(Duration::from_secs(90)))]
        );
        assert_eq!((&b.id[..], b.secrets.len()), ("b", 1));
    }

    #[test]
    fn what_is_left_out_is_made_up() {
        let customer: EmulatedCustomer = "contoso".parse().ok().unwrap();
        assert_eq!((customer.sites.len(), customer.clients.len()), (1, 1));
        assert_eq!(customer.clients[0].id, "contoso-client");
        let customer: EmulatedCustomer = "contoso,secret=p@ss".parse().ok().unwrap();
        assert_eq!(customer.clients[0].secrets[0].value, "p@ss");
    }

    #[test]
    fn nonsense_is_refused_without_showing_it() {
        assert_eq!(
            "".parse::<EmulatedCustomer>().err(),
            Some(CustomerError::NoId)
        );
        assert_eq!(
            "id=contoso".parse::<EmulatedCustomer>().err(),
            Some(CustomerError::NoId)
        );
        assert_eq!(
            "contoso,s3cret==".parse::<EmulatedCustomer>().err(),
            Some(CustomerError::Part(2))
        );
    }
}
