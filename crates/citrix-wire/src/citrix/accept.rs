//! The `Accept` field as Citrix requires it (interface §4.1, contract §3).
//!
//! Citrix returns 406 to `*/*`, and some services to anything but `application/json` alone, which
//! common HTTP libraries do not send by default.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};
use memchr::memchr2;

use super::legacy;

/// APIs that return 406 to anything but `application/json` alone: DaaS, also on direct hosts, and
/// Secure Private Access.
const JSON_ONLY: [&str; 3] = ["/cvad/manage", legacy::ORCHESTRATION, "/accessSecurity"];

/// Names of OData resources whose responses are not JSON by default (OData 4.01 part 2, sections
/// 4.7, 4.8 and 4.10).
const NOT_JSON: [&str; 3] = ["$metadata", "$count", "$value"];

/// Returns `true` if `Accept: application/json` is to be sent in place of the caller's fields.
///
/// `paths` are those of the request as the service may see it, without and with the base path of
/// the upstream.
pub fn wants_json(headers: &HeaderMap, paths: &[&str]) -> bool {
    // Nearly no path has the escaped or plain `$` with which these names begin.
    let may_not_be_json = |path: &&str| memchr2(b'$', b'%', path.as_bytes()).is_some();
    let mut named = paths.iter().copied().filter(may_not_be_json);
    if named.any(|path| ends_with_any(path, &NOT_JSON)) {
        return false;
    }
    let values = headers.get_all(ACCEPT);
    if is_unspecific(values.iter().map(HeaderValue::as_bytes)) {
        return true;
    }
    let is_json_only = |path: &str| {
        JSON_ONLY
            .iter()
            .any(|api| legacy::below(path, api).is_some())
    };
    paths.iter().copied().any(is_json_only)
        && values
            .iter()
            .try_fold(JsonQuality::default(), |quality, value| {
                quality.with(value.to_str().ok()?)
            })
            .is_some_and(JsonQuality::accepts_json)
}

/// Returns `true` if the last segment of a path is one of `names`. Neither contains an escaped `$`
/// in another form than `%24`.
fn ends_with_any(path: &str, names: &[&str]) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next();
    let name = last.unwrap_or_default();
    let unescaped = name.strip_prefix("%24").or_else(|| name.strip_prefix('$'));
    unescaped.is_some_and(|word| {
        names
            .iter()
            .any(|name| word.eq_ignore_ascii_case(&name[1..]))
    })
}

/// Returns `true` for no media range, and for `*/*` alone.
fn is_unspecific<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> bool {
    values.all(|value| {
        let mut ranges = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        ranges.all(|range| matches!(range, b"" | b"*/*"))
    })
}

/// The weights that a list gives to `application/json`: those of the type itself, of
/// `application/*` and of `*/*` (RFC 9110 section 12.5.1).
#[derive(Clone, Copy, Default)]
struct JsonQuality([Option<bool>; 3]);

impl JsonQuality {
    /// Adds the media ranges of a field value. Returns `None` if one is a versioned JSON type or
    /// cannot be read: the caller knows which representation it needs.
    fn with(mut self, value: &str) -> Option<Self> {
        for range in value.split(',').map(str::trim) {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let is = |name: &str| media_type.eq_ignore_ascii_case(name);
            let mut is_accepted = true;
            for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                if name.trim().eq_ignore_ascii_case("q") {
                    is_accepted = value.trim().parse::<f32>().ok()? > 0.0;
                } else if is_json(media_type) && !name.trim().eq_ignore_ascii_case("charset") {
                    return None;
                }
            }
            if starts_with(media_type, "application/vnd.") && is_json(media_type) {
                return None;
            }
            let by_specificity = ["application/json", "application/*", "*/*"];
            let Some(specificity) = by_specificity.into_iter().position(is) else {
                continue;
            };
            let known = &mut self.0[specificity];
            *known = Some(known.unwrap_or(false) | is_accepted);
        }
        Some(self)
    }

    /// Returns the weight of the most specific range, if it is above zero.
    fn accepts_json(self) -> bool {
        self.0.into_iter().flatten().next().unwrap_or(false)
    }
}

