//! Citrix's token endpoints as seen from the other side: what tools send there, and what they expect back (contract
//! §1). The gateway has endpoints of its own in these shapes, for tools that insist on logging in (interface §4.5).

pub mod request;
pub mod response;

use super::TokenDialect;
use crate::percent;

/// Which token endpoint a path is that of, if any: it ends with `/{customer}/tokens/clients`, whatever the customer
/// and whatever stands before it. With `/cctrustoauth2` before it, it is the one that takes forms.
///
/// Letter case, a slash at the end and escapes make no difference: what one of Citrix's servers might take for a login
/// is none of theirs to see.
pub fn endpoint_at(path: &str) -> Option<TokenDialect> {
    let mut segments = path.strip_suffix('/').unwrap_or(path).rsplit('/');
    let ends_so = is(segments.next()?, "clients") && is(segments.next()?, "tokens");
    let customer = segments.next()?;
    if !ends_so || customer.is_empty() {
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

/// Whether a segment is this word, any letter of it perhaps in the other case or escaped.
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
    fn contract_1_1_a_login_is_known_by_the_end_of_its_path() {
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
            assert_eq!(endpoint_at(path), endpoint, "{path}");
        }
    }
}
