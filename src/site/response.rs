//! What `GET /cvad/manage/me` says of a customer's sites (contract §3).

use http::HeaderValue;
use serde::Deserialize;

/// The longest id that is believed; Citrix's are GUIDs.
const LONGEST_ID: usize = 128;

/// The sites of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sites {
    /// It has no DaaS.
    None,
    /// The usual case.
    One(HeaderValue),
    /// Only the caller can know which is meant.
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Me {
    customers: Option<Vec<MeCustomer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MeCustomer {
    id: Option<String>,
    sites: Option<Vec<MeSite>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MeSite {
    id: String,
}

/// The sites of `customer` in the body of an answer; of all customers there, when none has that id. `None` when the
/// body is something else.
pub fn parse(customer: &str, body: &[u8]) -> Option<Sites> {
    let mut customers = serde_json::from_slice::<Me>(body).ok()?.customers?;
    let is_it = |each: &MeCustomer| {
        each.id
            .as_deref()
            .is_some_and(|id| id.eq_ignore_ascii_case(customer))
    };
    if customers.iter().any(is_it) {
        customers.retain(is_it);
    }
    let mut ids: Vec<String> = customers
        .into_iter()
        .filter_map(|each| each.sites)
        .flatten()
        .map(|site| site.id)
        .collect();
    let fits = |id: &String| {
        (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    if !ids.iter().all(fits) {
        return None;
    }
    ids.sort();
    ids.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    Some(match &ids[..] {
        [] => Sites::None,
        [only] => Sites::One(HeaderValue::from_str(only).ok()?),
        _ => Sites::Several(ids),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &'static str) -> Option<Sites> {
        Some(Sites::One(HeaderValue::from_static(id)))
    }

    #[test]
    fn the_sites_of_the_customer_are_read() {
        let several = Sites::Several(vec!["s-1".to_owned(), "s-2".to_owned()]);
        for (body, expected) in [
            (
                r#"{"UserId":"u","Customers":[{"Id":"acme","Name":"A","Sites":[{"Id":"s-1","Name":"x"}]}]}"#,
                one("s-1"),
            ),
            (
                r#"{"Customers":[{"Id":"x","Sites":[{"Id":"s-1"}]},{"Id":"ACME","Sites":[{"Id":"s-2"}]}]}"#,
                one("s-2"),
            ),
            (
                r#"{"Customers":[{"Id":"x","Sites":[{"Id":"s-1"}]}]}"#,
                one("s-1"),
            ),
            (
                r#"{"Customers":[{"Sites":[{"Id":"s-1"},{"Id":"S-1"}]}]}"#,
                one("S-1"),
            ),
            (
                r#"{"Customers":[{"Id":"acme","Sites":[{"Id":"s-2"},{"Id":"s-1"}]}]}"#,
                Some(several),
            ),
            (
                r#"{"Customers":[{"Id":"acme","Sites":[]}]}"#,
                Some(Sites::None),
            ),
            (
                r#"{"Customers":[{"Id":"acme","Sites":null}]}"#,
                Some(Sites::None),
            ),
            (r#"{"Customers":[]}"#, Some(Sites::None)),
            (
                r#"{"Customers":[{"Id":"acme","Sites":[{"Id":"s\r\n1"}]}]}"#,
                None,
            ),
            (r#"{"Customers":[{"Id":"acme","Sites":[{"Id":""}]}]}"#, None),
            (
                r#"{"Customers":[{"Id":"acme","Sites":[{"Name":"x"}]}]}"#,
                None,
            ),
            ("{}", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(parse("acme", body.as_bytes()), expected, "{body}");
        }
        let long = format!(
            r#"{{"Customers":[{{"Sites":[{{"Id":"{}"}}]}}]}}"#,
            "x".repeat(LONGEST_ID + 1)
        );
        assert_eq!(parse("acme", long.as_bytes()), None);
    }
}
