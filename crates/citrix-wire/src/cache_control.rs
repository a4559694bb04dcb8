//! Directives of `Cache-Control` that hold without a cache.

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// Returns `true` if the content must not be transformed (RFC 9111 section 5.2.2.6).
pub fn forbids_transformation(headers: &HeaderMap) -> bool {
    let mut directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn rfc9111_5_2_2_6_no_transform_is_found_in_any_notation() {
        for (fields, expected) in [
            (&[][..], false),
            (&["private"], false),
            (&["no-transform"], true),
            (&["private,\tNo-Transform ,max-age=5"], true),
            (&["private", "no-transform"], true),
            (&["no-transformation, x-no-transform"], false),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(field));
            }
            assert_eq!(forbids_transformation(&headers), expected, "{fields:?}");
        }
    }
}
