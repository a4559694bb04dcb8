//! Parser for the response to `GET /cvad/manage/me` (contract §3).

use http::HeaderValue;
use serde_json::Value;

use citrix_wire::json::{self, member};

/// Maximum length of a site id, in bytes; Citrix's are GUIDs.
const MAX_ID_LEN: usize = 128;

/// Number of a customer's sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sites {
    /// No site: the customer has no DaaS.
    None,
    /// The id of the only site.
    One(HeaderValue),
    /// The ids of several sites, of which the caller must name one.
    Several(Vec<String>),
}

/// Returns the sites of `customer` in a response body, or of all customers if none has that id.
/// Member names are case-insensitive. Returns `None` if the body has another format.
pub fn parse(customer: &str, body: &[u8]) -> Option<Sites> {
    let body = json::parse(body)?;
    let mut customers: Vec<&Value> = member(&body, "Customers")?.as_array()?.iter().collect();
    let matches = |listed: &&Value| {
        member(listed, "Id")
            .and_then(Value::as_str)
            .is_some_and(|id| id.eq_ignore_ascii_case(customer))
    };
    if customers.iter().any(matches) {
        customers.retain(matches);
    }
    let mut ids: Vec<String> = Vec::new();
    for listed in customers {
        ids.append(&mut site_ids(listed)?);
    }
    let is_valid = |id: &String| {
        (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    if !ids.iter().all(is_valid) {
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

/// Returns the ids of a customer's sites; `None` if one has no id.
fn site_ids(customer: &Value) -> Option<Vec<String>> {
    let sites = match member(customer, "Sites") {
        None | Some(Value::Null) => return Some(Vec::new()),
        Some(sites) => sites.as_array()?,
    };
    sites
        .iter()
        .map(|site| Some(member(site, "Id")?.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &'static str) -> Option<Sites> {
        Some(Sites::One(HeaderValue::from_static(id)))
    }

    #[test]
    fn sites_of_the_customer_are_parsed() {
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
                r#"{"userId":"u","customers":[{"id":"acme","sites":[{"id":"s-1","name":"x"}]}]}"#,
                one("s-1"),
            ),
            (
                "\u{feff}\r\n{\"Customers\":[{\"Id\":\"acme\",\"Sites\":[{\"Id\":\"s-1\"}]}]}",
                one("s-1"),
            ),
            (
                r#"{"CUSTOMERS":[{"ID":"x","SITES":[{"ID":"s-1"}]},{"ID":"acme","SITES":[{"ID":"s-2"}]}]}"#,
                one("s-2"),
            ),
            (r#"{"Customers":[{"Id":"acme","Sites":{}}]}"#, None),
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
            "x".repeat(MAX_ID_LEN + 1)
        );
        assert_eq!(parse("acme", long.as_bytes()), None);
    }
}
