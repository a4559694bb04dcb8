//! Models of the ways in which web servers parse a path, and a reference matcher for path rules.
//! Property tests compare the policy with them, so this module is independent of the code under
//! test.

/// A model of how one kind of server splits a path into segments.
pub struct ServerModel {
    pub name: &'static str,
    pub segments: fn(&str) -> Vec<String>,
    pub case_insensitive: bool,
}

pub const SERVERS: [ServerModel; 9] = [
    // Compares the raw path; decodes only escapes of characters that a path cannot contain.
    ServerModel {
        name: "as written",
        segments: |path| split(&decode_needed(path)),
        case_insensitive: false,
    },
    ServerModel {
        name: "decode once",
        segments: |path| split(&text(decode(path.as_bytes()))),
        case_insensitive: false,
    },
    ServerModel {
        name: "decode twice",
        segments: |path| resolve(&text(decode(&decode(path.as_bytes())))),
        case_insensitive: false,
    },
    // Merges slashes, resolves dot segments, truncates at NUL.
    ServerModel {
        name: "nginx",
        segments: |path| resolve(&until(&text(decode(path.as_bytes())), &['\0'])),
        case_insensitive: false,
    },
    // `path.Clean` after decoding.
    ServerModel {
        name: "Go",
        segments: |path| resolve(&text(decode(path.as_bytes()))),
        case_insensitive: false,
    },
    // Strips parameters, decodes, then resolves dot segments.
    ServerModel {
        name: "Tomcat",
        segments: |path| resolve(&text(decode(without_parameters(path).as_bytes()))),
        case_insensitive: false,
    },
    ServerModel {
        name: "ASP.NET",
        segments: windows,
        case_insensitive: true,
    },
    // Decodes until nothing changes and maps lookalike characters to ASCII.
    ServerModel {
        name: "IIS with best fit",
        segments: best_fit,
        case_insensitive: true,
    },
    // Decodes like a form value and cuts off a query.
    ServerModel {
        name: "form",
        segments: |path| windows(&until(&path.replace('+', " "), &['?', '#'])),
        case_insensitive: true,
    },
];

/// Splits at slashes, ignoring one leading and one trailing slash.
pub fn split(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        Vec::new()
    } else {
        path.split('/').map(str::to_owned).collect()
    }
}

/// Splits at slashes; drops empty segments and resolves dot segments.
fn resolve(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other.to_owned()),
        }
    }
    segments
}

fn windows(path: &str) -> Vec<String> {
    let path = text(decode(path.as_bytes())).replace('\\', "/");
    let path = until(&path, &['?', '#', '\0']);
    let trimmed: Vec<_> = path
        .split('/')
        .map(|segment| match segment {
            "." | ".." => segment,
            other => other.trim_end_matches(['.', ' ']),
        })
        .collect();
    resolve(&trimmed.join("/"))
}

fn best_fit(path: &str) -> Vec<String> {
    let mut bytes = path.as_bytes().to_vec();
    loop {
        let decoded = decode(&bytes);
        if decoded == bytes {
            break;
        }
        bytes = decoded;
    }
    let ascii = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap(),
        '\u{2024}' => '.',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2216}' => '\\',
        '\u{212a}' => 'K',
        other => other,
    };
    let path: String = text(bytes)
        .chars()
        .map(ascii)
        .filter(|c| *c != '\u{200b}')
        .collect();
    windows(&path.replace('%', "%25"))
}

fn without_parameters(path: &str) -> String {
    let bare: Vec<_> = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap())
        .collect();
    bare.join("/")
}

fn until(path: &str, ends: &[char]) -> String {
    path.split(ends).next().unwrap().to_owned()
}

/// Decodes percent escapes; leaves invalid ones unchanged.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if let (b'%', Some(digits)) = (first, digits) {
            decoded.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

/// Converts to text like a lenient decoder: overlong two-byte forms become the ASCII character they
/// encode.
fn text(bytes: Vec<u8>) -> String {
    let mut plain = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (0xc0 | 0xc1, [second @ 0x80..0xc0, ..]) => {
                plain.push(((first & 1) << 6) | (second & 0x3f));
                rest = &after[1..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Decodes only escapes of characters that a path cannot contain unescaped.
fn decode_needed(path: &str) -> String {
    let needed = |escape: &str| match decode(escape.as_bytes())[..] {
        [byte] => !(byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)),
        _ => false,
    };
    let mut bytes = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = if rest.get(..3).is_some_and(needed) {
            3
        } else {
            first.len_utf8()
        };
        let (piece, after) = rest.split_at(length);
        bytes.extend(if length == 3 {
            decode(piece.as_bytes())
        } else {
            piece.as_bytes().to_vec()
        });
        rest = after;
    }
    text(bytes)
}

/// Returns the first server that finds a path outside all patterns, with the segments it reads.
pub fn first_outside(patterns: &[&str], path: &str) -> Option<(&'static str, Vec<String>)> {
    SERVERS.iter().find_map(|server| {
        let fold = |text: &str| {
            if server.case_insensitive {
                text.to_lowercase()
            } else {
                text.to_owned()
            }
        };
        let segments: Vec<String> = (server.segments)(path)
            .iter()
            .map(|segment| fold(segment))
            .collect();
        let covered = patterns
            .iter()
            .any(|pattern| inside(&split(&fold(pattern)), &segments));
        (!covered).then_some((server.name, segments))
    })
}

/// Returns the first server whose reading of a path, in lower case, satisfies a condition.
pub fn first_reading(path: &str, condition: impl Fn(&[String]) -> bool) -> Option<&'static str> {
    let mut servers = SERVERS.iter();
    let found = servers.find(|server| {
        let segments: Vec<String> = (server.segments)(path)
            .iter()
            .map(|segment| segment.to_lowercase())
            .collect();
        condition(&segments)
    });
    found.map(|server| server.name)
}

/// Returns `true` for a path below `/monitorodata`.
pub fn is_limited(segments: &[String]) -> bool {
    segments.first().is_some_and(|name| name == "monitorodata")
}

/// Returns `true` for the path of a login.
pub fn is_login(segments: &[String]) -> bool {
    let [.., customer, tokens, clients] = segments else {
        return false;
    };
    !customer.trim().is_empty() && tokens == "tokens" && clients == "clients"
}

/// Returns `true` for the path of a DaaS batch.
pub fn is_batch(segments: &[String]) -> bool {
    let [cvad, manage, .., last] = segments else {
        return false;
    };
    cvad == "cvad" && manage == "manage" && last == "$batch"
}

/// Returns `true` if a pattern covers segments. Tries every possibility: slow, but obviously
/// correct.
pub fn inside(pattern: &[String], segments: &[String]) -> bool {
    match (pattern.split_first(), segments.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=segments.len()).any(|skip| inside(rest, &segments[skip..]))
        }
        (Some((glob, rest)), Some((segment, others))) => {
            let (glob, segment): (Vec<_>, Vec<_>) =
                (glob.chars().collect(), segment.chars().collect());
            matches(&glob, &segment) && inside(rest, others)
        }
        _ => false,
    }
}

fn matches(glob: &[char], segment: &[char]) -> bool {
    match glob.split_first() {
        None => segment.is_empty(),
        Some(('*', rest)) => (0..=segment.len()).any(|skip| matches(rest, &segment[skip..])),
        Some((character, rest)) => {
            segment.first() == Some(character) && matches(rest, &segment[1..])
        }
    }
}
