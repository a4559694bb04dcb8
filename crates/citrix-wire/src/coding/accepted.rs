//! `Accept-Encoding` (RFC 9110 section 12.5.3) of requests whose response body is rewritten.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

/// Removes codings other than [`ContentCoding`](super::ContentCoding) from `Accept-Encoding`, since
/// links in their bodies cannot be rewritten. Also removes `br` if `gzip` is acceptable: encoding
/// `br` takes twice as long.
///
/// A field without such codings is unchanged. So is a request without the field, since servers do
/// not encode then.
pub fn retain_decodable(headers: &mut HeaderMap) {
    let fields = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|field| field.to_str().ok());
    let all: Vec<_> = fields
        .flat_map(|field| field.split(','))
        .filter_map(Choice::parse)
        .collect();
    let names_gzip = all.iter().any(Choice::is_gzip);
    let accepts_gzip = all
        .iter()
        .any(|choice| !choice.excluded && (choice.is_gzip() || choice.is("*") && !names_gzip));
    let is_retained = |choice: &Choice<'_>| match choice {
        choice if choice.is_gzip() || choice.is("deflate") || choice.is("identity") => true,
        choice if choice.is("br") => choice.excluded || !accepts_gzip,
        choice => choice.is("*") && choice.excluded,
    };
    if all.iter().all(is_retained) {
        return;
    }
    let mut retained: Vec<String> = Vec::with_capacity(all.len());
    for choice in &all {
        if is_retained(choice) {
            retained.push(choice.text.to_owned());
        } else if choice.is("*") && !names_gzip {
            retained.push(choice.text.replacen('*', "gzip", 1));
        }
    }
    if retained.is_empty() {
        // Without the field, any coding is acceptable.
        retained.push("identity".to_owned());
    }
    if let Ok(value) = HeaderValue::from_str(&retained.join(", ")) {
        headers.insert(ACCEPT_ENCODING, value);
    }
}

/// One element of the list.
struct Choice<'a> {
    text: &'a str,
    name: &'a str,
    /// Its weight is zero: not acceptable.
    excluded: bool,
}

impl<'a> Choice<'a> {
    /// Parses an element; `None` if it is empty.
    fn parse(element: &'a str) -> Option<Self> {
        let text = element.trim();
        let (name, weight) = text.split_once(';').unwrap_or((text, ""));
        let weight = weight
            .trim()
            .trim_start_matches(['q', 'Q'])
            .trim_start()
            .strip_prefix('=');
        let excluded = weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0_f32));
        (!text.is_empty()).then_some(Self {
            text,
            name: name.trim_end(),
            excluded,
        })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn is_gzip(&self) -> bool {
        self.is("gzip") || self.is("x-gzip")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[&str], retained: &[&str]) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(field).unwrap());
        }
        retain_decodable(&mut headers);
        let actual: Vec<_> = headers.get_all(ACCEPT_ENCODING).iter().collect();
        assert_eq!(actual, retained, "{fields:?}");
    }

    #[test]
    fn supported_codings_are_unchanged() {
        for fields in [
            &[][..],
            &[""],
            &["gzip"],
            &["gzip;q=1.0 ,deflate;q=0.5,identity"],
            &["GZIP", "x-gzip"],
            &["br"],
            &["br, deflate"],
            &["br, gzip;q=0"],
            &["gzip, br;q=0"],
            &["identity, *;q=0"],
            &["deflate,, "],
        ] {
            check(fields, fields);
        }
    }

    #[test]
    fn br_is_removed_if_gzip_is_acceptable() {
        check(&["gzip, deflate, br"], &["gzip, deflate"]);
        check(&["br;q=1.0, gzip;q=0.2"], &["gzip;q=0.2"]);
        check(&["br", "X-GZIP"], &["X-GZIP"]);
        check(&["br, *;q=0.1"], &["gzip;q=0.1"]);
        check(&["br, gzip; Q = 0.000, *"], &["br, gzip; Q = 0.000"]);
    }

    #[test]
    fn unsupported_codings_are_removed() {
        check(&["deflate, gzip, br, zstd"], &["deflate, gzip"]);
        check(&["zstd, br"], &["br"]);
        check(&["zstd"], &["identity"]);
        check(&["compress;q=0.5", "zstd"], &["identity"]);
        check(&["*"], &["gzip"]);
        check(&["*", "gzip;q=0"], &["gzip;q=0"]);
        check(&["dcb, dcz, identity;q=0"], &["identity;q=0"]);
    }
}
