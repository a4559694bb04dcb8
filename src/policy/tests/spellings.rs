//! Spellings of paths against six rules. The first table has those that can be judged, with a sign for each rule:
//! `+` inside, `-` outside, `c` inside but for the letter case, `e` inside in one reading of the escapes. The second
//! has those that cannot; under no rule do they come in.

use super::super::path::{Unjudgeable, judge};
use super::super::pattern::PathRules;
use super::super::{Outside, Rules, Verdict};

const RULES: [&str; 6] = [
    "/cvad/manage/Machines",
    "/cvad/manage/Machines/*",
    "/cvad/manage/Machines/$search",
    "/cvad/manage/**",
    "/monitorodata/**/Sales B\u{fc}ro",
    "/**",
];

const JUDGED: &[(&str, &str)] = &[
    ("/", "-----+"),
    ("/cvad", "-----+"),
    ("/cvad/manage", "---+-+"),
    ("/cvad/manage/", "---+-+"),
    ("/cvad/managers", "-----+"),
    ("/cvad/manage/Machines", "+--+-+"),
    ("/cvad/manage/Machines/", "+--+-+"),
    ("/cvad/manage/Machines/1", "-+-+-+"),
    ("/cvad/manage/Machines/1/", "-+-+-+"),
    ("/cvad/manage/Machines/1/2", "---+-+"),
    ("/cvad/manage/Machines1", "---+-+"),
    ("/cvad/manage/Machines/$search", "-+++-+"),
    ("/cvad/manage/Machines/$search/", "-+++-+"),
    ("/cvad/manage/Machines/$searches", "-+-+-+"),
    // Letter case: Citrix's own routes may not care.
    ("/cvad/manage/machines", "c--+-+"),
    ("/cvad/manage/MACHINES/1", "-c-+-+"),
    ("/cvad/manage/Machines/$SEARCH", "-+c+-+"),
    ("/Cvad/Manage/Machines", "c--c-+"),
    ("/CVAD/manage/x", "---c-+"),
    ("/cvad/manage/Machines/\u{25}24Search", "-+c+-+"),
    // Escapes that are not needed: a server that compares before it decodes sees another path.
    ("/cvad/manage/%4Dachines", "e--+-+"),
    ("/cvad/manage/%4dachines/1", "-e-+-+"),
    ("/cvad/manage/%6dachines", "c--+-+"),
    ("/%63vad/manage/Machines", "e--e-+"),
    ("/cvad%2dx/manage", "-----+"),
    ("/cvad/manage/Machines/%24search", "-+e+-+"),
    ("/cvad/manage/Machines/%31", "-+-+-+"),
    ("/cvad/manage/Machines/user%40acme", "-+-+-+"),
    ("/cvad/manage/Machines/%2A", "-+-+-+"),
    ("/cvad/manage/Machines/*", "-+-+-+"),
    ("/cvad/manage/Machines/%2a%2a", "-+-+-+"),
    // Escapes that are: their one spelling.
    ("/monitorodata/Sales%20B%C3%BCro", "----++"),
    ("/monitorodata/Sales%20B%c3%bcro", "----++"),
    ("/monitorodata/x/y/Sales%20B%C3%BCro", "----++"),
    ("/monitorodata/Sales%20B%C3%9Cro", "----c+"),
    ("/monitorodata/%53ales%20B%C3%BCro", "----e+"),
    ("/monitorodata/Sales+B%C3%BCro", "-----+"),
    ("/monitorodata/Sales%20Buro", "-----+"),
    ("/cvad/manage/Machines/DOM%7CVM", "-+-+-+"),
    ("/cvad/manage/Machines/%E6%97%A5%E6%9C%AC", "-+-+-+"),
    // A query without its `?`, and other signs that only look like something.
    ("/cvad/manage/Machines&limit=5", "---+-+"),
    ("/cvad/manage/Machines=", "---+-+"),
    ("/cvad/manage/Machines:443", "---+-+"),
    ("/cvad/manage/Machines@x", "---+-+"),
    ("/cvad/manage/Machines,", "---+-+"),
    ("/cvad/manage/.Machines", "---+-+"),
    ("/cvad/manage/..Machines", "---+-+"),
    ("/cvad/manage/Machines+", "---+-+"),
    ("/cvad/manage/~", "---+-+"),
];

