//! Finding a customer by the id that a request names.

use std::cmp::Ordering;

use super::snapshot::Customer;

/// All customers of a worker.
pub struct Customers {
    /// By id, letter case aside, so that one of a thousand is found in ten comparisons.
    sorted: Vec<Customer>,
    default: Option<usize>,
}

impl Customers {
    /// `default` is the place of the default among `customers`.
    pub(super) fn new(customers: impl Iterator<Item = Customer>, default: Option<usize>) -> Self {
        let mut numbered: Vec<(usize, Customer)> = customers.enumerate().collect();
        numbered.sort_by(|(_, a), (_, b)| compare(a.id.as_bytes(), b.id.as_bytes()));
        let default = numbered
            .iter()
            .position(|(index, _)| Some(*index) == default);
        Self {
            sorted: numbered.into_iter().map(|(_, customer)| customer).collect(),
            default,
        }
    }

    /// The customer with this id, in whatever letter case.
    pub fn named(&self, id: &[u8]) -> Option<&Customer> {
        let found = self
            .sorted
            .binary_search_by(|customer| compare(customer.id.as_bytes(), id));
        self.sorted.get(found.ok()?)
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.sorted.len() > 1
    }

    /// The one meant when a request names none.
    pub fn default(&self) -> Option<&Customer> {
        self.sorted.get(self.default?)
    }
}

/// Orders ids without regard to ASCII letter case.
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
        let published = Published::first(config.live, &DialConfig::unreachable()).unwrap();
        Snapshot::new(Arc::new(published), Metrics::new(1).unwrap().worker(0))
    }

    #[test]
    fn customers_are_found_in_any_letter_case_and_nobody_else_is() {
        let ids = ["contoso", "Acme", "acme-2", "b", "ACM", "zebra_9"];
        let snapshot = snapshot(&ids, None);
        let customers = &snapshot.customers;
        for id in ids {
            for named in [
                id.to_owned(),
                id.to_ascii_uppercase(),
                id.to_ascii_lowercase(),
            ] {
                let found = customers.named(named.as_bytes()).unwrap();
                assert_eq!(found.id, id, "{named}");
            }
        }
        for named in ["", "ac", "acme-", "acme-22", "contosoo", "zebra", "\u{e9}"] {
            assert!(customers.named(named.as_bytes()).is_none(), "{named}");
        }
        assert!(customers.default().is_none());
    }

    #[test]
    fn the_default_is_the_one_that_the_configuration_says_wherever_it_is_sorted() {
        for default in ["m", "a", "z"] {
            let snapshot = snapshot(&["m", "z", "a"], Some(default));
            assert_eq!(snapshot.customers.default().unwrap().id, default);
        }
    }

    #[test]
    fn every_one_of_the_most_there_can_be_is_found_with_its_own_slot() {
        let ids: Vec<String> = (0..1000)
            .map(|number| format!("customer-{}", number * 7919 % 1000))
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let snapshot = snapshot(&ids, None);
        for (id, slot) in ids.iter().zip(&snapshot.published.slots) {
            let customer = snapshot.customers.named(id.as_bytes()).unwrap();
            assert!(
                customer.id == id && Arc::ptr_eq(&customer.slot, slot),
                "{id}"
            );
        }
    }
}
