use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn parse(body: &str) -> Result<BatchBody, BatchError> {
    BatchBody::parse(&Bytes::copy_from_slice(body.as_bytes()))
}

fn fill(batch: BatchBody, token: &str) -> String {
    let [cws, bearer] = [AuthorizationScheme::Cws, AuthorizationScheme::Bearer]
        .map(|scheme| scheme.header_value(token).unwrap());
    let pieces = batch.into_template().fill(|scheme| match scheme {
        AuthorizationScheme::Cws => &cws,
        AuthorizationScheme::Bearer => &bearer,
    });
    String::from_utf8(pieces.concat()).unwrap()
}

/// Returns a body with `T` as the token.
fn filled(body: &str) -> String {
    fill(
        parse(body).unwrap_or_else(|error| panic!("{body}: {error}")),
        "T",
    )
}

fn with_headers(headers: &str) -> String {
    format!(r#"{{"Items":[{{"RelativeUrl":"me","Headers":{headers}}}]}}"#)
}

fn error(body: &str) -> BatchError {
    parse(body)
        .err()
        .unwrap_or_else(|| panic!("{body} was parsed"))
}

#[test]
fn batch_paths_are_recognized_at_the_gateway_and_direct_hosts() {
    for path in [
        "/cvad/manage/$batch",
        "/Cvad/Manage/$Batch",
        "/cvad/manage/%24BATCH",
        "/cvad/manage/$batch/",
        "/cvad/manage//$batch",
        "/cvad/manage/x/$batch",
        "/citrix/orchestration/api/acme/site/$batch",
        "/Citrix/Orchestration/API/techpreview/acme/site/$batch",
    ] {
        assert!(is_batch(path), "{path}");
    }
    for path in [
        "/$batch",
        "/monitorodata/$batch",
        "/Citrix/Monitor/OData/v4/Data/$batch",
        "/cvad/manage",
        "/cvad/manage/$batches",
        "/cvad/manage/a$batch",
        "/cvad/manage/$batch/Machines",
        "/cvad/management/$batch",
        "",
    ] {
        assert!(!is_batch(path), "{path}");
    }
}

#[test]
fn contract_2_scheme_of_the_caller_is_kept() {
    for (value, expected) in [
        ("Bearer dummy", "Bearer T"),
        ("bearer dummy", "Bearer T"),
        ("CwsAuth Bearer=dummy", "CwsAuth Bearer=T"),
        ("CWSAuth bearer=dummy", "CwsAuth Bearer=T"),
        ("CWSAuth bearer=   dummy", "CwsAuth Bearer=T"),
        (r#" cwsauth  BEARER=\"dummy\""#, "CwsAuth Bearer=T"),
        (r"\u0043wsAuth Bearer=dummy", "CwsAuth Bearer=T"),
        ("CWSAuth service=key", "CwsAuth Bearer=T"),
        ("bearer bearer dummy", "Bearer T"),
        ("Basic ZHVtbXk6", "Bearer T"),
        ("dummy", "Bearer T"),
        ("ümläut", "Bearer T"),
        ("", "Bearer T"),
    ] {
        let body = |value: &str| {
            with_headers(&format!(
                r#"[{{"Name":"Authorization","Value":"{value}"}}]"#
            ))
        };
        assert_eq!(filled(&body(value)), body(expected), "{value}");
    }
}

#[test]
fn token_is_found_in_any_form_of_its_field() {
    for (headers, expected) in [
        (
            r#"[{"Value":"x","Name":"Authorization"}]"#,
            r#"[{"Value":"Bearer T","Name":"Authorization"}]"#,
        ),
        (
            r#"[{"NAME":"AUTHORIZATION","value":"x"}]"#,
            r#"[{"NAME":"AUTHORIZATION","value":"Bearer T"}]"#,
        ),
        (
            r#"[{"N\u0061me":"\u0041uthorization","V\u0061lue":"x"}]"#,
            r#"[{"N\u0061me":"\u0041uthorization","V\u0061lue":"Bearer T"}]"#,
        ),
        (
            "[ { \"Name\" :\t\" Authorization \" , \"Value\" : \"x\\\"\" } ]",
            "[ { \"Name\" :\t\" Authorization \" , \"Value\" : \"Bearer T\" } ]",
        ),
        (
            r#"[{"Name":"A","Value":"x"},{"x":{"Value":"y"},"Name":"authorization","Value":"x"},{}]"#,
            r#"[{"Name":"A","Value":"x"},{"x":{"Value":"y"},"Name":"authorization","Value":"Bearer T"},{}]"#,
        ),
    ] {
        assert_eq!(filled(&with_headers(headers)), with_headers(expected));
    }
}

#[test]
fn other_values_are_unchanged() {
    for body in [
        &*with_headers(r#"[{"Name":"X-AdminCredential","Value":"Basic x"}]"#),
        &with_headers(r#"[{"Name":"Proxy-Authorization","Value":"x"},{"Name":null,"Value":1}]"#),
        &with_headers(r#"[{"Name":"Authorization"},{"Name":"Authorization","Value":null}]"#),
        &with_headers("null"),
        &with_headers("[]"),
        r#"{"Items":[],"Headers":[{"Name":"Authorization","Value":"x"}]}"#,
        r#"{"Items":[{"RelativeUrl":"me","Body":"{\"Name\":\"Authorization\",\"Value\":\"x\"}"}]}"#,
        "\u{feff}\r\n{\"Items\": [ {\"RelativeUrl\": \"/me\", \"Method\": null} ] , \"\\ud83d\\ude00\": -1.50e+3}\n",
    ] {
        assert_eq!(filled(body), body);
    }
}

#[test]
fn only_a_batch_directly_below_the_api_has_a_certain_base() {
    for (path, certain) in [
        ("/cvad/manage/$batch", true),
        ("/CVAD/manage/%24batch/", true),
        ("/cvad/manage/Machines/$batch", false),
        ("/citrix/orchestration/api/$batch", true),
        (
            "/citrix/orchestration/api/techpreview/acme/site/$batch",
            true,
        ),
        (
            "/citrix/orchestration/api/acme/site/Machines/x/$batch",
            false,
        ),
        ("/monitorodata/$batch", false),
        ("/cvad/manage/Machines", false),
    ] {
        assert_eq!(is_api_batch(path), certain, "{path}");
    }
}

#[test]
fn items_are_returned_in_order() {
    let batch = parse(
        r#"{"items":[{"Method":"POST","RelativeUrl":"Machines\/1\/$reboot"},
            {"relativeurl":"acme/site/me?x=\u00e4","METHOD":"get"},{"RelativeUrl":"about"}]}"#,
    );
    let batch = batch.ok().unwrap();
    let items: Vec<_> = batch
        .items()
        .iter()
        .map(|item| (item.method.as_str(), item.relative_url.as_str()))
        .collect();
    let expected = [
        ("POST", "Machines/1/$reboot"),
        ("get", "acme/site/me?x=ä"),
        ("GET", "about"),
    ];
    assert_eq!(items, expected);
}

#[test]
fn header_fields_of_an_item_are_evaluated() {
    for (fields, customers, misleading) in [
        (
            r#"[{"Name":"X-AdminCredential","Value":"Basic x"},{"Name":"Authorization","Value":"Bearer x"}]"#,
            &[][..],
            false,
        ),
        (
            r#"[{"Name":"citrix-customerid","Value":" Acme "}]"#,
            &["Acme"],
            false,
        ),
        (
            r#"[{"Name":" CUSTOMER","Value":"b"},{"Name":"Citrix-CustomerId","Value":"a"},{"Name":"Citrix-CustomerId","Value":""}]"#,
            &["b", "a"],
            false,
        ),
        (
            r#"[{"Name":"X-HTTP-Method-Override","Value":"DELETE"}]"#,
            &[],
            true,
        ),
        (r#"[{"Name":"X-Original-URL","Value":"/x"}]"#, &[], true),
        (r#"[{"Name":"host","Value":"other"}]"#, &[], true),
        (r#"[{"Name":"citrix_customerid","Value":"b"}]"#, &[], true),
        (r#"[{"Name":"a b","Value":"x"}]"#, &[], true),
        (
            r#"[{"Name":"A\r\nX-HTTP-Method","Value":"DELETE"}]"#,
            &[],
            true,
        ),
        (
            r#"[{"Name":"A","Value":"x\r\nX-HTTP-Method: DELETE"}]"#,
            &[],
            true,
        ),
        (r#"[{"Name":"Citrix-CustomerId","Value":1}]"#, &[], true),
    ] {
        let batch = parse(&with_headers(fields)).ok().unwrap();
        let [item] = batch.items() else {
            panic!("{fields}")
        };
        assert_eq!(
            (&*item.customers, item.has_misleading_fields),
            (
                &*customers
                    .iter()
                    .map(|id| (*id).to_owned())
                    .collect::<Vec<_>>(),
                misleading
            ),
            "{fields}"
        );
    }
}

#[test]
fn invalid_json_or_utf8_is_rejected_with_its_position() {
    for body in [
        "",
        "Items=1",
        "{'Items':[]}",
        "{\"Items\":[],}",
        "{\"Items\":[]/*x*/}",
        "{\"Items\":[{}",
    ] {
        assert!(
            matches!(error(body), BatchError::NotJson { line: 1, .. }),
            "{body}"
        );
    }
    assert_eq!(
        error("{\"Items\":[]}\n{}"),
        BatchError::NotJson { line: 2, column: 1 }
    );
    let not_utf8 = BatchBody::parse(&Bytes::from_static(b"{\n \"\xff\":1}")).err();
    assert_eq!(not_utf8, Some(BatchError::NotJson { line: 2, column: 3 }));
    let utf16: Vec<u8> = r#"{"Items":[]}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(matches!(
        BatchBody::parse(&utf16.into()).err(),
        Some(BatchError::NotJson { .. })
    ));
}

#[test]
fn body_without_one_array_items_is_rejected() {
    for body in [
        "{}",
        "[]",
        "1",
        r#"{"Items":null}"#,
        r#"{"Items":{}}"#,
        r#"{"Items":[],"items":[]}"#,
    ] {
        assert_eq!(error(body), BatchError::NoItems, "{body}");
    }
}

const INVALID_ITEMS: [&str; 15] = [
    "null",
    "{}",
    r#"{"RelativeUrl":1}"#,
    r#"{"RelativeUrl":"a","relativeURL":"b"}"#,
    r#"{"RelativeUrl":"\ud800"}"#,
    r#"{"RelativeUrl":"a","Method":"GET","Method":"POST"}"#,
    // Under Unicode case folding a long s is an S and a dotless i an I.
    "{\"RelativeUrl\":\"a\",\"Headerſ\":[]}",
    "{\"RelativeUrl\":\"a\",\"relatıveurl\":\"b\"}",
    r#"{"RelativeUrl":"a","Headers":{}}"#,
    r#"{"RelativeUrl":"a","Headers":[null]}"#,
    r#"{"RelativeUrl":"a","Headers":[],"Headers":[]}"#,
    r#"{"RelativeUrl":"a","Headers":[{"Name":"A","Name":"Authorization","Value":"x"}]}"#,
    r#"{"RelativeUrl":"a","Headers":[{"Name":"Authorization","Value":"x","value":"y"}]}"#,
    r#"{"RelativeUrl":"a","Headers":[{"Name":"Authorization","Value":["x"]}]}"#,
    r#"{"RelativeUrl":"a","Headers":[{"Name":"Authorization","Value":"x"},
        {"Name":"authorization","Value":"x"}]}"#,
];

#[test]
fn invalid_or_ambiguous_item_is_rejected() {
    for item in INVALID_ITEMS {
        let body = format!(r#"{{"Items":[{{"RelativeUrl":"me"}},{item}]}}"#);
        assert_eq!(error(&body), BatchError::Item(1), "{item}");
    }
}

#[test]
fn too_many_fields_or_items_are_rejected() {
    let fields = vec![r#"{"Name":"A"}"#; 1001].join(",");
    assert_eq!(
        error(&with_headers(&format!("[{fields}]"))),
        BatchError::Item(0)
    );
    let items = |count| {
        format!(
            r#"{{"Items":[{}]}}"#,
            vec![r#"{"RelativeUrl":"me"}"#; count].join(",")
        )
    };
    assert_eq!(
        parse(&items(MAX_ITEMS)).ok().unwrap().items().len(),
        MAX_ITEMS
    );
    assert_eq!(error(&items(MAX_ITEMS + 1)), BatchError::TooManyItems);
}

#[test]
fn deep_nesting_is_accepted() {
    let deep = format!(
        r#"{{"x":{}{},"Items":[]}}"#,
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert_eq!(filled(&deep), deep);
}

#[test]
fn error_quotes_nothing_of_the_body() {
    for body in [
        r#"{"Items":"s3cret"}"#,
        r#""s3cret""#,
        r#"{"Items":[{"RelativeUrl":"s3cret","Headers":"s3cret"}]}"#,
        r#"{"s3cret":[}"#,
    ] {
        let error = error(body);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{body}");
    }
}

/// Returns a text as a JSON string with some characters escaped.
fn escape(text: &str, escaped: &[bool]) -> String {
    let escape_char = |(at, char): (usize, char)| {
        if escaped
            .get(at % escaped.len().max(1))
            .copied()
            .unwrap_or_default()
        {
            char.encode_utf16(&mut [0; 2])
                .iter()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect()
        } else {
            let quoted = serde_json::to_string(&char.to_string()).unwrap();
            quoted[1..quoted.len() - 1].to_owned()
        }
    };
    let inside: String = text.chars().enumerate().map(escape_char).collect();
    format!("\"{inside}\"")
}

fn field() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        "[Aa]uthori[zZ]ation",
        Just("AUTHORIZATION".to_owned()),
        "[ -~]{0,8}",
        ".{0,4}".prop_map(|text| format!("X-{text}")),
    ];
    let value = prop_oneof![
        "(Bearer|CwsAuth Bearer=|CWSAUTH bearer= ?)[ -~]{0,9}",
        ".{0,9}"
    ];
    (name, value)
}

proptest! {
    #[test]
    fn only_tokens_are_replaced(
        items in prop::collection::vec((".{0,9}", ".{0,9}", prop::collection::vec(field(), 0..3)), 0..4),
        escaped in prop::collection::vec(any::<bool>(), 0..7),
        value_first in any::<bool>(),
        space in "[ \t\r\n]{0,3}",
        token in "[!-~\t]{1,30}",
    ) {
        let is_token = |name: &str| name.trim().eq_ignore_ascii_case("authorization");
        let write = |fill: bool| {
            let items: Vec<_> = items.iter().map(|(url, body, fields)| {
                let fields: Vec<_> = fields.iter().map(|(name, value)| {
                    let value = match value.trim_start().to_ascii_lowercase().starts_with("cwsauth") {
                        _ if !(fill && is_token(name)) => escape(value, &escaped),
                        true => serde_json::to_string(&format!("CwsAuth Bearer={token}")).unwrap(),
                        false => serde_json::to_string(&format!("Bearer {token}")).unwrap(),
                    };
                    let name = format!("{}{space}:{}", escape("Name", &escaped), escape(name, &escaped));
                    let value = format!("{}:{space}{value}", escape("vALUE", &escaped));
                    let [first, second] = if value_first { [value, name] } else { [name, value] };
                    format!("{{{first},{space}{second}}}")
                }).collect();
                let [url, body] = [url, body].map(|text| escape(text, &escaped));
                format!("{{\"Body\":{body},\"RelativeUrl\":{url},{space}\"Headers\":[{}]}}", fields.join(","))
            }).collect();
            format!("{space}{{{space}\"Items\":[{}{space}]}}", items.join(","))
        };
        let repeated = items.iter().any(|(_, _, fields)| {
            fields.iter().filter(|(name, _)| is_token(name)).count() > 1
        });
        match parse(&write(false)) {
            Ok(batch) => {
                prop_assert!(!repeated);
                let urls: Vec<_> = batch.items().iter().map(|item| item.relative_url.clone()).collect();
                prop_assert_eq!(urls, items.iter().map(|(url, ..)| url.clone()).collect::<Vec<_>>());
                let filled = fill(batch, &token);
                prop_assert_eq!(&filled, &write(true));
                serde_json::from_str::<Value>(&filled).unwrap();
            }
            Err(error) => prop_assert!(repeated, "{}", error),
        }
    }

    #[test]
    fn any_body_is_parsed_without_panic(body in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        "[\\[\\]{}\":,nul0-9ItemsName \\\\]{0,60}".prop_map(String::into_bytes),
    ]) {
        let body = Bytes::from(body);
        if let Ok(batch) = BatchBody::parse(&body) {
            let value = HeaderValue::from_static("x");
            let filled = batch.into_template().fill(|_| &value).concat();
            let json = filled.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&filled);
            prop_assert!(serde_json::from_slice::<Value>(json).is_ok());
        }
    }
}

#[test]
fn contract_5_batch_of_citrixs_client_is_filled() {
    let item = |number: u32| {
        json!({
            "Reference": number.to_string(), "Method": "POST",
            "RelativeUrl": format!("acme/site/Machines/{number}/$reboot?async=true"),
            "Headers": [
                { "Name": "Authorization", "Value": "Bearer dummy" },
                { "Name": "X-AdminCredential", "Value": "Basic x" },
            ],
            "Body": null,
        })
    };
    let body = json!({ "Items": (0..500).map(item).collect::<Vec<_>>() }).to_string();
    assert_eq!(filled(&body), body.replace("dummy", "T"));
}