const UNJUDGEABLE: &[(&str, Unjudgeable)] = &[
    ("", Unjudgeable::NotAbsolute),
    ("*", Unjudgeable::NotAbsolute),
    ("cvad/manage/Machines", Unjudgeable::NotAbsolute),
    ("https://api.cloud.com/cvad/manage/Machines", Unjudgeable::NotAbsolute),
    // Dot segments.
    ("/cvad/manage/Machines/..", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/.", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/../", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/../Administrators", Unjudgeable::DotSegment),
    ("/cvad/manage/./Machines", Unjudgeable::DotSegment),
    ("/../cvad/manage/Machines", Unjudgeable::DotSegment),
    ("/.", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/...", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/..%20/x", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/.%20./x", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/..+/x", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/%2B../x", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/+", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/%20", Unjudgeable::DotSegment),
    // Escaped dots and slashes.
    ("/cvad/manage/Machines/%2e%2e/x", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/%2E%2E", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/.%2e/x", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/%2e", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/v1%2e0", Unjudgeable::EscapedDelimiter),
    ("/cvad%2fmanage/Machines", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%2F1", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/..%2fAdministrators", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/..%2f..%2f", Unjudgeable::EscapedDelimiter),
    ("/%2f/cvad", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%5c1", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines/%5C..%5CAdministrators", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%3bx", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%3Flimit=5", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%23x", Unjudgeable::EscapedDelimiter),
    // Empty segments.
    ("//", Unjudgeable::EmptySegment),
    ("///", Unjudgeable::EmptySegment),
    ("//cvad/manage/Machines", Unjudgeable::EmptySegment),
    ("//evil.example/cvad/manage/Machines", Unjudgeable::EmptySegment),
    ("/cvad//manage/Machines", Unjudgeable::EmptySegment),
    ("/https://api.cloud.com/cvad", Unjudgeable::EmptySegment),
    ("/cvad/manage/Machines//", Unjudgeable::EmptySegment),
    ("/cvad/manage/Machines//1", Unjudgeable::EmptySegment),
    // Parameters.
    ("/cvad/manage/Machines;x=1", Unjudgeable::Parameters),
    ("/cvad;x/manage/Machines", Unjudgeable::Parameters),
    ("/cvad/manage/Machines/..;/Administrators", Unjudgeable::Parameters),
    ("/cvad/manage/Machines/;", Unjudgeable::Parameters),
    // Backslashes; the first is what a tool in use sends (contract 5).
    ("/monitorodata\\Applications", Unjudgeable::Backslash),
    ("/cvad/manage/Machines\\..\\Administrators", Unjudgeable::Backslash),
    ("/\\cvad/manage/Machines", Unjudgeable::Backslash),
    // Control characters.
    ("/cvad/manage/Machines%00", Unjudgeable::Control),
    ("/cvad/manage/Machines%00/../x", Unjudgeable::Control),
    ("/cvad/manage/Machines%0d%0aX:%20y", Unjudgeable::Control),
    ("/cvad/manage/Machines%09", Unjudgeable::Control),
    ("/cvad/manage/Machines%7F", Unjudgeable::Control),
    ("/cvad/manage/Machines\t", Unjudgeable::Control),
    ("/cvad/manage/Machines\u{7f}", Unjudgeable::Control),
    // Escapes of escapes.
    ("/cvad/manage/Machines/%252e%252e/x", Unjudgeable::DoubleEncoding),
    ("/cvad/manage/Machines/..%252fAdministrators", Unjudgeable::DoubleEncoding),
    ("/cvad/manage/Machines/%25", Unjudgeable::DoubleEncoding),
    ("/cvad/manage/Machines/%25%32%65", Unjudgeable::DoubleEncoding),
    // Escapes that are none.
    ("/cvad/manage/Machines/%", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%2", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%zz", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%+f", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%u002e%u002e/x", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%%32%65", Unjudgeable::InvalidEscape),
    // Bytes that are no text: overlong slashes and dots, Latin-1, surrogates.
    ("/cvad/manage/Machines/..%c0%afx", Unjudgeable::NotUtf8),
    ("/cvad/manage/Machines/%c0%ae%c0%ae/x", Unjudgeable::NotUtf8),
    ("/cvad/manage/Machines/%e0%80%afx", Unjudgeable::NotUtf8),
    ("/monitorodata/Sales%20B%FCro", Unjudgeable::NotUtf8),
    ("/cvad/manage/Machines/%ED%A0%80", Unjudgeable::NotUtf8),
    // Characters that some servers take for others: wide slash, wide dots, one dot leader, wide letters, the Kelvin
    // sign, a letter and its accent apart, a zero-width space, the next-line control.
    ("/cvad/manage/Machines/..%EF%BC%8Fx", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/Machines/%EF%BC%8E%EF%BC%8E/x", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/Machines/%E2%80%A4%E2%80%A4/x", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/%EF%BC%ADachines", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/%E2%84%AA", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/Machines/u%CC%88", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/Machines/.%E2%80%8B./x", Unjudgeable::ForeignCharacter),
    ("/cvad/manage/Machines/%C2%85", Unjudgeable::ForeignCharacter),
    // What must be escaped; a query or fragment is never part of what is judged.
    ("/cvad/manage/Machines?limit=5", Unjudgeable::Unescaped),
    ("/cvad/manage/Machines#x", Unjudgeable::Unescaped),
    ("/cvad/manage/Mach ines", Unjudgeable::Unescaped),
    ("/monitorodata/Sales%20B\u{fc}ro", Unjudgeable::Unescaped),
    ("/cvad/manage/Machines.", Unjudgeable::SegmentEdge),
    ("/cvad/manage/Machines.+", Unjudgeable::SegmentEdge),
    ("/cvad/manage/Machines+%20+", Unjudgeable::SegmentEdge),
    ("/cvad/manage/Machines%20", Unjudgeable::SegmentEdge),
    ("/cvad/manage/%20Machines", Unjudgeable::SegmentEdge),
    ("/cvad/manage/Machines%20/1", Unjudgeable::SegmentEdge),
    ("/cvad./manage/Machines", Unjudgeable::SegmentEdge),
];

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
            assert_eq!(rules.verdict("GET", path, "acme"), expected, "{path} by {pattern}");
        }
    }
}

#[test]
fn a_spelling_of_two_readings_comes_in_under_no_rule() {
    for &(path, why) in UNJUDGEABLE {
        for rules in rules() {
            assert_eq!(rules.verdict("GET", path, "acme"), Verdict::Unjudgeable(why), "{path}");
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
        assert_eq!(rules.verdict("GET", path, "acme"), Verdict::Allowed, "{path}");
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
    let rules = Rules::new(vec![http::Method::GET], PathRules::default(), vec!["acme".into()]);
    for (method, customer, expected) in [
        ("GET", "acme", Verdict::Allowed),
        ("GET", "ACME", Verdict::Allowed),
        ("get", "acme", Verdict::Denied(Outside::Methods)),
        ("HEAD", "acme", Verdict::Denied(Outside::Methods)),
        ("GET", "acme2", Verdict::Denied(Outside::Customers)),
        ("GET", "", Verdict::Denied(Outside::Customers)),
    ] {
        assert_eq!(rules.verdict(method, "/x", customer), expected, "{method} {customer}");
    }
}

#[test]
fn an_escape_hides_no_customer_in_a_path() {
    let rules = Rules::new(Vec::new(), PathRules::default(), vec!["acme".into()]);
    for (path, expected) in [
        ("/catalogservice/acme/x", Verdict::Allowed),
        ("/catalogservice/%61cme/x", Verdict::Allowed),
        ("/catalogservice/contoso/x", Verdict::Denied(Outside::Customers)),
        ("/%63atalogservice/contoso/x", Verdict::Denied(Outside::Customers)),
        ("/region/eu/massvc/%63ontoso", Verdict::Denied(Outside::Customers)),
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
            || matches!(why, Unjudgeable::InvalidEscape | Unjudgeable::NotUtf8 | Unjudgeable::Control);
        assert_eq!(why.is_malformed(), malformed, "{path}");
    }
}
