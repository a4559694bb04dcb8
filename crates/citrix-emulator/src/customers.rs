//! Emulated customers, their API clients and secrets (contract §1.5 and §7).

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

/// A customer of the cloud. Not `Debug`: it holds secrets.
#[derive(Clone)]
pub struct EmulatedCustomer {
    /// Id, case-insensitive.
    pub id: String,
    /// Ids of the CVAD sites; empty for a customer without DaaS.
    pub sites: Vec<String>,
    pub clients: Vec<Client>,
}

/// An API client of a customer. Not `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Client {
    /// Id, unique in the cloud.
    pub id: String,
    /// Valid secrets; several during a rotation.
    pub secrets: Vec<ClientSecret>,
}

/// A secret of an API client. Not `Debug`: it holds the value.
#[derive(Clone)]
pub struct ClientSecret {
    /// The `client_secret` of a login.
    pub value: String,
    /// Time from the emulator's start to the expiry; `None` for no expiry.
    pub lifetime: Option<Duration>,
}

impl EmulatedCustomer {
    /// Returns a customer with one random site and one client, `{id}-client`, with a random secret.
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
    /// Returns `acme` with the client `emulator-client`.
    fn default() -> Self {
        Self {
            clients: vec![Client::new("emulator-client")],
            ..Self::new("acme")
        }
    }
}

impl Client {
    /// Returns a client with one random secret.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            secrets: vec![ClientSecret::random()],
        }
    }
}

impl ClientSecret {
    /// Returns 16 random bytes in base64. Like real secrets, the value ends in `==`, which exposes
    /// clients that do not URL-encode the form (contract §1.1).
    pub fn random() -> Self {
        Self {
            value: STANDARD.encode(Uuid::new_v4().as_bytes()),
            lifetime: None,
        }
    }
}

/// A syntax error in the description of a customer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomerError {
    /// The id is missing.
    #[error("a customer begins with its id, as in contoso,client=contoso-client,secret=…")]
    NoId,
    /// An unknown part, by its position from 1. Its text is omitted: it could be a secret.
    #[error("part {0} is not site=…, client=… or secret=…")]
    Part(usize),
}

impl FromStr for ClientSecret {
    type Err = std::convert::Infallible;

    /// Parses `SECRET`, or `SECRET@TIME` for a secret that expires.
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

    /// Parses `ID[,site=GUID…][,client=ID[,secret=SECRET…]…]`. Omitted parts are as in
    /// [`EmulatedCustomer::new`]; a secret belongs to the client before it.
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
        let defaults = Self::new(id);
        if customer.sites.is_empty() {
            customer.sites = defaults.sites;
        }
        if customer.clients.is_empty() {
            customer.clients = defaults.clients;
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
    fn full_description_is_parsed() {
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
    fn omitted_parts_have_defaults() {
        let customer: EmulatedCustomer = "contoso".parse().ok().unwrap();
        assert_eq!((customer.sites.len(), customer.clients.len()), (1, 1));
        assert_eq!(customer.clients[0].id, "contoso-client");
        let customer: EmulatedCustomer = "contoso,secret=p@ss".parse().ok().unwrap();
        assert_eq!(customer.clients[0].secrets[0].value, "p@ss");
    }

    #[test]
    fn invalid_description_is_rejected_without_its_text() {
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
