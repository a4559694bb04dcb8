//! A table of paths against six rules.

use citrix_wire::policy::path::{Ambiguous, evaluate};
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Restriction, Rules};
use testkit::path_table::{AMBIGUOUS, RULES, UNAMBIGUOUS};

fn rules() -> [Rules; 6] {
    RULES.map(|pattern| Rules::new(Vec::new(), PathRules::new([pattern]).unwrap(), Vec::new()))
}

#[test]
fn path_is_allowed_if_every_reading_is_covered() {
    for &(path, signs) in UNAMBIGUOUS {
        for ((pattern, rules), sign) in RULES.iter().zip(rules()).zip(signs.chars()) {
            let expected = match sign {
                '+' => Decision::Allowed,
                '-' => Decision::Denied(Restriction::Paths),
                'c' => Decision::Ambiguous(Ambiguous::LetterCase),
                _ => Decision::Ambiguous(Ambiguous::Escapes),
            };
            assert_eq!(
                rules.evaluate("GET", path, "acme"),
                expected,
                "{path} by {pattern}"
            );
        }
    }
}

#[test]
fn ambiguous_path_is_allowed_by_no_rule() {
    for &(path, ambiguous) in AMBIGUOUS {
        for rules in rules() {
            assert_eq!(
                rules.evaluate("GET", path, "acme"),
                Decision::Ambiguous(ambiguous),
                "{path}"
            );
        }
    }
}

#[test]
fn path_beyond_8192_bytes_is_ambiguous() {
    let maximum = format!("/{}", "a".repeat(8191));
    assert!(evaluate(&maximum).is_ok());
    assert_eq!(evaluate(&format!("{maximum}a")), Err(Ambiguous::TooLong));
}

#[test]
fn every_path_is_allowed_without_rules() {
    let rules = Rules::default();
    for &(path, _) in AMBIGUOUS {
        assert_eq!(
            rules.evaluate("GET", path, "acme"),
            Decision::Allowed,
            "{path}"
        );
    }
}

#[test]
fn ambiguous_path_is_not_allowed_by_rules_without_paths() {
    let methods = Rules::new(vec![http::Method::POST], PathRules::default(), Vec::new());
    let customers = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for rules in [methods, customers] {
        assert_eq!(rules.evaluate("POST", "/any", "acme"), Decision::Allowed);
        let hidden = rules.evaluate("POST", "/cvad/manage/x/../$batch", "acme");
        assert_eq!(hidden, Decision::Ambiguous(Ambiguous::DotSegment));
    }
}

#[test]
fn methods_match_exactly_and_customers_ignoring_case() {
    let rules = Rules::new(
        vec![http::Method::GET],
        PathRules::default(),
        vec!["acme".into()],
    );
    for (method, customer, expected) in [
        ("GET", "acme", Decision::Allowed),
        ("GET", "ACME", Decision::Allowed),
        ("get", "acme", Decision::Denied(Restriction::Methods)),
        ("HEAD", "acme", Decision::Denied(Restriction::Methods)),
        ("GET", "acme2", Decision::Denied(Restriction::Customers)),
        ("GET", "", Decision::Denied(Restriction::Customers)),
    ] {
        assert_eq!(
            rules.evaluate(method, "/x", customer),
            expected,
            "{method} {customer}"
        );
    }
}

#[test]
fn escaped_customer_in_path_is_evaluated() {
    let rules = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for (path, expected) in [
        ("/catalogservice/acme/x", Decision::Allowed),
        ("/catalogservice/%61cme/x", Decision::Allowed),
        (
            "/catalogservice/contoso/x",
            Decision::Denied(Restriction::Customers),
        ),
        (
            "/%63atalogservice/contoso/x",
            Decision::Denied(Restriction::Customers),
        ),
        (
            "/region/eu/massvc/%63ontoso",
            Decision::Denied(Restriction::Customers),
        ),
    ] {
        assert_eq!(rules.evaluate("GET", path, "acme"), expected, "{path}");
    }
}

#[test]
fn rfc3986_3_3_only_invalid_paths_are_malformed() {
    for &(path, ambiguous) in AMBIGUOUS {
        // RFC 3986 section 3.3, restricted to UTF-8 escapes without control characters.
        let malformed = !path.starts_with('/')
            || path.contains([' ', '?', '#', '\t', '\u{7f}'])
            || !path.is_ascii()
            || matches!(
                ambiguous,
                Ambiguous::InvalidEscape | Ambiguous::NotUtf8 | Ambiguous::Control
            );
        assert_eq!(ambiguous.is_malformed(), malformed, "{path}");
    }
}
