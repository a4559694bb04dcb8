//! An allowed path is within the rules at every kind of server.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use citrix_wire::policy::path::evaluate;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Rules};
use testkit::servers::{SERVERS, first_outside, inside, split};

/// Parts of generated paths: names from the patterns and parts of known bypasses.
const PIECES: [&str; 62] = [
    "/",
    "/",
    "/",
    "/",
    "/",
    "/",
    "/a",
    "/b",
    "/a",
    "/b",
    "a",
    "b",
    "A",
    "B",
    "ab",
    "$s",
    "$S",
    "S p",
    "S%20p",
    "ü",
    "%C3%BC",
    "%C3%9C",
    "%61",
    "%41",
    "%24",
    "%2a",
    "*",
    "**",
    ".",
    "..",
    "/..",
    "/.",
    "%2e",
    "%2E%2e",
    "%252e",
    "//",
    "%2f",
    "%5c",
    "\\",
    ";",
    ";x",
    "%3b",
    "?",
    "%3f",
    "#",
    "%23",
    "%",
    "%2",
    "%zz",
    "%u002e",
    "%25",
    "%00",
    "%09",
    "%20",
    "+",
    "%c0%ae",
    "%c0%af",
    "%EF%BC%8E",
    "%E2%80%A4",
    "%EF%BC%8F",
    "%E2%80%8B",
    "%e2%84%aa",
];

const SEGMENTS: [&str; 12] = [
    "a", "b", "A", "ab", "*", "**", "a*", "*b", "$s", "S p", "ü", "*s*",
];

fn path() -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn plain_path() -> impl Strategy<Value = String> {
    let segments = [
        "a",
        "b",
        "A",
        "ab",
        "%61",
        "%24s",
        "$s",
        "S%20p",
        "%C3%BC",
        "x*y",
        "12",
        "Machines(7)",
        "B%C3%9Cb",
        "%7C",
    ];
    vec(select(segments.to_vec()).prop_map(str::to_owned), 0..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let pattern =
        vec(select(&SEGMENTS[..]), 0..4).prop_map(|segments| format!("/{}", segments.join("/")));
    vec(pattern, 1..3)
}

fn rules(patterns: &[String]) -> Rules {
    Rules::new(
        Vec::new(),
        PathRules::new(patterns.iter().map(String::as_str)).unwrap(),
        Vec::new(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn allowed_path_is_within_the_rules_at_every_server(
        patterns in patterns(),
        path in prop_oneof![path(), plain_path()],
    ) {
        if rules(&patterns).evaluate("GET", &path, "acme") == Decision::Allowed {
            let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
            prop_assert_eq!(first_outside(&texts, &path), None, "{:?} {}", patterns, path);
        }
    }

    #[test]
    fn unambiguous_path_has_equally_many_segments_at_every_server(path in prop_oneof![path(), plain_path()]) {
        if let Ok(parsed) = evaluate(&path) {
            let count = split(parsed.decoded()).len();
            for server in &SERVERS {
                prop_assert_eq!((server.segments)(&path).len(), count, "{} {}", server.name, path);
            }
        }
    }

    #[test]
    fn pattern_covers_what_the_reference_covers(patterns in patterns(), path in plain_path()) {
        let parsed = evaluate(&path).unwrap();
        let segments = split(parsed.decoded());
        let expected = patterns.iter().any(|pattern| inside(&split(pattern), &segments));
        let rules = PathRules::new(patterns.iter().map(String::as_str)).unwrap();
        prop_assert_eq!(rules.cover(parsed.decoded()), expected, "{:?} {:?}", patterns, segments);
    }

    #[test]
    fn any_text_is_evaluated_without_panic(path in "\\PC{0,40}|/[%/.;a-fA-F0-9]{0,40}") {
        let _ = evaluate(&path);
        let _ = PathRules::new([path.as_str()]);
    }
}
