//! Compares the rewriter with a reference that has the whole document: a tree written twice, as
//! Citrix sends it and as the caller should receive it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

#[derive(Clone, Debug)]
enum Json {
    /// A number, a literal, or a string without a known origin.
    Raw(String),
    /// A string that begins with an origin.
    Link {
        origin: OriginPair,
        rest: String,
    },
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// `Headers`: an array of pairs and other elements.
    Headers(Vec<Json>),
    Pair {
        fields: Vec<(String, Json)>,
        header: String,
        value: Box<Json>,
        value_first: bool,
    },
}

/// An origin in JSON and its replacement.
type OriginPair = (&'static str, &'static str);

const ORIGINS: [OriginPair; 9] = [
    ("https://api.cloud.com", "https://gw.example.net"),
    (r"https:\/\/api.cloud.com", r"https:\/\/gw.example.net"),
    ("HTTPS://API.cloud.COM:443", "https://gw.example.net"),
    (
        r"http:\/\/Api-EU.cloud.com",
        r"https:\/\/gw.example.net\/region\/eu",
    ),
    (
        "https://acme.xendesktop.net",
        "https://gw.example.net/direct/acme",
    ),
    (
        r"https:\u002f\u002Fapi.cloud.c\u006fm",
        "https://gw.example.net",
    ),
    (
        r"https://reports.example.cloud.com\/api",
        r"https:\/\/gw.example.net\/reports",
    ),
    ("https://other.example", "https://other.example"),
    (
        r"https:\/\/errors-api.cloud.com",
        r"https:\/\/errors-api.cloud.com",
    ),
];

const LINK_NAMES: [&str; 8] = [
    "@odata.nextLink",
    "@odata.context",
    "Sessions@odata.deltaLink",
    "@nextLink",
    "Sessions@context",
    "@deltaLink",
    "ResultLocation",
    "Location",
];

/// Names similar to those of links. Neither `Name` nor `Value`, which pairs have exactly once.
const OTHER_NAMES: [&str; 12] = [
    "Id",
    "odata.nextLink",
    "@odata.id",
    "nextLink",
    "@id",
    "user@contoso",
    "Headers2",
    r#"\"Location"#,
    r#"a\"ResultLocation"#,
    r"back\\",
    "",
    r##"\"Headers\":[{\"Name\":\"Location\""##,
];

fn is_link_name(name: &str) -> bool {
    LINK_NAMES.contains(&name)
}

impl Json {
    /// Writes the value, with rewritten links if `rewritten`. `is_link` is `true` if a string at
    /// this position is a link.
    fn write(&self, rewritten: bool, is_link: bool, space: &str, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::Link {
                origin: (original, replacement),
                rest,
            } => {
                let origin = if rewritten && is_link {
                    replacement
                } else {
                    original
                };
                out.extend(["\"", *origin, rest, "\""]);
            }
            Self::Array(items) | Self::Headers(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { space });
                    item.write(rewritten, false, space, out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                write_fields(fields, rewritten, space, out);
                out.push('}');
            }
            Self::Pair {
                fields,
                header,
                value,
                value_first,
            } => {
                let is_location = header.eq_ignore_ascii_case("location");
                let mut name = String::new();
                out.push('{');
                name.extend(["\"Name\"", space, ":", space, "\"", header, "\""]);
                if !value_first {
                    out.extend([&*name, ","]);
                }
                out.extend(["\"Value\"", space, ":"]);
                value.write(rewritten, is_location, space, out);
                out.push_str(space);
                if !fields.is_empty() {
                    out.push(',');
                    write_fields(fields, rewritten, space, out);
                }
                if *value_first {
                    out.extend([",", &*name]);
                }
                out.push('}');
            }
        }
    }
}

fn write_fields(fields: &[(String, Json)], rewritten: bool, space: &str, out: &mut String) {
    for (index, (name, value)) in fields.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let name = if matches!(value, Json::Headers(_)) {
            "Headers"
        } else {
            name
        };
        out.extend([comma, space, "\"", name, "\"", space, ":", space]);
        value.write(rewritten, is_link_name(name), space, out);
    }
}

