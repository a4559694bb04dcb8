//! Field names that a server may mistake for a security-relevant name.
//!
//! CGI and its descendants (WSGI, PHP, IIS server variables) map `-` and `_`, and some of them
//! every other separator, to `_`. They read `citrix_customerid` as `Citrix-CustomerId`.

/// Names that authenticate, select a customer or frame a message, in lower case without separators.
const GUARDED: [&str; 35] = [
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
    "trueclientip",
    "upgrade",
    "via",
    "xapikey",
    "xclientip",
    "xclusterclientip",
    "xhost",
    "xhttpmethod",
    "xhttpmethodoverride",
    "xmethodoverride",
    "xoriginalforwardedfor",
    "xoriginalhost",
    "xoriginalmethod",
    "xoriginaluri",
    "xoriginalurl",
    "xoverrideurl",
    "xrealip",
    "xrewriteurl",
];
/// Prefix of further guarded names.
const GUARDED_PREFIX: &str = "xforwarded";

/// Returns `true` if `name` is not a guarded name but equals one without separators: `x_api_key`,
/// `authorization_`.
pub fn is_lookalike(name: &str) -> bool {
    // Nearly every name consists of letters, digits and hyphens.
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
    letters.starts_with(GUARDED_PREFIX) || GUARDED.contains(&letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_other_separators_make_a_lookalike() {
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
            "x_host",
            "x_real_ip",
            "x_original_uri",
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
