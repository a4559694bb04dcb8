//! What is a pattern, and what it covers.

use citrix_wire::policy::path::Ambiguous;
use citrix_wire::policy::pattern::{InvalidPattern, PathRules};

fn covers(pattern: &str, path: &str) -> bool {
    PathRules::new([pattern]).unwrap().cover(path)
}

#[test]
fn a_star_stands_for_any_text_in_a_segment_and_two_for_any_segments() {
    for (pattern, inside, outside) in [
        ("/", &["/"][..], &["/a"][..]),
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
    ] {
        for path in inside {
            assert!(covers(pattern, path), "{pattern} {path}");
        }
        for path in outside {
            assert!(!covers(pattern, path), "{pattern} {path}");
        }
    }
}

#[test]
fn what_no_path_can_match_or_means_something_elsewhere_is_no_pattern() {
    for (text, why) in [
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
            InvalidPattern::Segment(Ambiguous::ForeignCharacter),
        ),
    ] {
        assert_eq!(
            PathRules::new(["/ok", text]).unwrap_err(),
            (1, why),
            "{text:?}"
        );
    }
}

#[test]
fn a_pattern_made_to_be_slow_is_not() {
    let pattern = format!("{}/**/b", "/**/a*a*a*a".repeat(40));
    let path = "/aaaaaaaaaaa".repeat(680);
    // Some 700 segments by 80; seconds if every choice were tried.
    assert!(!covers(&pattern, &path));
}
