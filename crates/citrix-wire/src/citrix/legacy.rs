//! Retired addresses and their present counterparts (interface §4.3, contract §3, §4).
//!
//! | family | retired | present |
//! |---|---|---|
//! | `/Citrix/Monitor/OData` | `{customer}.xendesktop.net/Citrix/Monitor/OData/v4/Data/…` | `/monitorodata/…` |
//! | `/citrix/orchestration/api` | `{customer}.xendesktop.net/citrix/orchestration/api/{customer}/{site}/…`, also below `techpreview`; `v1/…` without ids | `/cvad/manage/…` |
//! | `/cvadapis` | `api.cloud.com/cvadapis/{site}/…`, `/cvadapis/me` | `/cvad/manage/…` |

use http::uri::PathAndQuery;

use super::cvad::is_without_site;
use crate::path::first_segment;

/// Families of retired addresses, as in metrics and logs.
pub const FAMILIES: [&str; 3] = [ODATA, ORCHESTRATION, PREVIEW];

const ODATA: &str = "/Citrix/Monitor/OData";
pub(super) const ORCHESTRATION: &str = "/citrix/orchestration/api";
const PREVIEW: &str = "/cvadapis";

/// The translation of a retired address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslatedTarget<'t> {
    /// The present path with the unchanged query.
    pub target: PathAndQuery,
    /// The customer in the retired path, for `Citrix-CustomerId`.
    pub customer: Option<&'t str>,
    /// The site in the retired path, for `Citrix-InstanceId`.
    pub site: Option<&'t str>,
    /// One of [`FAMILIES`].
    pub family: &'static str,
}

/// Translates a retired address, ignoring case; `None` for any other. An address whose ids have
/// escapes or other characters that differ between path and header field is not translated: Citrix
/// rejects it.
pub fn translate(target: &PathAndQuery) -> Option<TranslatedTarget<'_>> {
    let path = target.path();
    let (today, rest, ids, family) =
        if let Some(rest) = below(path, "/citrix/monitor/odata/v4/data") {
            ("/monitorodata", rest, Ids::default(), ODATA)
        } else if let Some(rest) = below(path, ORCHESTRATION) {
            let (ids, rest) = orchestration(rest)?;
            ("/cvad/manage", rest, ids, ORCHESTRATION)
        } else {
            let (site, rest) = site(below(path, PREVIEW)?)?;
            (
                "/cvad/manage",
                rest,
                Ids {
                    customer: None,
                    site,
                },
                PREVIEW,
            )
        };
    let query = target
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let target = PathAndQuery::try_from(format!("{today}{rest}{query}")).ok()?;
    Some(TranslatedTarget {
        target,
        customer: ids.customer,
        site: ids.site,
        family,
    })
}

/// Returns the customer in a path of the orchestration API, which the direct hosts still serve.
pub(super) fn customer_of_orchestration(path: &str) -> Option<&str> {
    orchestration(below(path, ORCHESTRATION)?)?.0.customer
}

/// Returns `true` if a path ends with the base of the orchestration API, without a customer.
pub fn is_orchestration(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.strip_suffix("/techpreview")
        .unwrap_or(&path)
        .ends_with(ORCHESTRATION)
}

#[derive(Clone, Copy, Default)]
struct Ids<'p> {
    customer: Option<&'p str>,
    site: Option<&'p str>,
}

/// Splits the ids off a path below the orchestration API.
fn orchestration(rest: &str) -> Option<(Ids<'_>, &str)> {
    if let Some(rest) = below(rest, "/v1") {
        // Version 1 has no ids in its paths; the host named the customer.
        return Some((Ids::default(), rest));
    }
    let rest = below(rest, "/techpreview").unwrap_or(rest);
    let Some((customer, after)) = first(rest) else {
        return Some((Ids::default(), rest));
    };
    if is_without_site(customer) {
        return Some((Ids::default(), rest));
    }
    let (site, after) = site(after)?;
    Some((
        Ids {
            customer: Some(id(customer)?),
            site,
        },
        after,
    ))
}

/// Splits the site off a path; the outer `None` rejects an invalid id.
fn site(rest: &str) -> Option<(Option<&str>, &str)> {
    match first(rest) {
        None => Some((None, rest)),
        Some((name, _)) if is_without_site(name) => Some((None, rest)),
        // `/cvadapis/Machines`: a collection, whose site a header field or the configuration names.
        Some((name, "")) if uuid::Uuid::try_parse(name).is_err() => Some((None, rest)),
        Some((name, after)) => Some((Some(id(name)?), after)),
    }
}

/// Strips `prefix`, ignoring case. The rest is empty or begins with a slash.
pub(super) fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let (start, rest) = path.split_at_checked(prefix.len())?;
    (start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/')))
        .then_some(rest)
}

fn first(path: &str) -> Option<(&str, &str)> {
    first_segment(path).filter(|(segment, _)| !segment.is_empty())
}

