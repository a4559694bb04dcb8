//! Spellings of paths against six rules.

use citrix_wire::policy::path::{Ambiguous, evaluate};
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Restriction, Rules};
use testkit::path_table::{AMBIGUOUS, RULES, UNAMBIGUOUS};

fn rules() -> [Rules; 6] {
    RULES.map(|pattern| Rules::new(Vec::new(), PathRules::new([pattern]).unwrap(), Vec::new()))
}

#[test]
fn each_spelling_is_inside_the_rules_that_cover_it_in_every_reading() {
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
fn a_spelling_of_two_readings_comes_in_under_no_rule() {
    for &(path, why) in AMBIGUOUS {
        for rules in rules() {
            assert_eq!(
                rules.evaluate("GET", path, "acme"),
                Decision::Ambiguous(why),
                "{path}"
            );
        }
    }
}

#[test]
fn a_path_longer_than_any_server_takes_is_not_judged() {
    let longest = format!("/{}", "a".repeat(8191));
    assert!(evaluate(&longest).is_ok());
    assert_eq!(evaluate(&format!("{longest}a")), Err(Ambiguous::TooLong));
}

#[test]
fn while_no_rule_applies_every_path_goes_on() {
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
fn a_rule_of_methods_or_customers_alone_wants_a_path_that_can_be_judged() {
    let methods = Rules::new(vec![http::Method::POST], PathRules::default(), Vec::new());
    let customers = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for rules in [methods, customers] {
        assert_eq!(rules.evaluate("POST", "/any", "acme"), Decision::Allowed);
        let hidden = rules.evaluate("POST", "/cvad/manage/x/../$batch", "acme");
        assert_eq!(hidden, Decision::Ambiguous(Ambiguous::DotSegment));
    }
}

#[test]
fn methods_are_compared_as_they_are_and_customers_in_any_letter_case() {
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
fn an_escape_hides_no_customer_in_a_path() {
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
fn what_is_malformed_is_told_from_what_is_ambiguous() {
    for &(path, why) in AMBIGUOUS {
        // RFC 3986 section 3.3, with escapes of UTF-8 and no control characters.
        let malformed = !path.starts_with('/')
            || path.contains([' ', '?', '#', '\t', '\u{7f}'])
            || !path.is_ascii()
            || matches!(
                why,
                Ambiguous::InvalidEscape | Ambiguous::NotUtf8 | Ambiguous::Control
            );
        assert_eq!(why.is_malformed(), malformed, "{path}");
    }
}
