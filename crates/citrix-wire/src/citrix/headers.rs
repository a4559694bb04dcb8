//! Header fields of Citrix Cloud (contract §3).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::legacy;
use crate::hop_by_hop;
use crate::known_fields::KnownFields;
use crate::lookalikes::is_lookalike;
use crate::path::first_segment;
use crate::path_readings::PathReadings;

/// Customer of a request; required by every service of the API gateway.
pub const CITRIX_CUSTOMER_ID: HeaderName = HeaderName::from_static("citrix-customerid");
/// Site of a CVAD (DaaS) request.
pub const CITRIX_INSTANCE_ID: HeaderName = HeaderName::from_static("citrix-instanceid");
/// Old name of [`CITRIX_CUSTOMER_ID`], of the OData endpoints retired in 2023.
pub const CUSTOMER: HeaderName = HeaderName::from_static("customer");
/// Transaction id of newer services, in requests and responses.
pub const CITRIX_TRANSACTION_ID: HeaderName = HeaderName::from_static("citrix-transactionid");
/// Transaction id of the trust service and the classic hosts.
pub const X_CWS_TRANSACTION_ID: HeaderName = HeaderName::from_static("x-cws-transactionid");
/// Transaction id of System Log and Licensing.
pub const CC_TRANSACTION_ID: HeaderName = HeaderName::from_static("cc-transactionid");

/// All names of transaction ids in Citrix's responses.
static TRANSACTION_IDS: [HeaderName; 3] = [
    CITRIX_TRANSACTION_ID,
    X_CWS_TRANSACTION_ID,
    CC_TRANSACTION_ID,
];

/// Returns the transaction ids of a response, one for each name; of a repeated field the first. One pass costs less
/// than three lookups.
pub fn transaction_ids(headers: &HeaderMap) -> [Option<HeaderValue>; 3] {
    let mut found = [const { None }; 3];
    for (name, value) in headers {
        if let Some(index) = TRANSACTION_IDS.iter().position(|id| id == name) {
            found[index].get_or_insert_with(|| value.clone());
        }
    }
    found
}

/// Returns `true` if a caller's field is not forwarded to Citrix (interface §4.1): credentials for
/// the gateway, fields with a client's address, which proxies add, and those with which frameworks
/// override method, path or host.
pub fn is_gateway_only(name: &HeaderName) -> bool {
    KnownFields::of_name(name).has(KnownFields::GATEWAY_ONLY)
}

/// Returns `true` for a value that counts as absent: a setting left empty (interface §4.1).
pub fn is_empty(value: &HeaderValue) -> bool {
    value.as_bytes().trim_ascii().is_empty()
}

/// Removes the empty fields of a name. Returns `true` if another one is left.
pub fn remove_empty(headers: &mut HeaderMap, name: &HeaderName) -> bool {
    let fields = headers.get_all(name);
    if !fields.iter().any(is_empty) {
        return fields.iter().next().is_some();
    }
    let named: Vec<HeaderValue> = fields
        .iter()
        .filter(|value| !is_empty(value))
        .cloned()
        .collect();
    headers.remove(name);
    for value in &named {
        headers.append(name.clone(), value.clone());
    }
    !named.is_empty()
}

/// Returns `true` if a field of Citrix's response is not forwarded to the caller (interface §4.2):
/// policies that hold for all of Citrix's host name, not for the gateway's, which several upstreams
/// share; permissions for pages of other sites; and fields of the gateway.
pub fn is_upstream_only(name: &HeaderName) -> bool {
    KnownFields::of_name(name).has(KnownFields::UPSTREAM_ONLY)
}

/// Removes trailer fields of a response that would not be forwarded unchanged as header fields, or
/// that are not permitted in trailers: hop-by-hop, framing, authentication, control and content
/// fields (RFC 9110 section 6.5.1).
pub fn retain_response_trailers(trailers: &mut HeaderMap) {
    hop_by_hop::remove_with(trailers, |name| {
        hop_by_hop::is_hop_by_hop(name)
            || is_upstream_only(name)
            || matches!(
                name.as_str(),
                "age"
                    | "authorization"
                    | "cache-control"
                    | "content-encoding"
                    | "content-length"
                    | "content-location"
                    | "content-range"
                    | "content-type"
                    | "expires"
                    | "host"
                    | "link"
                    | "location"
                    | "retry-after"
                    | "set-cookie"
                    | "vary"
                    | "www-authenticate"
            )
    });
}

