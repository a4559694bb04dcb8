//! Paths with the expected decision of six rules, and unusual spellings of paths that the gateway
//! treats in a special way. Used by unit tests and, through the whole gateway, by `tests/it`.

use citrix_wire::policy::path::Ambiguous;

/// Path patterns, each evaluated as the only rule of a caller.
pub const RULES: [&str; 6] = [
    "/cvad/manage/Machines",
    "/cvad/manage/Machines/*",
    "/cvad/manage/Machines/$search",
    "/cvad/manage/**",
    "/monitorodata/**/Sales B\u{fc}ro",
    "/**",
];

/// Unambiguous paths with one character for each of [`RULES`]: `+` match, `-` no match, `c` match
/// only without regard to case, `e` match only after decoding unnecessary escapes.
pub const UNAMBIGUOUS: &[(&str, &str)] = &[
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
    // Case: Citrix's routes may be case-insensitive.
    ("/cvad/manage/machines", "c--+-+"),
    ("/cvad/manage/MACHINES/1", "-c-+-+"),
    ("/cvad/manage/Machines/$SEARCH", "-+c+-+"),
    ("/Cvad/Manage/Machines", "c--c-+"),
    ("/CVAD/manage/x", "---c-+"),
    ("/cvad/manage/Machines/\u{25}24Search", "-+c+-+"),
    // Unnecessary escapes: a server that compares before it decodes sees another path.
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
    // Necessary escapes.
    ("/monitorodata/Sales%20B%C3%BCro", "----++"),
    ("/monitorodata/Sales%20B%c3%bcro", "----++"),
    ("/monitorodata/x/y/Sales%20B%C3%BCro", "----++"),
    ("/monitorodata/Sales%20B%C3%9Cro", "----c+"),
    ("/monitorodata/%53ales%20B%C3%BCro", "----e+"),
    ("/monitorodata/Sales+B%C3%BCro", "-----+"),
    ("/monitorodata/Sales%20Buro", "-----+"),
    ("/cvad/manage/Machines/DOM%7CVM", "-+-+-+"),
    ("/cvad/manage/Machines/%E6%97%A5%E6%9C%AC", "-+-+-+"),
    // A query without `?`, and delimiters without a meaning here.
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

/// Ambiguous paths, which every rule rejects.
pub const AMBIGUOUS: &[(&str, Ambiguous)] = &[
    ("", Ambiguous::NotAbsolute),
    ("*", Ambiguous::NotAbsolute),
    ("cvad/manage/Machines", Ambiguous::NotAbsolute),
    (
        "https://api.cloud.com/cvad/manage/Machines",
        Ambiguous::NotAbsolute,
    ),
    // Dot segments.
    ("/cvad/manage/Machines/..", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/.", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/../", Ambiguous::DotSegment),
    (
        "/cvad/manage/Machines/../Administrators",
        Ambiguous::DotSegment,
    ),
    ("/cvad/manage/./Machines", Ambiguous::DotSegment),
    ("/../cvad/manage/Machines", Ambiguous::DotSegment),
    ("/.", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/...", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/..%20/x", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/.%20./x", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/..+/x", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/%2B../x", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/+", Ambiguous::DotSegment),
    ("/cvad/manage/Machines/%20", Ambiguous::DotSegment),
    // Escaped dots and slashes.
    (
        "/cvad/manage/Machines/%2e%2e/x",
        Ambiguous::EscapedDelimiter,
    ),
    ("/cvad/manage/Machines/%2E%2E", Ambiguous::EscapedDelimiter),
    ("/cvad/manage/Machines/.%2e/x", Ambiguous::EscapedDelimiter),
    ("/cvad/manage/Machines/%2e", Ambiguous::EscapedDelimiter),
    ("/cvad/manage/Machines/v1%2e0", Ambiguous::EscapedDelimiter),
    ("/cvad%2fmanage/Machines", Ambiguous::EscapedDelimiter),
    ("/cvad/manage/Machines%2F1", Ambiguous::EscapedDelimiter),
    (
        "/cvad/manage/Machines/..%2fAdministrators",
        Ambiguous::EscapedDelimiter,
    ),
    (
        "/cvad/manage/Machines/..%2f..%2f",
        Ambiguous::EscapedDelimiter,
    ),
    ("/%2f/cvad", Ambiguous::EscapedDelimiter),
    ("/cvad/manage/Machines%5c1", Ambiguous::EscapedDelimiter),
    (
        "/cvad/manage/Machines/%5C..%5CAdministrators",
        Ambiguous::EscapedDelimiter,
    ),
    ("/cvad/manage/Machines%3bx", Ambiguous::EscapedDelimiter),
    (
        "/cvad/manage/Machines%3Flimit=5",
        Ambiguous::EscapedDelimiter,
    ),
    ("/cvad/manage/Machines%23x", Ambiguous::EscapedDelimiter),
    // Empty segments.
    ("//", Ambiguous::EmptySegment),
    ("///", Ambiguous::EmptySegment),
    ("//cvad/manage/Machines", Ambiguous::EmptySegment),
    (
        "//evil.example/cvad/manage/Machines",
        Ambiguous::EmptySegment,
    ),
    ("/cvad//manage/Machines", Ambiguous::EmptySegment),
    ("/https://api.cloud.com/cvad", Ambiguous::EmptySegment),
    ("/cvad/manage/Machines//", Ambiguous::EmptySegment),
    ("/cvad/manage/Machines//1", Ambiguous::EmptySegment),
    // Parameters.
    ("/cvad/manage/Machines;x=1", Ambiguous::Parameters),
    ("/cvad;x/manage/Machines", Ambiguous::Parameters),
    (
        "/cvad/manage/Machines/..;/Administrators",
        Ambiguous::Parameters,
    ),
    ("/cvad/manage/Machines/;", Ambiguous::Parameters),
    // Backslashes; a tool in use sends the first (contract §5).
    ("/monitorodata\\Applications", Ambiguous::Backslash),
    (
        "/cvad/manage/Machines\\..\\Administrators",
        Ambiguous::Backslash,
    ),
    ("/\\cvad/manage/Machines", Ambiguous::Backslash),
    // Control characters.
    ("/cvad/manage/Machines%00", Ambiguous::Control),
    ("/cvad/manage/Machines%00/../x", Ambiguous::Control),
    ("/cvad/manage/Machines%0d%0aX:%20y", Ambiguous::Control),
    ("/cvad/manage/Machines%09", Ambiguous::Control),
    ("/cvad/manage/Machines%7F", Ambiguous::Control),
    ("/cvad/manage/Machines\t", Ambiguous::Control),
    ("/cvad/manage/Machines\u{7f}", Ambiguous::Control),
    // Double encoding.
    (
        "/cvad/manage/Machines/%252e%252e/x",
        Ambiguous::DoubleEncoding,
    ),
    (
        "/cvad/manage/Machines/..%252fAdministrators",
        Ambiguous::DoubleEncoding,
    ),
    ("/cvad/manage/Machines/%25", Ambiguous::DoubleEncoding),
    ("/cvad/manage/Machines/%25%32%65", Ambiguous::DoubleEncoding),
    // Invalid escapes.
    ("/cvad/manage/Machines/%", Ambiguous::InvalidEscape),
    ("/cvad/manage/Machines/%2", Ambiguous::InvalidEscape),
    ("/cvad/manage/Machines/%zz", Ambiguous::InvalidEscape),
    ("/cvad/manage/Machines/%+f", Ambiguous::InvalidEscape),
    (
        "/cvad/manage/Machines/%u002e%u002e/x",
        Ambiguous::InvalidEscape,
    ),
    ("/cvad/manage/Machines/%%32%65", Ambiguous::InvalidEscape),
    // Invalid UTF-8: overlong slashes and dots, Latin-1, surrogates.
    ("/cvad/manage/Machines/..%c0%afx", Ambiguous::NotUtf8),
    ("/cvad/manage/Machines/%c0%ae%c0%ae/x", Ambiguous::NotUtf8),
    ("/cvad/manage/Machines/%e0%80%afx", Ambiguous::NotUtf8),
    ("/monitorodata/Sales%20B%FCro", Ambiguous::NotUtf8),
    ("/cvad/manage/Machines/%ED%A0%80", Ambiguous::NotUtf8),
    // Characters that some servers map to others: fullwidth solidus, fullwidth full stops, one dot
    // leader, fullwidth letter, Kelvin sign, combining diaeresis, zero-width space, next-line
    // control.
    (
        "/cvad/manage/Machines/..%EF%BC%8Fx",
        Ambiguous::ConfusableCharacter,
    ),
    (
        "/cvad/manage/Machines/%EF%BC%8E%EF%BC%8E/x",
        Ambiguous::ConfusableCharacter,
    ),
    (
        "/cvad/manage/Machines/%E2%80%A4%E2%80%A4/x",
        Ambiguous::ConfusableCharacter,
    ),
    (
        "/cvad/manage/%EF%BC%ADachines",
        Ambiguous::ConfusableCharacter,
    ),
    ("/cvad/manage/%E2%84%AA", Ambiguous::ConfusableCharacter),
    (
        "/cvad/manage/Machines/u%CC%88",
        Ambiguous::ConfusableCharacter,
    ),
    (
        "/cvad/manage/Machines/.%E2%80%8B./x",
        Ambiguous::ConfusableCharacter,
    ),
    (
        "/cvad/manage/Machines/%C2%85",
        Ambiguous::ConfusableCharacter,
    ),
    // Characters that must be escaped; query and fragment are never part of the path.
    ("/cvad/manage/Machines?limit=5", Ambiguous::Unescaped),
    ("/cvad/manage/Machines#x", Ambiguous::Unescaped),
    ("/cvad/manage/Mach ines", Ambiguous::Unescaped),
    ("/monitorodata/Sales%20B\u{fc}ro", Ambiguous::Unescaped),
    ("/cvad/manage/Machines.", Ambiguous::SegmentEdge),
    ("/cvad/manage/Machines.+", Ambiguous::SegmentEdge),
    ("/cvad/manage/Machines+%20+", Ambiguous::SegmentEdge),
    ("/cvad/manage/Machines%20", Ambiguous::SegmentEdge),
    ("/cvad/manage/%20Machines", Ambiguous::SegmentEdge),
    ("/cvad/manage/Machines%20/1", Ambiguous::SegmentEdge),
    ("/cvad./manage/Machines", Ambiguous::SegmentEdge),
];

/// Paths that some server reads as one below `/monitorodata`, whose limit must apply.
pub const LIMITED_SPELLINGS: &[&str] = &[
    "//monitorodata/x",
    "///monitorodata/x",
    "/./monitorodata/x",
    "/%6donitorodata/x",
    "/%6Donitorodata",
    "/monitorodat%61/x",
    "/%256donitorodata/x",
    "/MonitorOData/x",
    "/monitorodata%2Fx",
    "/monitorodata\\x",
    "/\\monitorodata/x",
    "/monitorodata;v=1/x",
    "/monitorodata%3Bv/x",
    "/monitorodata./x",
    "/monitorodata%20/x",
    "/monitorodata%00/x",
    "/monitorodata%3Fx",
    "/x/../monitorodata/x",
    "/x/%2e%2e/monitorodata/x",
    "/x/..;/monitorodata/x",
    "/monitorodata/../x",
    "/%2e/monitorodata/x",
    "/%2Fmonitorodata/x",
    "/%EF%BD%8Donitorodata/x",
];

/// Paths that some server reads as that of a login.
pub const LOGIN_SPELLINGS: &[&str] = &[
    "/cctrustoauth2/acme/tokens%2Fclients",
    "/cctrustoauth2/acme/tokens%252Fclients",
    "/cctrustoauth2/acme/tokens/clients;x",
    "/cctrustoauth2/acme/tokens;x/clients",
    "/cctrustoauth2/acme/tokens/clients%3Bx",
    "/cctrustoauth2/acme/tokens/clients//",
    "/cctrustoauth2/acme//tokens/clients",
    "/cctrustoauth2/acme/tokens//clients",
    "/cctrustoauth2/acme/tokens/./clients",
    "/cctrustoauth2/acme/./tokens/clients",
    "/cctrustoauth2/acme/tokens/clients/.",
    "/cctrustoauth2/acme/tokens/x/../clients",
    "/cctrustoauth2/acme/tokens/%63lients",
    "/cctrustoauth2/acme/tokens/%2563lients",
    "/CCTrustOAuth2/acme/Tokens/CLIENTS",
    "/cctrustoauth2/acme/tokens\\clients",
    "/cctrustoauth2/acme/tokens%5Cclients",
    "/cctrustoauth2/acme/tokens/clients%20",
    "/cctrustoauth2/acme/tokens/clients.",
    "/cctrustoauth2/acme/tokens/clients+",
    "/cctrustoauth2/acme/tokens/clients%00",
    "/cctrustoauth2/acme/tokens/clients%3Fx",
    "/cctrustoauth2/acme/tokens/clients%23x",
    "/x/../cctrustoauth2/acme/tokens/clients",
    "/cctrustoauth2/acme/tokens/%EF%BD%83lients",
];

/// Paths that some server reads as that of a DaaS batch, or that have a batch at a place where none
/// is documented.
pub const BATCH_LOOKALIKES: &[&str] = &[
    "/cvad/manage/$%62atch",
    "/cvad/manage/%2524batch",
    "/cvad/manage/$batch;x",
    "/cvad/manage/$batch%3Bx",
    "/cvad/manage/$batch//",
    "/cvad/manage//$batch",
    "/cvad/manage/./$batch",
    "/cvad/manage/$batch/.",
    "/cvad/manage/x/../$batch",
    "/cvad/manage/$batch.",
    "/cvad/manage/$batch%20",
    "/cvad/manage/$batch+",
    "/cvad/manage/$batch%00",
    "/cvad/manage/$batch%3Fx",
    "/cvad/manage%2F$batch",
    "/cvad/manage\\$batch",
    "/cvad//manage/$batch",
    "//cvad/manage/$batch",
    "/%63vad/manage/$%62atch",
    "/cvad;x/manage/$batch",
    "/cvad/manage/Machines/$batch",
];
