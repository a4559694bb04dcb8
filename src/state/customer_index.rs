//! The customers of a worker by their ids.

use std::cmp::Ordering;

use super::customer::Customer;
use super::published::PublishedCustomer;

/// The customers of a worker, sorted for binary search.
pub struct CustomerIndex {
    /// By id, regardless of case.
    sorted: Vec<Customer>,
    /// Index of the default customer in `sorted`.
    default: Option<usize>,
}

impl CustomerIndex {
    pub(super) fn new(published: &[PublishedCustomer]) -> Self {
        let mut customers: Vec<_> = published
            .iter()
            .map(|customer| (customer.is_default, Customer::new(customer)))
            .collect();
        customers.sort_by(|(_, a), (_, b)| compare(a.id.as_bytes(), b.id.as_bytes()));
        Self {
            default: customers.iter().position(|(is_default, _)| *is_default),
            sorted: customers
                .into_iter()
                .map(|(_, customer)| customer)
                .collect(),
        }
    }

    /// Returns the customer with this id, regardless of case.
    pub fn get(&self, id: &[u8]) -> Option<&Customer> {
        let found = self
            .sorted
            .binary_search_by(|customer| compare(customer.id.as_bytes(), id));
        self.sorted.get(found.ok()?)
    }

    /// Returns all customers: the default one, then the others by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Customer> {
        let others = self.sorted.iter().enumerate();
        let others = others.filter(|(index, _)| Some(*index) != self.default);
        self.default().into_iter().chain(others.map(|(_, it)| it))
    }

    /// Returns the customer of requests that name none.
    pub fn default(&self) -> Option<&Customer> {
        self.sorted.get(self.default?)
    }
}

/// Orders ids regardless of ASCII case.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.iter()
        .map(u8::to_ascii_lowercase)
        .cmp(b.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::rc::Rc;
    use std::sync::Arc;

    use crate::config;
    use crate::observe::RequestLogs;
    use crate::observe::metrics::Metrics;
    use crate::state::{Published, Snapshot};
    use crate::upstream::dial::DialConfig;

    fn snapshot(ids: &[&str], default: Option<&str>) -> Rc<Snapshot> {
        let mut text = String::new();
        for id in ids {
            let is_default = default == Some(id);
            let login = "client_id = 'c'\nclient_secret = { env = 'S' }";
            writeln!(
                text,
                "[[customer]]\ncustomer_id = '{id}'\n{login}\ndefault = {is_default}"
            )
            .unwrap();
        }
        let config = config::from_toml(&text, [("S".to_owned(), "s".to_owned())]).unwrap();
        let published = Published::initial(config.live, &DialConfig::unreachable(), None);
        Snapshot::new(
            Arc::new(published),
            Metrics::new(1).unwrap().worker(0),
            RequestLogs::embedded(),
        )
    }

    #[test]
    fn id_in_any_case_finds_only_its_customer() {
        let ids = ["contoso", "Acme", "acme-2", "b", "ACM", "zebra_9"];
        let snapshot = snapshot(&ids, None);
        let customers = &snapshot.customers;
        for id in ids {
            for named in [
                id.to_owned(),
                id.to_ascii_uppercase(),
                id.to_ascii_lowercase(),
            ] {
                let found = customers.get(named.as_bytes()).unwrap();
                assert_eq!(found.id, id, "{named}");
            }
        }
        for named in ["", "ac", "acme-", "acme-22", "contosoo", "zebra", "\u{e9}"] {
            assert!(customers.get(named.as_bytes()).is_none(), "{named}");
        }
        assert!(customers.default().is_none());
    }

    #[test]
    fn default_customer_is_found_wherever_it_sorts() {
        for default in ["m", "a", "z"] {
            let snapshot = snapshot(&["m", "z", "a"], Some(default));
            assert_eq!(snapshot.customers.default().unwrap().id, default);
        }
    }

    #[test]
    fn each_of_1000_customers_is_found_with_its_own_token() {
        let ids: Vec<String> = (0..1000)
            .map(|number| format!("customer-{}", number * 7919 % 1000))
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let snapshot = snapshot(&ids, None);
        for (id, published) in ids.iter().zip(&snapshot.published.customers) {
            let customer = snapshot.customers.get(id.as_bytes()).unwrap();
            assert!(
                customer.id == id && Arc::ptr_eq(&customer.token, &published.token),
                "{id}"
            );
        }
    }
}