/// Removes trailer fields that would not be forwarded as header fields, that the gateway sets
/// itself, or that are not permitted in trailers: hop-by-hop, framing, routing and content fields
/// (RFC 9110 section 6.5.1).
pub fn retain_allowed_trailers(trailers: &mut HeaderMap) {
    let set_by_gateway = [
        CITRIX_CUSTOMER_ID,
        CITRIX_INSTANCE_ID,
        CITRIX_TRANSACTION_ID,
    ];
    let forbidden: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| {
            is_gateway_only(name)
                || is_lookalike(name.as_str())
                || hop_by_hop::is_hop_by_hop(name)
                || set_by_gateway.contains(name)
                || matches!(
                    name.as_str(),
                    "content-length" | "content-type" | "content-encoding" | "host" | "cookie"
                )
        })
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// Returns the customer that a caller's path names, for services with the customer in the path
/// (interface §4.1, contract §4). Prefixes of the gateway are resolved.
pub fn customer_in_path(path: &str) -> Option<&str> {
    let (service, rest) = first_segment(path)?;
    let is = |name: &str| service.eq_ignore_ascii_case(name);
    if is("direct") {
        customer(rest)
    } else if is("classic") {
        // Each classic host serves its description below `swagger`.
        customer(first_segment(rest)?.1).filter(|name| !name.eq_ignore_ascii_case("swagger"))
    } else if is("region") {
        customer_in_service_path(first_segment(rest)?.1)
    } else if is("adm") || is("catalogs") {
        customer_in_service_path(rest)
    } else {
        customer_in_service_path(path)
    }
}

/// Returns all customers that a caller's path names: that of a direct host, and that of a service
/// on it.
pub(crate) fn customers_in_path(path: &str) -> impl Iterator<Item = &str> {
    let of_service = first_segment(path)
        .filter(|(service, _)| service.eq_ignore_ascii_case("direct"))
        .and_then(|(_, rest)| customer_in_service_path(first_segment(rest)?.1));
    customer_in_path(path).into_iter().chain(of_service)
}

/// Returns the customers that a path names in its readings. Prefixes of the gateway have a meaning
/// only as written, since the gateway itself reads them.
pub fn customers_in_readings<'r>(
    path: &'r str,
    readings: &'r PathReadings,
) -> impl Iterator<Item = &'r str> {
    let service = |path: &'r str| first_segment(path).map(|(service, _)| service);
    // Nearly every path has no other reading.
    let plain = readings.is_empty().then_some(path);
    let unusual = readings.normalized().flat_map(move |reading| {
        let written = service(path).unwrap_or_default();
        let is_written =
            service(reading).is_some_and(|service| service.eq_ignore_ascii_case(written));
        let (whole, behind) = if is_written {
            (Some(reading), None)
        } else {
            (None, customer_in_service_path(reading))
        };
        whole.into_iter().flat_map(customers_in_path).chain(behind)
    });
    plain.into_iter().flat_map(customers_in_path).chain(unusual)
}

/// Returns the customer that a path names in the form in which Citrix receives it.
pub fn customer_in_service_path(path: &str) -> Option<&str> {
    let (service, rest) = first_segment(path)?;
    let has_customer = [
        "catalogservice",
        "quickcreateservice",
        "resourceprovider",
        "massvc",
    ]
    .iter()
    .any(|name| service.eq_ignore_ascii_case(name));
    if has_customer {
        customer(rest)
    } else {
        legacy::customer_of_orchestration(path)
    }
}