/// Returns `true` for `application/json` and types with the suffix `+json` (RFC 6839 section 3.1).
fn is_json(media_type: &str) -> bool {
    let suffix = media_type.rsplit('+').next().unwrap_or_default();
    media_type.eq_ignore_ascii_case("application/json")
        || suffix.len() < media_type.len() && suffix.eq_ignore_ascii_case("json")
}

fn starts_with(media_type: &str, prefix: &str) -> bool {
    let start = media_type.get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAAS: &str = "/cvad/manage/Machines";
    const ODATA: &str = "/monitorodata/Machines";

    fn check(path: &str, values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        wants_json(&headers, &[path, path])
    }

    #[test]
    fn json_is_requested_without_a_preference() {
        for values in [
            &[][..],
            &["*/*"],
            &[" */* "],
            &[""],
            &["*/*, */*"],
            &["*/*", "*/*"],
        ] {
            for path in ["/", DAAS, ODATA, "/x/$metadatax", "/$metadata/x"] {
                assert!(check(path, values), "{path} {values:?}");
            }
        }
    }

    #[test]
    fn resources_that_are_not_json_keep_the_callers_fields() {
        for name in [
            "$metadata",
            "$count",
            "$value",
            "$METADATA",
            "%24metadata",
            "$count/",
        ] {
            for base in ["/monitorodata/", "/casodata/x/", "/cvad/manage/Machines/"] {
                for values in [&[][..], &["*/*"], &["application/json, */*"]] {
                    let path = format!("{base}{name}");
                    assert!(!check(&path, values), "{path} {values:?}");
                }
            }
        }
    }

    #[test]
    fn list_that_accepts_json_becomes_json_where_nothing_else_is_accepted() {
        let accepted: [&[&str]; 16] = [
            &["application/json, text/plain, */*"],
            &["*/*;q=0.8"],
            &["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"],
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
            &["application/json", "text/plain"],
            &["text/csv", "*/*"],
            &["application/*"],
            &["APPLICATION/JSON , text/plain"],
            &["application/json; charset=utf-8"],
            &["application/json;q=0.001"],
            &["application/json; Q=1, */*;q=0"],
            &["text/plain;format=flowed, application/json"],
            &["application/json, application/*+json"],
            &["application/problem+json, application/json"],
            &["application/json"],
            &[",application/json,,"],
        ];
        for values in accepted {
            for path in [
                DAAS,
                "/CVAD/manage",
                "/citrix/orchestration/api/acme/site/Machines",
                "/accesssecurity/applications",
            ] {
                assert!(check(path, values), "{path} {values:?}");
            }
        }
    }

    #[test]
    fn list_passes_elsewhere() {
        for values in [&["application/json, text/plain, */*"][..], &["*/*;q=0.8"]] {
            for path in [
                "/",
                ODATA,
                "/cvad/managed",
                "/systemlog/records",
                "/accessSecurityX",
            ] {
                assert!(!check(path, values), "{path} {values:?}");
            }
        }
    }

    #[test]
    fn versioned_and_foreign_types_pass() {
        let passed: [&[&str]; 13] = [
            &["text/html"],
            &["text/csv"],
            &["text/*"],
            &["application/xml, text/plain"],
            &["application/json;version=preview"],
            &["application/json;version=preview, */*"],
            &["*/*", "application/json; v=1"],
            &["application/vnd.citrix.v2+json, application/json"],
            &["application/json;odata.metadata=minimal, */*"],
            &["application/json;q=0, */*"],
            &["application/*;q=0.0, */*"],
            &["*/*;q=0"],
            &["*/*;q=x"],
        ];
        for values in passed {
            assert!(!check(DAAS, values), "{values:?}");
        }
    }
}
