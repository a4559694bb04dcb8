//! Field names that another server may take for a name that matters here.
//!
//! CGI and what descends from it (WSGI, PHP, IIS's server variables) turn both `-` and `_`, some of them every other
//! sign, into `_`: what is called `citrix_customerid` on the wire is `Citrix-CustomerId` there.

/// Names that decide who somebody is, whose data is meant, or where a message ends; without what is not a letter or
/// a digit.
const GUARDED: [&str; 25] = [
    "authorization",
    "citrixcustomerid",
    "citrixinstanceid",
    "citrixtransactionid",
    "connection",
    "contentencoding",
    "contentlength",
    "contenttype",
    "cookie",
    "customer",
    "expect",
    "forwarded",
    "host",
    "proxyauthorization",
    "te",
    "trailer",
    "transferencoding",
    "upgrade",
    "via",
    "xapikey",
    "xhttpmethod",
    "xhttpmethodoverride",
    "xmethodoverride",
    "xoriginalurl",
    "xrewriteurl",
];
/// The same for names that only begin so.
const GUARDED_FAMILY: &str = "xforwarded";

/// Whether `name` is not, but may be taken for, one of the names that matter: `x_api_key`, `authorization_`.
pub fn is_lookalike(name: &str) -> bool {
    // Nearly every name ends here.
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return false;
    }
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    letters.starts_with(GUARDED_FAMILY) || GUARDED.contains(&letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_told_from_the_names_themselves_and_from_others() {
        for name in [
            "citrix_customerid",
            "citrix_customer_id",
            "Citrix_CustomerId",
            "citrix.customerid",
            "authorization_",
            "_authorization",
            "x_api_key",
            "x_forwarded_for",
            "x_forwarded-anything",
            "content_length",
            "transfer_encoding",
            "x_http_method_override",
            "host_",
        ] {
            assert!(is_lookalike(name), "{name}");
        }
        for name in [
            "citrix-customerid",
            "authorization",
            "x-api-key",
            "x_custom",
            "request_id",
            "accept",
            "_",
        ] {
            assert!(!is_lookalike(name), "{name}");
        }
    }
}
