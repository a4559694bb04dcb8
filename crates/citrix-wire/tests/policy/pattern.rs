//! Syntax and matching of path patterns.

use citrix_wire::policy::path::Ambiguous;
use citrix_wire::policy::pattern::{InvalidPattern, PathRules};

fn covers(pattern: &str, path: &str) -> bool {
    PathRules::new([pattern]).unwrap().cover(path)
}

/// Patterns, paths that they cover and paths that they do not.
const COVERAGE: [(&str, &[&str], &[&str]); 18] = [
    ("/", &["/"], &["/a"]),
    ("/a", &["/a", "/a/"], &["/", "/b", "/ab", "/a/b"]),
    ("/a/", &["/a", "/a/"], &["/a/b"]),
    ("/*", &["/a", "/a/", "/*"], &["/", "/a/b"]),
    ("/a/*/c", &["/a/b/c"], &["/a/c", "/a//c", "/a/b/b/c"]),
    ("/a*", &["/a", "/ab", "/a*"], &["/ba", "/ab/c"]),
    ("/*a", &["/a", "/ba"], &["/ab"]),
    (
        "/a*b*c",
        &["/abc", "/axbxc", "/abbcc"],
        &["/acb", "/ab", "/ac", "/xabc"],
    ),
    ("/ab*ba", &["/abba", "/abxba"], &["/aba"]),
    (
        "/Machines(*)",
        &["/Machines(1)", "/Machines('x')"],
        &["/Machines", "/Machines(1)x"],
    ),
    ("/**", &["/", "/a", "/a/b/c"], &[]),
    (
        "/a/**",
        &["/a", "/a/", "/a/b", "/a/b/c"],
        &["/", "/ab", "/b/a"],
    ),
    ("/**/a", &["/a", "/b/a", "/a/a"], &["/", "/a/b"]),
    (
        "/a/**/c",
        &["/a/c", "/a/b/c", "/a/b/b/c", "/a/c/c"],
        &["/a", "/a/c/b"],
    ),
    (
        "/**/b/**/b",
        &["/b/b", "/a/b/a/b", "/b/a/a/b"],
        &["/b", "/a/b/a"],
    ),
    ("/**/**", &["/", "/a/b"], &[]),
    ("/**/*", &["/a", "/a/b"], &["/"]),
    (
        "/a/**/b*/*c/**",
        &["/a/b/c", "/a/x/bx/xc/x", "/a/b/b/c"],
        &["/a/b/x", "/a/b"],
    ),
];

#[test]
fn star_matches_within_a_segment_and_two_match_any_segments() {
    for (pattern, inside, outside) in COVERAGE {
        for path in inside {
            assert!(covers(pattern, path), "{pattern} {path}");
        }
        for path in outside {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
    }
}

const INVALID: [(&str, InvalidPattern); 19] = [
    ("", InvalidPattern::NotAbsolute),
    ("a/b", InvalidPattern::NotAbsolute),
    ("**", InvalidPattern::NotAbsolute),
    ("/a?", InvalidPattern::Character('?')),
    ("/a/[ab]", InvalidPattern::Character('[')),
    ("/{a,b}", InvalidPattern::Character('{')),
    ("/a\\*", InvalidPattern::Character('\\')),
    ("/a%20b", InvalidPattern::Character('%')),
    ("/a;b", InvalidPattern::Character(';')),
    ("/a#", InvalidPattern::Character('#')),
    ("/a\n", InvalidPattern::Character('\n')),
    ("/a**", InvalidPattern::Across),
    ("/***", InvalidPattern::Across),
    ("//", InvalidPattern::Segment(Ambiguous::EmptySegment)),
    ("/a//b", InvalidPattern::Segment(Ambiguous::EmptySegment)),
    ("/a/../b", InvalidPattern::Segment(Ambiguous::DotSegment)),
    ("/a/b.", InvalidPattern::Segment(Ambiguous::SegmentEdge)),
    ("/a /b", InvalidPattern::Segment(Ambiguous::SegmentEdge)),
    (
        "/\u{ff41}",
        InvalidPattern::Segment(Ambiguous::ConfusableCharacter),
    ),
];

#[test]
fn unmatchable_or_foreign_syntax_is_no_pattern() {
    for (text, error) in INVALID {
        assert_eq!(
            PathRules::new(["/ok", text]).unwrap_err(),
            (1, error),
            "{text:?}"
        );
    }
}

#[test]
fn adversarial_pattern_is_fast() {
    let pattern = format!("{}/**/b", "/**/a*a*a*a".repeat(40));
    let path = "/aaaaaaaaaaa".repeat(680);
    // 680 segments against 80; exhaustive backtracking would take seconds.
    assert!(!covers(&pattern, &path));
}
