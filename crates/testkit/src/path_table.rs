//! Spellings of paths, and what six rules say to them. The tests of the whole gateway send them, so this is read there
//! as well (`tests/it/policies.rs`).

use citrix_wire::policy::path::Unjudgeable;

/// Each alone is all that a caller may do.
pub const RULES: [&str; 6] = [
    "/cvad/manage/Machines",
    "/cvad/manage/Machines/*",
    "/cvad/manage/Machines/$search",
    "/cvad/manage/**",
    "/monitorodata/**/Sales B\u{fc}ro",
    "/**",
];

/// Those that can be judged, with a sign for each rule: `+` inside, `-` outside, `c` inside but for the letter case, `e`
/// inside in one reading of the escapes.
pub const JUDGED: &[(&str, &str)] = &[
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

/// Those that cannot; under no rule do they come in.
pub const UNJUDGEABLE: &[(&str, Unjudgeable)] = &[
    ("", Unjudgeable::NotAbsolute),
    ("*", Unjudgeable::NotAbsolute),
    ("cvad/manage/Machines", Unjudgeable::NotAbsolute),
    (
        "https://api.cloud.com/cvad/manage/Machines",
        Unjudgeable::NotAbsolute,
    ),
    // Dot segments.
    ("/cvad/manage/Machines/..", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/.", Unjudgeable::DotSegment),
    ("/cvad/manage/Machines/../", Unjudgeable::DotSegment),
    (
        "/cvad/manage/Machines/../Administrators",
        Unjudgeable::DotSegment,
    ),
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
    (
        "/cvad/manage/Machines/%2e%2e/x",
        Unjudgeable::EscapedDelimiter,
    ),
    (
        "/cvad/manage/Machines/%2E%2E",
        Unjudgeable::EscapedDelimiter,
    ),
    (
        "/cvad/manage/Machines/.%2e/x",
        Unjudgeable::EscapedDelimiter,
    ),
    ("/cvad/manage/Machines/%2e", Unjudgeable::EscapedDelimiter),
    (
        "/cvad/manage/Machines/v1%2e0",
        Unjudgeable::EscapedDelimiter,
    ),
    ("/cvad%2fmanage/Machines", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%2F1", Unjudgeable::EscapedDelimiter),
    (
        "/cvad/manage/Machines/..%2fAdministrators",
        Unjudgeable::EscapedDelimiter,
    ),
    (
        "/cvad/manage/Machines/..%2f..%2f",
        Unjudgeable::EscapedDelimiter,
    ),
    ("/%2f/cvad", Unjudgeable::EscapedDelimiter),
    ("/cvad/manage/Machines%5c1", Unjudgeable::EscapedDelimiter),
    (
        "/cvad/manage/Machines/%5C..%5CAdministrators",
        Unjudgeable::EscapedDelimiter,
    ),
    ("/cvad/manage/Machines%3bx", Unjudgeable::EscapedDelimiter),
    (
        "/cvad/manage/Machines%3Flimit=5",
        Unjudgeable::EscapedDelimiter,
    ),
    ("/cvad/manage/Machines%23x", Unjudgeable::EscapedDelimiter),
    // Empty segments.
    ("//", Unjudgeable::EmptySegment),
    ("///", Unjudgeable::EmptySegment),
    ("//cvad/manage/Machines", Unjudgeable::EmptySegment),
    (
        "//evil.example/cvad/manage/Machines",
        Unjudgeable::EmptySegment,
    ),
    ("/cvad//manage/Machines", Unjudgeable::EmptySegment),
    ("/https://api.cloud.com/cvad", Unjudgeable::EmptySegment),
    ("/cvad/manage/Machines//", Unjudgeable::EmptySegment),
    ("/cvad/manage/Machines//1", Unjudgeable::EmptySegment),
    // Parameters.
    ("/cvad/manage/Machines;x=1", Unjudgeable::Parameters),
    ("/cvad;x/manage/Machines", Unjudgeable::Parameters),
    (
        "/cvad/manage/Machines/..;/Administrators",
        Unjudgeable::Parameters,
    ),
    ("/cvad/manage/Machines/;", Unjudgeable::Parameters),
    // Backslashes; the first is what a tool in use sends (contract 5).
    ("/monitorodata\\Applications", Unjudgeable::Backslash),
    (
        "/cvad/manage/Machines\\..\\Administrators",
        Unjudgeable::Backslash,
    ),
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
    (
        "/cvad/manage/Machines/%252e%252e/x",
        Unjudgeable::DoubleEncoding,
    ),
    (
        "/cvad/manage/Machines/..%252fAdministrators",
        Unjudgeable::DoubleEncoding,
    ),
    ("/cvad/manage/Machines/%25", Unjudgeable::DoubleEncoding),
    (
        "/cvad/manage/Machines/%25%32%65",
        Unjudgeable::DoubleEncoding,
    ),
    // Escapes that are none.
    ("/cvad/manage/Machines/%", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%2", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%zz", Unjudgeable::InvalidEscape),
    ("/cvad/manage/Machines/%+f", Unjudgeable::InvalidEscape),
    (
        "/cvad/manage/Machines/%u002e%u002e/x",
        Unjudgeable::InvalidEscape,
    ),
    ("/cvad/manage/Machines/%%32%65", Unjudgeable::InvalidEscape),
    // Bytes that are no text: overlong slashes and dots, Latin-1, surrogates.
    ("/cvad/manage/Machines/..%c0%afx", Unjudgeable::NotUtf8),
    ("/cvad/manage/Machines/%c0%ae%c0%ae/x", Unjudgeable::NotUtf8),
    ("/cvad/manage/Machines/%e0%80%afx", Unjudgeable::NotUtf8),
    ("/monitorodata/Sales%20B%FCro", Unjudgeable::NotUtf8),
    ("/cvad/manage/Machines/%ED%A0%80", Unjudgeable::NotUtf8),
    // Characters that some servers take for others: wide slash, wide dots, one dot leader, wide letters, the Kelvin
    // sign, a letter and its accent apart, a zero-width space, the next-line control.
    (
        "/cvad/manage/Machines/..%EF%BC%8Fx",
        Unjudgeable::ForeignCharacter,
    ),
    (
        "/cvad/manage/Machines/%EF%BC%8E%EF%BC%8E/x",
        Unjudgeable::ForeignCharacter,
    ),
    (
        "/cvad/manage/Machines/%E2%80%A4%E2%80%A4/x",
        Unjudgeable::ForeignCharacter,
    ),
    (
        "/cvad/manage/%EF%BC%ADachines",
        Unjudgeable::ForeignCharacter,
    ),
    ("/cvad/manage/%E2%84%AA", Unjudgeable::ForeignCharacter),
    (
        "/cvad/manage/Machines/u%CC%88",
        Unjudgeable::ForeignCharacter,
    ),
    (
        "/cvad/manage/Machines/.%E2%80%8B./x",
        Unjudgeable::ForeignCharacter,
    ),
    (
        "/cvad/manage/Machines/%C2%85",
        Unjudgeable::ForeignCharacter,
    ),
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
