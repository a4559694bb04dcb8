//! The server side of Citrix's token endpoints (contract §1), for the gateway's own
//! (interface §4.5).

pub mod request;
pub mod response;

use super::TokenDialect;
use crate::path_readings::PathReadings;
use crate::percent;

/// Returns the kind of token endpoint that a path addresses in one of its readings, so that no
/// request that a Citrix server may treat as a login is forwarded.
pub fn endpoint_in(path: &str, readings: &PathReadings) -> Option<TokenDialect> {
    // Some servers keep a segment that others drop: it is a customer to them.
    let is_bare = |reading: &str| reading.eq_ignore_ascii_case("/tokens/clients");
    token_endpoint(path).or_else(|| {
        readings.normalized().find_map(|reading| {
            token_endpoint(reading).or_else(|| is_bare(reading).then_some(TokenDialect::Trust))
        })
    })
}

/// Returns the kind of token endpoint that a path addresses: any path that ends with
/// `/{customer}/tokens/clients`, [`TokenDialect::Oauth2`] if `/cctrustoauth2` precedes it.
///
/// Case, escapes and a trailing slash are ignored.
pub fn token_endpoint(path: &str) -> Option<TokenDialect> {
    let path = path.strip_suffix('/').unwrap_or(path);
    // Nearly every path ends otherwise than in "s", also an escaped one.
    if !path.ends_with(['s', 'S', '3']) {
        return None;
    }
    let mut segments = path.rsplit('/');
    let matches = is(segments.next()?, "clients") && is(segments.next()?, "tokens");
    let customer = segments.next()?;
    if !matches || customer.is_empty() {
        return None;
    }
    let oauth2 = segments
        .next()
        .is_some_and(|segment| is(segment, "cctrustoauth2"));
    Some(if oauth2 {
        TokenDialect::Oauth2
    } else {
        TokenDialect::Trust
    })
}

/// Returns `true` if a segment decodes to this word, ignoring case.
fn is(segment: &str, word: &str) -> bool {
    let mut rest = segment.as_bytes();
    let matches = word.bytes().all(|expected| {
        percent::split_first(rest).is_some_and(|(byte, after)| {
            rest = after;
            byte.eq_ignore_ascii_case(&expected)
        })
    });
    matches && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_1_1_path_suffix_identifies_a_token_endpoint() {
        use TokenDialect::{Oauth2, Trust};
        for (path, endpoint) in [
            ("/cctrustoauth2/root/tokens/clients", Some(Oauth2)),
            ("/cctrustoauth2/acme/tokens/clients", Some(Oauth2)),
            (
                "/base/of/mine/cctrustoauth2/acme/tokens/clients",
                Some(Oauth2),
            ),
            (
                "/region/eu/CCTrustOAuth2/ACME/Tokens/Clients/",
                Some(Oauth2),
            ),
            ("/%63ctrustoauth2/a%20b/token%73/clients", Some(Oauth2)),
            ("/root/tokens/clients", Some(Trust)),
            ("/acme/tokens/clients/", Some(Trust)),
            ("/classic/trust/root/tokens/clients", Some(Trust)),
            ("/cctrustoauth2/x/y/tokens/clients", Some(Trust)),
            ("/cctrustoauth2/tokens/clients", Some(Trust)),
            ("/tokens/clients", None),
            ("//tokens/clients", None),
            ("/cctrustoauth2//tokens/clients", None),
            ("/root/tokens/clients/more", None),
            ("/root/tokens/client", None),
            ("/root/tokens/clients%", None),
            ("/root/tokens/client%", None),
            ("/root/tokens/clientss", None),
            ("/root/token/clients", None),
            ("/root/tokens%2Fclients", None),
            ("/", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(token_endpoint(path), endpoint, "{path}");
        }
    }
}
