//! Spellings of paths against six rules.

use citrix_wire::policy::path::{Unjudgeable, judge};
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Outside, Rules, Verdict};
use testkit::path_table::{JUDGED, RULES, UNJUDGEABLE};

fn rules() -> [Rules; 6] {
    RULES.map(|pattern| Rules::new(Vec::new(), PathRules::new([pattern]).unwrap(), Vec::new()))
}

#[test]
fn each_spelling_is_inside_the_rules_that_cover_it_in_every_reading() {
    for &(path, signs) in JUDGED {
        for ((pattern, rules), sign) in RULES.iter().zip(rules()).zip(signs.chars()) {
            let expected = match sign {
                '+' => Verdict::Allowed,
                '-' => Verdict::Denied(Outside::Paths),
                'c' => Verdict::Unjudgeable(Unjudgeable::LetterCase),
                _ => Verdict::Unjudgeable(Unjudgeable::Escapes),
            };
            assert_eq!(
                rules.verdict("GET", path, "acme"),
                expected,
                "{path} by {pattern}"
            );
        }
    }
}

#[test]
fn a_spelling_of_two_readings_comes_in_under_no_rule() {
    for &(path, why) in UNJUDGEABLE {
        for rules in rules() {
            assert_eq!(
                rules.verdict("GET", path, "acme"),
                Verdict::Unjudgeable(why),
                "{path}"
            );
        }
    }
}

#[test]
fn a_path_longer_than_any_server_takes_is_not_judged() {
    let longest = format!("/{}", "a".repeat(8191));
    assert!(judge(&longest).is_ok());
    assert_eq!(judge(&format!("{longest}a")), Err(Unjudgeable::TooLong));
}

#[test]
fn while_no_rule_applies_every_path_goes_on() {
    let rules = Rules::default();
    for &(path, _) in UNJUDGEABLE {
        assert_eq!(
            rules.verdict("GET", path, "acme"),
            Verdict::Allowed,
            "{path}"
        );
    }
}

#[test]
fn a_rule_of_methods_or_customers_alone_wants_a_path_that_can_be_judged() {
    let methods = Rules::new(vec![http::Method::POST], PathRules::default(), Vec::new());
    let customers = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for rules in [methods, customers] {
        assert_eq!(rules.verdict("POST", "/any", "acme"), Verdict::Allowed);
        let hidden = rules.verdict("POST", "/cvad/manage/x/../$batch", "acme");
        assert_eq!(hidden, Verdict::Unjudgeable(Unjudgeable::DotSegment));
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
        ("GET", "acme", Verdict::Allowed),
        ("GET", "ACME", Verdict::Allowed),
        ("get", "acme", Verdict::Denied(Outside::Methods)),
        ("HEAD", "acme", Verdict::Denied(Outside::Methods)),
        ("GET", "acme2", Verdict::Denied(Outside::Customers)),
        ("GET", "", Verdict::Denied(Outside::Customers)),
    ] {
        assert_eq!(
            rules.verdict(method, "/x", customer),
            expected,
            "{method} {customer}"
        );
    }
}

#[test]
fn an_escape_hides_no_customer_in_a_path() {
    let rules = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for (path, expected) in [
        ("/catalogservice/acme/x", Verdict::Allowed),
        ("/catalogservice/%61cme/x", Verdict::Allowed),
        (
            "/catalogservice/contoso/x",
            Verdict::Denied(Outside::Customers),
        ),
        (
            "/%63atalogservice/contoso/x",
            Verdict::Denied(Outside::Customers),
        ),
        (
            "/region/eu/massvc/%63ontoso",
            Verdict::Denied(Outside::Customers),
        ),
    ] {
        assert_eq!(rules.verdict("GET", path, "acme"), expected, "{path}");
    }
}

#[test]
fn what_is_malformed_is_told_from_what_is_ambiguous() {
    for &(path, why) in UNJUDGEABLE {
        // RFC 3986 section 3.3, with escapes of UTF-8 and no control characters.
        let malformed = !path.starts_with('/')
            || path.contains([' ', '?', '#', '\t', '\u{7f}'])
            || !path.is_ascii()
            || matches!(
                why,
                Unjudgeable::InvalidEscape | Unjudgeable::NotUtf8 | Unjudgeable::Control
            );
        assert_eq!(why.is_malformed(), malformed, "{path}");
    }
}