fn leaf() -> impl Strategy<Value = Json> {
    let raw = select(vec![
        "null",
        "-1.5e3",
        "true",
        r#""""#,
        r#""Location""#,
        r#""@nextLink""#,
        r#""user@example""#,
        r#""ends with \\""#,
        r#""]}{[\"""#,
        r#""\"Location\":\"https://api.cloud.com/\"""#,
        r#""na\u00efve \ud83e\udd80 é""#,
        r#""Machines?$skip=1""#,
    ]);
    let rest = select(vec![
        "",
        "/",
        r"\/a\/b?x=1&y=%2F",
        r"/q?a=\u0026b",
        "?x#y",
        r#"/\"quoted\"\\"#,
    ]);
    prop_oneof![
        raw.prop_map(|raw| Json::Raw(raw.to_owned())),
        (select(ORIGINS.to_vec()), rest).prop_map(|(origin, rest)| Json::Link {
            origin,
            rest: rest.to_owned()
        }),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![select(LINK_NAMES.to_vec()), select(OTHER_NAMES.to_vec())].prop_map(str::to_owned)
}

fn json() -> impl Strategy<Value = Json> {
    leaf().prop_recursive(4, 48, 5, |inner| {
        let fields = || vec((name(), inner.clone()), 0..5);
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Json::Array),
            fields().prop_map(Json::Object),
            (fields(), headers(inner.clone())).prop_map(|(mut fields, headers)| {
                fields.push(("Headers".to_owned(), headers));
                Json::Object(fields)
            }),
        ]
    })
}

/// Returns an array of pairs and other elements, without a nested `Headers`, which is not parsed as
/// such.
fn headers(inner: impl Strategy<Value = Json> + Clone + 'static) -> impl Strategy<Value = Json> {
    let inner = inner.prop_filter("no Headers inside Headers", |json| !json.has_headers());
    let header = select(vec![
        "Location",
        "LOCATION",
        "Content-Location",
        "",
        r"Loca\u0074ion",
    ]);
    let pair = (
        vec((name(), inner.clone()), 0..3),
        header,
        leaf(),
        any::<bool>(),
    );
    let pair = pair.prop_map(|(fields, header, value, value_first)| Json::Pair {
        fields,
        header: header.to_owned(),
        value: Box::new(value),
        value_first,
    });
    vec(prop_oneof![3 => pair, 1 => inner], 0..4).prop_map(Json::Headers)
}

impl Json {
    fn has_headers(&self) -> bool {
        match self {
            Self::Headers(_) => true,
            Self::Array(items) => items.iter().any(Self::has_headers),
            Self::Object(fields) => fields.iter().any(|(_, value)| value.has_headers()),
            Self::Raw(_) | Self::Link { .. } | Self::Pair { .. } => false,
        }
    }
}

proptest! {
    #[test]
    fn only_links_of_a_document_change_for_any_pieces(
        json in json(),
        space in select(vec!["", " ", "\n\t "]),
        sizes in vec(1usize..40, 1..12),
    ) {
        let (mut input, mut expected) = (String::new(), String::new());
        json.write(false, false, space, &mut input);
        json.write(true, false, space, &mut expected);
        serde_json::from_str::<serde_json::Value>(&input).expect("the reference writes JSON");
        let (out, _) = rewrite_in_pieces(links(), input.as_bytes(), &sizes);
        prop_assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn output_for_any_bytes_is_independent_of_pieces(
        words in vec(select(WORDS.to_vec()), 0..30),
        sizes in vec(1usize..20, 1..12),
    ) {
        let bytes = words.concat();
        let whole = rewrite_in_pieces(links(), &bytes, &[usize::MAX]);
        prop_assert_eq!(rewrite_in_pieces(links(), &bytes, &sizes), whole);
    }

    #[test]
    fn any_bytes_are_unchanged_with_an_empty_table(
        words in vec(select(WORDS.to_vec()), 0..30),
        sizes in vec(1usize..20, 1..12),
    ) {
        let bytes = words.concat();
        let links = LinkRewriter::new(Rc::default(), BASE, "api.cloud.com");
        prop_assert_eq!(rewrite_in_pieces(links, &bytes, &sizes).0, bytes);
    }
}

/// Parts of invalid JSON.
const WORDS: [&[u8]; 26] = [
    b"\"",
    b"\\",
    b":",
    b",",
    b" ",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\xff",
    b"\"Location\"",
    b"\"Headers\":[",
    b"\"Name\":\"Location\"",
    b"\"Value\":\"https://api.cloud.com/\"",
    b"@odata.nextLink\"",
    b"@nextLink\"",
    b"@context",
    b"\"ResultLocation",
    b"Location\":\"",
    b"\"Name\"",
    b"\"Value\"",
    b"https:\\/\\/api.cloud.com",
    b"\"//api.cloud.com/\"",
    b"@odata.",
    b"Headers\"",
    b"\\u00",
];