fn customer(path: &str) -> Option<&str> {
    first_segment(path)
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_removed_and_others_kept_in_order() {
        for (values, expected) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["", "\t "], &[]),
            (&["a"], &["a"]),
            (&["", "a"], &["a"]),
            (&["a", "", "b"], &["a", "b"]),
        ] {
            let mut headers = HeaderMap::new();
            for &value in values {
                headers.append(CITRIX_INSTANCE_ID, HeaderValue::from_static(value));
            }
            let is_named = remove_empty(&mut headers, &CITRIX_INSTANCE_ID);
            let left: Vec<_> = headers.get_all(CITRIX_INSTANCE_ID).iter().collect();
            assert_eq!(
                (left.as_slice() == expected, is_named),
                (true, !expected.is_empty()),
                "{values:?}"
            );
        }
    }

    #[test]
    fn rfc9110_6_5_1_response_trailers_follow_the_header_rules() {
        let kept = ["x-sum", "etag", "server-timing", "citrix-transactionid"];
        let removed = [
            "strict-transport-security",
            "x-proxy-error",
            "x-proxy-request-id",
            "nel",
            "set-cookie",
            "location",
            "content-length",
            "keep-alive",
            "x-named",
        ];
        let mut trailers: HeaderMap = kept
            .iter()
            .chain(&removed)
            .map(|name| (HeaderName::from_static(name), "v".parse().unwrap()))
            .collect();
        trailers.insert("connection", "x-named".parse().unwrap());
        retain_response_trailers(&mut trailers);
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, kept);
    }

    #[test]
    fn customers_are_found_in_every_reading() {
        for (path, expected) in [
            ("/catalogservice/acme/x", &["acme"][..]),
            ("/catalogservice/%61cme/x", &["acme"]),
            ("/%63atalogservice/acme/x", &["acme"]),
            ("//catalogservice/acme", &["acme"]),
            ("/x/../catalogservice/acme/y", &["acme"]),
            ("/catalogservice/acme;x", &["acme"]),
            (
                "/direct/acme/catalogservice/con%74oso",
                &["acme", "contoso"],
            ),
            // Prefixes in another spelling mean nothing to the gateway.
            ("/%63lassic/registry/acme", &[]),
            ("//direct/acme/x", &[]),
            ("/classic%2Fregistry/acme", &[]),
        ] {
            let readings = PathReadings::of(path).unwrap();
            let mut found: Vec<_> = customers_in_readings(path, &readings).collect();
            found.dedup();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn contract_4_customer_is_found_in_paths_of_services_with_one() {
        let cases = [
            ("/catalogservice/acme/site/x", Some("acme")),
            ("/CatalogService/acme", Some("acme")),
            ("/quickcreateservice/contoso/tasks", Some("contoso")),
            ("/resourceprovider/acme/site/activation", Some("acme")),
            ("/resourceprovider//x", None),
            ("/catalogservice", None),
            ("/cvad/manage/me", None),
            ("/acme/catalogservice/x", None),
            ("/classic/registry/acme/resourcelocations", Some("acme")),
            ("/Classic/registry/acme", Some("acme")),
            ("/classic/registry/swagger/docs/v1", None),
            ("/classic/registry", None),
            ("/classic/registry//acme", None),
            ("/direct/acme/citrix/orchestration/api/me", Some("acme")),
            ("/direct/", None),
            ("/direct", None),
            ("/citrix/orchestration/api/acme/site/Machines", Some("acme")),
            (
                "/citrix/orchestration/api/techpreview/acme/site/Machines",
                Some("acme"),
            ),
            ("/citrix/orchestration/api/me", None),
            ("/region/eu/catalogservice/acme/x", Some("acme")),
            ("/region/eu/cvad/manage/me", None),
            ("/region/eu", None),
            ("/adm/massvc/acme/nitro/v2/config", Some("acme")),
            ("/region/eu/direct/acme", None),
            ("", None),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(customer_in_path(path), expected, "{path}");
        }
        let both: Vec<_> =
            customers_in_path("/direct/acme/citrix/orchestration/api/contoso/site/x").collect();
        assert_eq!(both, ["acme", "contoso"]);
        // Prefixes of the gateway mean nothing at Citrix.
        for path in [
            "/direct/resourcelocations",
            "/classic/a/b",
            "/region/eu/catalogservice/acme",
        ] {
            assert_eq!(customer_in_service_path(path), None, "{path}");
        }
        assert_eq!(
            customer_in_service_path("/citrix/orchestration/api/acme/site/x"),
            Some("acme")
        );
    }
}
