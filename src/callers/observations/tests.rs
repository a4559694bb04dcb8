use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use citrix_wire::policy::pattern::PathRules;
use citrix_wire::policy::{Decision, Rules};

#[test]
fn what_was_seen_becomes_a_block_that_can_be_pasted() {
    let seen = Observations::default();
    for id in 1..=100 {
        seen.record("GET", &format!("/cvad/manage/Machines/{id}"), "Acme");
        seen.record(
            "POST",
            &format!("/cvad/manage/Machines/{id}/$reboot"),
            "acme",
        );
    }
    seen.record("GET", "/cvad/manage/Machines/$search", "acme");
    seen.record("GET", "/systemlog/records", "contoso");
    seen.record("GET", "/monitorodata\\Applications", "acme");
    let expected = r#"# From 203 requests of this caller.
# 1 of them no rule can allow: the path has a backslash, which some servers read as a slash.
# Copy secret_sha256, networks, client_certificate and limits from the present block.
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
mode = "observe"  # then "enforce", when nothing is counted any more
"#;
    let block = seen.suggest("night \"watch\\man\u{1b}");
    assert_eq!(block, expected);
    let table: toml::Table = toml::from_str(&block).unwrap();
    assert_eq!(
        table["caller"][0]["name"].as_str(),
        Some("night \"watch\\man\u{1b}")
    );
}

#[test]
fn who_was_not_seen_gets_no_rules() {
    let block = Observations::default().suggest("new");
    let table: toml::Table = toml::from_str(&block).unwrap();
    let caller = table["caller"][0].as_table().unwrap();
    assert_eq!(caller.keys().collect::<Vec<_>>(), ["mode", "name"]);
}

#[test]
fn many_names_in_one_place_are_taken_for_objects_and_that_is_said() {
    let seen = Observations::default();
    let name = |number: u8| {
        char::from(b'a' + number % 26)
            .to_string()
            .repeat(1 + usize::from(number / 26))
    };
    for number in 0..MANY {
        seen.record(
            "GET",
            &format!("/x/Groups/{}", name(u8::try_from(number).unwrap())),
            "acme",
        );
        seen.record(
            "GET",
            &format!("/x/{}", name(u8::try_from(number % 9).unwrap())),
            "acme",
        );
    }
    let block = seen.suggest("x");
    assert!(
        block.contains("\"/x/Groups/*\",  # 32 names were seen here"),
        "{block}"
    );
    assert!(
        !block.contains("\"/x/*\""),
        "nine may be collections: {block}"
    );
}

#[test]
fn the_first_shapes_are_kept_and_the_rest_is_counted() {
    let seen = Observations::default();
    let name = |number: usize| -> String {
        [number / 26, number % 26]
            .iter()
            .map(|letter| char::from(b'g' + u8::try_from(*letter).unwrap() % 19))
            .collect()
    };
    let mut kept = BTreeSet::new();
    for number in 0..650 {
        seen.record(
            "GET",
            &format!("/{}/{}", name(number / 2), name(number)),
            "acme",
        );
        kept.insert((name(number / 2), name(number)));
    }
    assert!(kept.len() > MOST_SHAPES);
    assert_eq!(seen.lock().shapes.len(), MOST_SHAPES);
    let before = seen.overflow();
    assert!(before > 0);
    seen.record("GET", &format!("/{}/{}", name(0), name(0)), "acme");
    assert_eq!(
        seen.overflow(),
        before,
        "a shape that is kept is counted on"
    );
    for (method, path, customer) in [
        ("GET", format!("/{}", "ab/".repeat(300)), "acme"),
        ("AVERYLONGMETHODINDEED", "/a".to_owned(), "acme"),
        ("GET", format!("/{}/{}", name(0), name(0)), &"c".repeat(65)),
    ] {
        seen.record(method, &path, customer);
    }
    assert_eq!(seen.overflow(), before + 3);
    assert!(
        seen.suggest("x").contains("more are not in here"),
        "{}",
        seen.suggest("x")
    );
}

#[test]
fn what_a_caller_writes_for_a_method_comes_into_no_block() {
    let seen = Observations::default();
    for method in [
        "\u{1b}[2J",
        "\"]\n[insecure]",
        "\u{202e}TEG",
        "get",
        "FOO",
        "",
    ] {
        seen.record_item("/cvad/manage", method, "Machines", "acme");
    }
    assert_eq!(seen.overflow(), 6);
    seen.record("GET", "/a", "acme");
    let block: toml::Table = toml::from_str(&seen.suggest("x")).unwrap();
    let methods: Vec<_> = block["caller"][0]["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str())
        .collect();
    assert_eq!(methods, [Some("GET")]);
}

#[test]
fn customers_are_bounded_too() {
    let seen = Observations::default();
    for number in 0..100 {
        seen.record("GET", "/a", &format!("customer{number}"));
    }
    assert_eq!(seen.lock().customers.len(), MOST_CUSTOMERS);
    assert_eq!(seen.overflow(), 100 - 64);
}

proptest! {
    #[test]
    fn what_was_observed_is_allowed_by_what_is_suggested(
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