/// Returns a segment that is the same in a path and a field value: unreserved characters of
/// RFC 3986, no dot segment.
fn id(segment: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (segment.bytes().all(plain) && !matches!(segment, "." | "..")).then_some(segment)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SITE: &str = "61603f15-cdf9-4c7f-99ff-91636601a795";

    fn check(target: &str, expected: Option<(&str, Option<&str>, Option<&str>, &str)>) {
        let parsed = PathAndQuery::try_from(target).unwrap();
        let found = translate(&parsed);
        let found = found
            .as_ref()
            .map(|t| (t.target.as_str(), t.customer, t.site, t.family));
        assert_eq!(found, expected, "{target}");
    }

    #[test]
    fn interface_4_3_retired_odata_becomes_monitorodata() {
        for (target, today) in [
            (
                "/Citrix/Monitor/OData/v4/Data/Machines",
                "/monitorodata/Machines",
            ),
            (
                "/citrix/monitor/odata/V4/data/Machines(1)/$x",
                "/monitorodata/Machines(1)/$x",
            ),
            ("/Citrix/Monitor/OData/v4/Data", "/monitorodata"),
            ("/Citrix/Monitor/OData/v4/Data/", "/monitorodata/"),
            (
                "/Citrix/Monitor/OData/v4/Data?a=%27b%27+c~&&",
                "/monitorodata?a=%27b%27+c~&&",
            ),
            (
                "/Citrix/Monitor/OData/v4/Data/a%2Fb//../x?",
                "/monitorodata/a%2Fb//../x?",
            ),
        ] {
            check(target, Some((today, None, None, ODATA)));
        }
    }

    #[test]
    fn interface_4_3_retired_orchestration_becomes_cvad_with_ids() {
        let ids = (Some("acme"), Some(SITE));
        for (path, today, (customer, site)) in [
            (
                format!("/acme/{SITE}/Machines?limit=2#"),
                "/cvad/manage/Machines?limit=2",
                ids,
            ),
            (
                format!("/acme/{SITE}/Machines/1/$reboot?a?b"),
                "/cvad/manage/Machines/1/$reboot?a?b",
                ids,
            ),
            (
                format!("/techpreview/acme/{SITE}/DeliveryGroups/x"),
                "/cvad/manage/DeliveryGroups/x",
                ids,
            ),
            (format!("/TechPreview/acme/{SITE}"), "/cvad/manage", ids),
            (
                "/acme/site1/Machines".to_owned(),
                "/cvad/manage/Machines",
                (Some("acme"), Some("site1")),
            ),
            (
                "/acme/Machines".to_owned(),
                "/cvad/manage/Machines",
                (Some("acme"), None),
            ),
            (
                "/acme/Sites/cloudxdsite".to_owned(),
                "/cvad/manage/Sites/cloudxdsite",
                (Some("acme"), None),
            ),
            ("/acme".to_owned(), "/cvad/manage", (Some("acme"), None)),
            ("/me".to_owned(), "/cvad/manage/me", (None, None)),
            (
                "/techpreview/Me".to_owned(),
                "/cvad/manage/Me",
                (None, None),
            ),
            (
                "/ping/status".to_owned(),
                "/cvad/manage/ping/status",
                (None, None),
            ),
            (
                "/v1/deliverygroups".to_owned(),
                "/cvad/manage/deliverygroups",
                (None, None),
            ),
            (
                format!("/V1/deliverygroups/{SITE}"),
                "/cvad/manage/deliverygroups/61603f15-cdf9-4c7f-99ff-91636601a795",
                (None, None),
            ),
            (String::new(), "/cvad/manage", (None, None)),
        ] {
            for base in ["/citrix/orchestration/api", "/Citrix/Orchestration/API"] {
                check(
                    &format!("{base}{path}"),
                    Some((today, customer, site, ORCHESTRATION)),
                );
            }
        }
    }

    #[test]
    fn interface_4_3_preview_becomes_cvad_with_site() {
        for (target, today, site) in [
            (
                format!("/cvadapis/{SITE}/MachineCatalogs/a%20b?x"),
                "/cvad/manage/MachineCatalogs/a%20b?x",
                Some(SITE),
            ),
            (format!("/CVADAPIs/{SITE}"), "/cvad/manage", Some(SITE)),
            ("/cvadapis/me".to_owned(), "/cvad/manage/me", None),
            ("/cvadapis/Sites".to_owned(), "/cvad/manage/Sites", None),
            (
                "/cvadapis/sites/1/x".to_owned(),
                "/cvad/manage/sites/1/x",
                None,
            ),
            (
                "/cvadapis/Machines".to_owned(),
                "/cvad/manage/Machines",
                None,
            ),
            ("/cvadapis".to_owned(), "/cvad/manage", None),
            ("/cvadapis/".to_owned(), "/cvad/manage/", None),
        ] {
            check(&target, Some((today, None, site, PREVIEW)));
        }
    }

    #[test]
    fn other_address_or_escaped_id_is_not_translated() {
        for target in [
            "/",
            "/?/cvadapis/me",
            "/cvadapisx/me",
            "/x/cvadapis/me",
            "//cvadapis/me",
            "/cvad%61pis/me",
            "/Citrix/Monitor/OData/v3/Data/Machines",
            "/Citrix/Monitor/OData/v4/Database",
            "/Citrix/Monitor",
            "/citrix/orchestration",
            "/citrix/orchestration/apis/me",
            "/citrix/orchestration/api/ac%6de/site/x",
            "/citrix/orchestration/api/../site/x",
            "/citrix/orchestration/api/acme/si%20te/x",
            "/cvadapis/../me/x",
            "/cvadapis/a@b/x",
            "/monitorodata/Machines",
            "/cvad/manage/me",
        ] {
            check(target, None);
        }
    }

    proptest! {
        #[test]
        fn rest_of_path_and_query_are_unchanged(
            rest in "(/[!-\"$->@-~]{0,5}){0,4}", query in proptest::option::of("[!-\"$-~]{0,20}"),
        ) {
            let query = query.map_or(String::new(), |query| format!("?{query}"));
            let retired = format!("/cvadapis/{SITE}{rest}{query}");
            if let Ok(target) = PathAndQuery::try_from(retired.as_str()) {
                let translated = translate(&target).unwrap();
                prop_assert_eq!(translated.target.as_str(), format!("/cvad/manage{rest}{query}"));
            }
        }
    }
}
