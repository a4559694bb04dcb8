//! Redirects to the API gateway of another region (interface §4.4, contract §1.6).

use super::headers::customer_in_service_path;
use super::login::token_endpoint;
use crate::path::{covers, first_segment};
use crate::path_readings::PathReadings;

/// Returns `true` if a request may be sent to `new` in place of `old`: the same path behind the
/// service, which only the service's own segment may replace; no login and no batch, which the
/// gateway treats in other ways; no other customer.
///
/// Each path is given with the base path of its gateway.
pub fn may_replace(old: (&str, &str), new: (&str, &str), customer: &str) -> bool {
    let (Some(old), Some(new)) = (below(old), below(new)) else {
        return false;
    };
    let (Some((old_service, old_rest)), Some((new_service, new_rest))) =
        (first_segment(old), first_segment(new))
    else {
        return false;
    };
    old_rest == new_rest
        && (old_service == new_service || !old_service.is_empty() && is_plain(new_service))
        && !is_special(new)
        && customer_in_service_path(new).is_none_or(|named| named.eq_ignore_ascii_case(customer))
}

/// Returns the part of a path below the base path of its gateway.
fn below<'p>((path, base): (&'p str, &str)) -> Option<&'p str> {
    covers(base, path).then(|| &path[base.len()..])
}

/// Returns `true` for a segment that every server reads alike: unreserved characters of RFC 3986,
/// no dot segment.
fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte);
    segment.bytes().all(plain) && !segment.bytes().all(|byte| byte == b'.')
}

/// Returns `true` if a server may read the path as that of a login or a batch.
fn is_special(path: &str) -> bool {
    let Ok(readings) = PathReadings::of(path) else {
        return true;
    };
    readings.with(path).any(|reading| {
        let mut before = "";
        token_endpoint(reading).is_some()
            || reading.split('/').any(|name| {
                let is = |word: &str| name.eq_ignore_ascii_case(word);
                let ends_login = is("clients") && before.eq_ignore_ascii_case("tokens");
                before = name;
                ends_login || is("cctrustoauth2") || is("$batch") || is("..")
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_4_4_only_the_service_may_change() {
        for (old, new) in [
            (
                "/accessSecurity/sessionPolicy",
                "/feature-data_accesssecurity/sessionPolicy",
            ),
            (
                "/accessSecurity/sessionPolicy",
                "/accessSecurity/sessionPolicy",
            ),
            ("/accessSecurity", "/feature-data"),
            ("/accessSecurity/", "/feature-data/"),
            ("/cvad/manage/me", "/cvad/manage/me"),
            ("/a/%24x/b%2Fc//d", "/b/%24x/b%2Fc//d"),
            ("/%61/x", "/%61/x"),
            ("/catalogservice/acme/x", "/catalogservice/acme/x"),
            ("/x/ACME/y", "/catalogservice/ACME/y"),
            ("/", "/"),
        ] {
            assert!(may_replace((old, ""), (new, ""), "acme"), "{old} {new}");
        }
        for (old, new) in [
            ("/accessSecurity/x", "/feature-data/y"),
            ("/accessSecurity/x", "/feature-data/x/"),
            ("/accessSecurity/x", "/feature-data/v2/x"),
            ("/accessSecurity/x", "/x"),
            ("/accessSecurity/x", "/"),
            ("/accessSecurity", "/feature-data/x"),
            ("/accessSecurity/x", "//x"),
            ("/accessSecurity/x", "/../x"),
            ("/accessSecurity/x", "/a%2Fb/x"),
            ("/accessSecurity/x", "/a;b/x"),
            ("/accessSecurity/x", "/a\\b/x"),
            ("/accessSecurity/%78", "/feature-data/x"),
            ("/", "/x"),
            ("//x", "/a/x"),
            ("/x/contoso/y", "/catalogservice/contoso/y"),
        ] {
            assert!(!may_replace((old, ""), (new, ""), "acme"), "{old} {new}");
        }
    }

    #[test]
    fn base_paths_of_gateways_are_no_part_of_the_service() {
        for (old, new, expected) in [
            (("/base/a/x", "/base"), ("/b/x", ""), true),
            (("/a/x", ""), ("/eu/b/x", "/eu"), true),
            (("/base/a/x", "/base"), ("/eu/a/x", "/eu"), true),
            (("/a/x", ""), ("/eu/b/x", ""), false),
            (("/a/x", ""), ("/b/x", "/eu"), false),
            (("/a/x", ""), ("/euro/x", "/eu"), false),
            (("/base", "/base"), ("/eu", "/eu"), false),
        ] {
            assert_eq!(may_replace(old, new, "acme"), expected, "{old:?} {new:?}");
        }
    }

    #[test]
    fn logins_and_batches_are_never_the_target() {
        for path in [
            "/cvad/manage/$batch",
            "/cvad/manage/%24batch",
            "/cvad/manage/$BATCH/",
            "/cvad/manage/$batch;x",
            "/cvad/manage/x%2F$batch",
            "/cvad/manage/x\\$batch",
            "/acme/tokens/clients",
            "/x/acme/tokens/clients/",
            "/x/acme/tokens%2Fclients",
            "/x/acme/tokens/clients;y",
            "/x/acme/tokens//clients",
            "/x/acme/tokens/./clients",
            "/x/acme/tokens/y/../clients",
            "/x/acme/Tokens/%43lients/y",
            "/cctrustoauth2/acme",
            "/CCTrustOAuth2/x",
        ] {
            assert!(!may_replace((path, ""), (path, ""), "acme"), "{path}");
        }
        assert!(!may_replace(
            ("/x/acme/tokensclients", ""),
            ("/cctrustoauth2/acme/tokensclients", ""),
            "acme"
        ));
    }
}
