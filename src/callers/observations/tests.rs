use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Rules};

#[test]
fn observed_requests_become_a_valid_block() {
    let observations = Observations::default();
    for id in 1..=100 {
        observations.record("GET", &format!("/cvad/manage/Machines/{id}"), "Acme");
        observations.record(
            "POST",
            &format!("/cvad/manage/Machines/{id}/$reboot"),
            "acme",
        );
    }
    observations.record("GET", "/cvad/manage/Machines/$search", "acme");
    observations.record("GET", "/systemlog/records", "contoso");
    observations.record("GET", "/monitorodata\\Applications", "acme");
    let expected = r#"# From 203 requests of this caller.
# No rule can allow 1 of them: the path has a backslash, which some servers read as a slash.
# Copy secret_sha256, networks, client_certificate and limits from the current block.
[[caller]]
name = "night \"watch\\man\u001b"
methods = [
    "GET",
    "POST",
]
paths = [
    "/cvad/manage/Machines/*",
    "/cvad/manage/Machines/*/$reboot",
    "/systemlog/records",
]
customers = [
    "acme",
    "contoso",
]
mode = "observe"  # "enforce" once policy_would_deny_total stays constant
"#;
    let block = observations.suggest("night \"watch\\man\u{1b}");
    assert_eq!(block, expected);
    let table: toml::Table = toml::from_str(&block).unwrap();
    assert_eq!(
        table["caller"][0]["name"].as_str(),
        Some("night \"watch\\man\u{1b}")
    );
}

#[test]
fn caller_without_requests_gets_no_rules() {
    let block = Observations::default().suggest("new");
    let table: toml::Table = toml::from_str(&block).unwrap();
    let caller = table["caller"][0].as_table().unwrap();
    assert_eq!(caller.keys().collect::<Vec<_>>(), ["mode", "name"]);
}

#[test]
fn many_names_in_one_segment_become_a_pattern_with_a_note() {
    let observations = Observations::default();
    let name = |number: u8| {
        char::from(b'a' + number % 26)
            .to_string()
            .repeat(1 + usize::from(number / 26))
    };
    for number in 0..MIN_OBJECT_NAMES {
        observations.record(
            "GET",
            &format!("/x/Groups/{}", name(u8::try_from(number).unwrap())),
            "acme",
        );
        observations.record(
            "GET",
            &format!("/x/{}", name(u8::try_from(number % 9).unwrap())),
            "acme",
        );
    }
    let block = observations.suggest("x");
    assert!(
        block.contains("\"/x/Groups/*\",  # stands for 32 names"),
        "{block}"
    );
    assert!(
        !block.contains("\"/x/*\""),
        "nine may be collections: {block}"
    );
}

#[test]
fn shapes_beyond_the_maximum_are_counted() {
    let observations = Observations::default();
    let name = |number: usize| -> String {
        [number / 26, number % 26]
            .iter()
            .map(|letter| char::from(b'g' + u8::try_from(*letter).unwrap() % 19))
            .collect()
    };
    let mut kept = BTreeSet::new();
    for number in 0..650 {
        observations.record(
            "GET",
            &format!("/{}/{}", name(number / 2), name(number)),
            "acme",
        );
        kept.insert((name(number / 2), name(number)));
    }
    assert!(kept.len() > MAX_SHAPES);
    assert_eq!(observations.lock().shapes.len(), MAX_SHAPES);
    let before = observations.overflow();
    assert!(before > 0);
    observations.record("GET", &format!("/{}/{}", name(0), name(0)), "acme");
    assert_eq!(
        observations.overflow(),
        before,
        "a recorded shape is not overflow"
    );
    for (method, path, customer) in [
        ("GET", format!("/{}", "ab/".repeat(300)), "acme"),
        ("AVERYLONGMETHODINDEED", "/a".to_owned(), "acme"),
        ("GET", format!("/{}/{}", name(0), name(0)), &"c".repeat(65)),
    ] {
        observations.record(method, &path, customer);
    }
    assert_eq!(observations.overflow(), before + 3);
    assert!(
        observations.suggest("x").contains("more are not covered"),
        "{}",
        observations.suggest("x")
    );
}

#[test]
fn unknown_method_appears_in_no_block() {
    let observations = Observations::default();
    for method in [
        "\u{1b}[2J",
        "\"]\n[insecure]",
        "\u{202e}TEG",
        "get",
        "FOO",
        "",
    ] {
        observations.record_item("/cvad/manage", method, "Machines", "acme");
    }
    assert_eq!(observations.overflow(), 6);
    observations.record("GET", "/a", "acme");
    let block: toml::Table = toml::from_str(&observations.suggest("x")).unwrap();
    let methods: Vec<_> = block["caller"][0]["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str())
        .collect();
    assert_eq!(methods, [Some("GET")]);
}

#[test]
fn number_of_customers_is_bounded() {
    let observations = Observations::default();
    for number in 0..100 {
        observations.record("GET", "/a", &format!("customer{number}"));
    }
    assert_eq!(observations.lock().customers.len(), MAX_CUSTOMERS);
    assert_eq!(observations.overflow(), 100 - 64);
}

proptest! {
    #[test]
    fn suggested_rules_allow_the_observed_requests(
        paths in vec("(/[ab]|/%61|/%24s|/S%20p|/%C3%BC|/x\\*y|/12|/Machines\\(7\\)|/%7C){0,4}/?", 1..60),
    ) {
        let paths: Vec<String> = paths.into_iter().map(|path| if path.is_empty() { "/".to_owned() } else { path }).collect();
        let observations = Observations::default();
        paths.iter().for_each(|path| observations.record("GET", path, "acme"));
        let block: toml::Table = toml::from_str(&observations.suggest("x")).unwrap();
        let texts = block["caller"][0]["paths"].as_array().unwrap();
        let texts = PathRules::new(texts.iter().map(|path| path.as_str().unwrap())).unwrap();
        let rules = Rules::new(vec![http::Method::GET], texts, vec!["acme".into()]);
        for path in &paths {
            prop_assert_eq!(rules.evaluate("GET", path, "acme"), Decision::Allowed, "{}", path);
        }
    }
}
