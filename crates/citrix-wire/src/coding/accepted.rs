//! In which codings a caller takes an answer (RFC 9110 section 12.5.3), where its body has to be read on the way.

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};

/// Leaves of `Accept-Encoding` what [`Coding`](super::Coding) knows: an answer in another coding would keep its links.
/// And of `gzip` and `br`, where both will do, `gzip` alone: to write `br` takes twice as long.
///
/// A field with nothing to take out stays byte for byte, and so does a request without one: that nobody encodes
/// unasked is how servers are.
pub fn retain_decodable(headers: &mut HeaderMap) {
    let fields = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|field| field.to_str().ok());
    let all: Vec<_> = fields
        .flat_map(|field| field.split(','))
        .filter_map(Choice::of)
        .collect();
    let names_gzip = all.iter().any(Choice::is_gzip);
    let takes_gzip = all
        .iter()
        .any(|choice| !choice.refused && (choice.is_gzip() || choice.is("*") && !names_gzip));
    let stays = |choice: &Choice<'_>| match choice {
        choice if choice.is_gzip() || choice.is("deflate") || choice.is("identity") => true,
        choice if choice.is("br") => choice.refused || !takes_gzip,
        choice => choice.is("*") && choice.refused,
    };
    if all.iter().all(stays) {
        return;
    }
    let mut left: Vec<String> = Vec::with_capacity(all.len());
    for choice in &all {
        if stays(choice) {
            left.push(choice.text.to_owned());
        } else if choice.is("*") && !names_gzip {
            left.push(choice.text.replacen('*', "gzip", 1));
        }
    }
    if left.is_empty() {
        // Without a field any coding would do.
        left.push("identity".to_owned());
    }
    if let Ok(value) = HeaderValue::from_str(&left.join(", ")) {
        headers.insert(ACCEPT_ENCODING, value);
    }
}

/// One element of the list.
struct Choice<'a> {
    text: &'a str,
    name: &'a str,
    /// Its weight is zero: the caller does not take it.
    refused: bool,
}

impl<'a> Choice<'a> {
    /// `None` for an empty element, which says nothing.
    fn of(element: &'a str) -> Option<Self> {
        let text = element.trim();
        let (name, weight) = text.split_once(';').unwrap_or((text, ""));
        let weight = weight
            .trim()
            .trim_start_matches(['q', 'Q'])
            .trim_start()
            .strip_prefix('=');
        let refused = weight.is_some_and(|weight| weight.trim().parse() == Ok(0.0_f32));
        (!text.is_empty()).then_some(Self {
            text,
            name: name.trim_end(),
            refused,
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

    fn check(given: &[&str], left: &[&str]) {
        let mut headers = HeaderMap::new();
        for field in given {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(field).unwrap());
        }
        retain_decodable(&mut headers);
        let got: Vec<_> = headers.get_all(ACCEPT_ENCODING).iter().collect();
        assert_eq!(got, left, "{given:?}");
    }

    #[test]
    fn what_can_be_read_stays_as_it_came() {
        for given in [
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
            check(given, given);
        }
    }

    #[test]
    fn br_goes_where_gzip_will_do() {
        check(&["gzip, deflate, br"], &["gzip, deflate"]);
        check(&["br;q=1.0, gzip;q=0.2"], &["gzip;q=0.2"]);
        check(&["br", "X-GZIP"], &["X-GZIP"]);
        check(&["br, *;q=0.1"], &["gzip;q=0.1"]);
        check(&["br, gzip; Q = 0.000, *"], &["br, gzip; Q = 0.000"]);
    }

    #[test]
    fn codings_that_cannot_be_read_go() {
        check(&["deflate, gzip, br, zstd"], &["deflate, gzip"]);
        check(&["zstd, br"], &["br"]);
        check(&["zstd"], &["identity"]);
        check(&["compress;q=0.5", "zstd"], &["identity"]);
        check(&["*"], &["gzip"]);
        check(&["*", "gzip;q=0"], &["gzip;q=0"]);
        check(&["dcb, dcz, identity;q=0"], &["identity;q=0"]);
    }
}
