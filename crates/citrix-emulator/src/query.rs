//! Query strings, and the continuation tokens in them.

use citrix_wire::percent;

/// A raw query string.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn new(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// Wraps the query of a path in a body.
    pub(super) fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// Iterates over the raw pairs, `name=value` or `name`, without empty ones.
    pub(super) fn pairs(self) -> impl Iterator<Item = &'a str> {
        self.0.split('&').filter(|pair| !pair.is_empty())
    }

    /// Iterates over the decoded names of the pairs.
    pub(super) fn names(self) -> impl Iterator<Item = String> + use<'a> {
        self.pairs().map(name)
    }

    /// Returns the decoded value of the first parameter `name`, case-insensitive.
    pub(super) fn get(self, name: &str) -> Option<String> {
        self.pairs().find(|pair| is_named(pair, name)).map(|pair| {
            let (_, value) = pair.split_once('=').unwrap_or((pair, ""));
            decode(value)
        })
    }

    /// Returns `true` if the parameter is `true`, case-insensitive.
    pub(super) fn is_true(self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Parses the parameter as a number; returns `Ok(None)` if it is absent.
    pub(super) fn number<T: std::str::FromStr>(self, name: &str) -> Result<Option<T>, T::Err> {
        self.get(name).map(|value| value.parse()).transpose()
    }
}

/// Returns `true` if a raw pair is the parameter `expected`.
pub(super) fn is_named(pair: &str, expected: &str) -> bool {
    name(pair).eq_ignore_ascii_case(expected)
}

fn name(pair: &str) -> String {
    decode(pair.split_once('=').map_or(pair, |(raw, _)| raw))
}

/// Decodes form encoding: `+` is a space, `%XX` a byte; invalid escapes remain unchanged.
pub(super) fn decode(text: &str) -> String {
    percent::decode_lossy(&text.replace('+', " "))
}

/// Returns a token in the production format, with every character that a careless proxy decodes,
/// encodes or truncates at (contract §4: `+ # : ~ / =`).
pub(super) fn continuation_token(collection: &str, offset: usize) -> String {
    format!("+RID:~{collection}/AJVtAA==#RT:1#TRC:{offset}#FPC:AgH/f+8=")
}

/// Returns the offset in a token of [`continuation_token`], or `None` if a byte of it has changed.
pub(super) fn continuation_offset(collection: &str, token: &str) -> Option<usize> {
    let (_, from_offset) = token.split_once("#TRC:")?;
    let offset = from_offset.split_once('#')?.0.parse().ok()?;
    (token == continuation_token(collection, offset)).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_encoding_is_decoded() {
        for (raw, text) in [
            ("a%2Bb+c", "a+b c"),
            ("%2f%3D%23", "/=#"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%C3%A9", "é"),
        ] {
            assert_eq!(decode(raw), text);
        }
    }

    #[test]
    fn changed_continuation_token_is_rejected() {
        let token = continuation_token("machines", 250);
        assert!("+#:~/=".chars().all(|awkward| token.contains(awkward)));
        assert_eq!(continuation_offset("machines", &token), Some(250));
        for spoilt in [
            token.replacen('+', " ", 1),
            token.replace('~', "%7E"),
            token[..30].to_owned(),
        ] {
            assert_eq!(continuation_offset("machines", &spoilt), None, "{spoilt}");
        }
        assert_eq!(continuation_offset("records", &token), None);
    }

    #[test]
    fn parameter_names_match_case_insensitive_and_escaped() {
        let uri: http::Uri = "/x?&%24Top=5&LIMIT=7&flag".parse().unwrap();
        let query = Query::new(&uri);
        assert_eq!(query.number("$top"), Ok(Some(5)));
        assert_eq!(query.number("limit"), Ok(Some(7)));
        assert_eq!(query.get("flag").as_deref(), Some(""));
        assert_eq!(query.get("absent"), None);
        assert!(query.number::<u32>("flag").is_err());
    }
}
