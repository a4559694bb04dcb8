use super::super::MAX_LINK;
use super::*;

/// Checks the output for every split of the body in two, and byte by byte.
fn check(body: &str, expected: &str) {
    for cut in 1..=body.len().min(600) {
        let (out, _) = rewrite_in_pieces(links(), body.as_bytes(), &[cut, usize::MAX]);
        assert_eq!(String::from_utf8_lossy(&out), expected, "cut at {cut}");
    }
    let (out, _) = rewrite_in_pieces(links(), body.as_bytes(), &[1]);
    assert_eq!(String::from_utf8_lossy(&out), expected, "byte by byte");
}

fn check_unchanged(body: &str) {
    check(body, body);
}

#[test]
fn contract_5_links_are_rewritten_at_any_depth() {
    for name in [
        "@odata.nextLink",
        "@odata.context",
        "@odata.deltaLink",
        "Sessions@odata.nextLink",
        "@nextLink",
        "@context",
        "@deltaLink",
        "Sessions@nextLink",
        "ResultLocation",
        "resultLocation",
        "Location",
    ] {
        for (before, after) in [
            ("{", "}"),
            (r#"{"a":[null,{"b":{"#, "}}]}"),
            (r#"[{"x":"y" ,"#, r#","z":1}]"#),
        ] {
            check(
                &format!(r#"{before}"{name}":"https://api.cloud.com/x?a=1"{after}"#),
                &format!(r#"{before}"{name}":"https://gw.example.net/x?a=1"{after}"#),
            );
        }
    }
}

#[test]
fn white_space_and_byte_order_mark_are_unchanged() {
    check(
        "\u{feff}\r\n{ \"@odata.nextLink\" \t:\n\n \"https://api.cloud.com/x\" }\n",
        "\u{feff}\r\n{ \"@odata.nextLink\" \t:\n\n \"https://gw.example.net/x\" }\n",
    );
}

#[test]
fn escaped_links_are_rewritten_with_slashes_escaped_alike() {
    let cases = [
        (
            r"https:\/\/api.cloud.com\/x\/y",
            r"https:\/\/gw.example.net\/x\/y",
        ),
        (
            r"https:\/\/api-eu.cloud.com\/x/y",
            r"https:\/\/gw.example.net\/region\/eu\/x/y",
        ),
        (r"https://api.cloud.com\/x", r"https://gw.example.net\/x"),
        (
            r"https:\u002f\u002Fapi.cloud.com\u002fx",
            r"https://gw.example.net\u002fx",
        ),
        (
            r"\u0068ttps://AP\u0049.cloud.com/\u00e9\ud83e\udd80",
            r"https://gw.example.net/\u00e9\ud83e\udd80",
        ),
        (
            r"https://api.cloud.com/?a=1\u0026b=\u0022",
            r"https://gw.example.net/?a=1\u0026b=\u0022",
        ),
        (
            r#"https://api.cloud.com/\"x\\"#,
            r#"https://gw.example.net/\"x\\"#,
        ),
        (
            r"https:\/\/reports.example.cloud.com\/\u0061pi\/1",
            r"https:\/\/gw.example.net\/reports\/1",
        ),
    ];
    for (link, expected) in cases {
        check(
            &format!(r#"{{"ResultLocation":"{link}"}}"#),
            &format!(r#"{{"ResultLocation":"{expected}"}}"#),
        );
    }
}

#[test]
fn other_members_and_invalid_json_are_unchanged() {
    for body in [
        r#"{"type":"https://errors-api.cloud.com/common/notFound","url":"https://api.cloud.com/"}"#,
        r#"{"@odata.context":"https://identifiers-api.cloud.com/x"}"#,
        r#"{"xResultLocation":"https://api.cloud.com/","ResultLocationx":"https://api.cloud.com/"}"#,
        r#"{"odata.nextLink":"https://api.cloud.com/","@odata.nextlink":"https://api.cloud.com/"}"#,
        r#"{"@odata.id":"https://api.cloud.com/","@odata.nextLinks":"https://api.cloud.com/"}"#,
        r#"{"@id":"https://api.cloud.com/","@nextLinks":"https://api.cloud.com/","nextLink":"https://api.cloud.com/"}"#,
        r#"{"user@contoso":"https://api.cloud.com/","@nextLink@context2":"https://api.cloud.com/"}"#,
        r#"{"a":"@nextLink","b":"\"@context\":\"https://api.cloud.com/\""}"#,
        r#"{"@odata.nextLink":["https://api.cloud.com/"],"Location":{"x":"https://api.cloud.com/"}}"#,
        r#"{"@odata.nextLink":null,"a":"https://api.cloud.com/"}"#,
        r#"["@odata.nextLink","https://api.cloud.com/"]"#,
        r#"{"text":"\"ResultLocation\":\"https://api.cloud.com/\"","\"ResultLocation":"https://api.cloud.com/"}"#,
        r#"{"text":"\\\"ResultLocation","a":"\"Location","b":"https://api.cloud.com/"}"#,
        r#"{"text":"{\"@odata.nextLink\":\"https://api.cloud.com/\"}"}"#,
        r#"{"ResultLocation":"https:\q\/api.cloud.com/","Location":"https:\u00e9//api.cloud.com/"}"#,
        "",
        "\"",
        "\"ResultLocation",
        "\"ResultLocation\"",
        "\"ResultLocation\":",
        r#""ResultLocation":"https://api.cloud.com/"#,
        r#""ResultLocation":"https://api.cloud.com/\"#,
        "Access denied to query Monitor objects : Invalid Customer.",
        "<html>\"Location\"</html>",
    ] {
        check_unchanged(body);
    }
}

#[test]
fn name_after_an_escaped_backslash_is_found() {
    check(
        r#"{"a\\":"b\\","Location":"https://api.cloud.com/"}"#,
        r#"{"a\\":"b\\","Location":"https://gw.example.net/"}"#,
    );
}

#[test]
fn contract_5_location_pair_of_a_batch_response_is_rewritten_in_either_order() {
    let value = |host: &str| format!(r#""Value":"{host}/cvad/manage/Jobs/1""#);
    let (input, expected) = (
        value("https://api.cloud.com"),
        value("https://gw.example.net"),
    );
    for (before, after) in [
        (r#"{"Name":"Location","#, "}"),
        (r#"{"Name" : "location" , "#, "}"),
        ("{", r#","Name":"Location"}"#),
        ("{", r#","x":[{"Name":"no"},"]}"],"Name":"LOCATION"}"#),
        (r#"{"a":{"b":[]},"Name":"Location","#, "},3"),
        (
            r#"{"Name":"Other","Value":"https://api.cloud.com/"},{"Name":"Location","#,
            "}",
        ),
        (
            r#""str]",[],[{}],{"Value":"https://api.cloud.com/"},{"Name":"Location","#,
            "}",
        ),
        (r#"{"Value":1,"Name":"Location","#, "}"),
    ] {
        let body = |value: &str| {
            format!(
                r#"{{"Items":[{{"Code":202,"Headers" : [ {before}{value}{after} ],"Body":"]"}}]}}"#
            )
        };
        check(&body(&input), &body(&expected));
    }
}

#[test]
fn pairs_of_other_headers_are_unchanged() {
    for body in [
        r#"{"Headers":[{"Name":"Content-Location","Value":"https://api.cloud.com/"}]}"#,
        r#"{"Headers":[{"Value":"https://api.cloud.com/","Name":"Content-Location"}]}"#,
        r#"{"Headers":[{"Value":"https://api.cloud.com/"},{"Name":"Location"}]}"#,
        r#"{"Headers":[{"Name":"Location"},{"Value":"https://api.cloud.com/"}]}"#,
        r#"{"Headers":[{"Name":"Location","x":{"Value":"https://api.cloud.com/"}}]}"#,
        r#"{"Headers":[["Name","Location","Value","https://api.cloud.com/"]]}"#,
        r#"{"Headers":[],"Metadata":[{"Name":"Location","Value":"https://api.cloud.com/"}]}"#,
        r#"{"Headers":{"Name":"Location","Value":"https://api.cloud.com/"}}"#,
        r#"{"Headers":[{"Value":"https://api.cloud.com/"#,
        r#"{"Headers":[{"Value":"https://api.cloud.com/","Name":"Location"#,
        "]}]}\"Headers\":[]]]]}}}",
    ] {
        check_unchanged(body);
    }
}

#[test]
fn links_inside_and_after_headers_are_rewritten() {
    check(
        r#"{"Headers":[{"ResultLocation":"https://api.cloud.com/1","x@odata.nextLink":"https://api.cloud.com/2"}],"Location":"https://api.cloud.com/3"}"#,
        r#"{"Headers":[{"ResultLocation":"https://gw.example.net/1","x@odata.nextLink":"https://gw.example.net/2"}],"Location":"https://gw.example.net/3"}"#,
    );
}

#[test]
fn link_beyond_the_maximum_length_is_unchanged() {
    for (length, host) in [
        (MAX_LINK, "gw.example.net"),
        (MAX_LINK + 1, "api.cloud.com"),
    ] {
        let rest = "x".repeat(length - "https://api.cloud.com/".len());
        let body = |host: &str| format!(r#"{{"Location":"https://{host}/{rest}","a":1}}"#);
        for sizes in [&[usize::MAX][..], &[1], &[1000, 7], &[MAX_LINK]] {
            let (out, _) = rewrite_in_pieces(links(), body("api.cloud.com").as_bytes(), sizes);
            assert!(out == body(host).as_bytes(), "{length} {sizes:?}");
        }
    }
}

#[test]
fn value_beyond_the_maximum_distance_from_its_name_is_unchanged() {
    let between = |gap: usize| format!(r#"","x":"{}","Name":"Location"#, "x".repeat(gap));
    let fixed = "https://api.cloud.com/".len() + between(0).len();
    for (gap, host) in [
        (MAX_LINK - fixed, "gw.example.net"),
        (MAX_LINK - fixed + 1, "api.cloud.com"),
    ] {
        let body = |host: &str| {
            format!(
                r#"{{"Headers":[{{"Value":"https://{host}/{}"}}]}}"#,
                between(gap)
            )
        };
        for sizes in [&[usize::MAX][..], &[1], &[1000, 7], &[MAX_LINK]] {
            let (out, _) = rewrite_in_pieces(links(), body("api.cloud.com").as_bytes(), sizes);
            assert!(out == body(host).as_bytes(), "{gap} {sizes:?}");
        }
    }
}

#[test]
fn links_are_counted() {
    let body = r#"[{"Location":"https://api.cloud.com/"},{"Location":"https://x.example/"},{"Location":"eastus"},
        {"Location":"https://errors-api.cloud.com/"},{"Location":"\/\/api.cloud.com"}]"#;
    let (_, counts) = rewrite_in_pieces(links(), body.as_bytes(), &[5]);
    assert_eq!(
        counts,
        LinkCounts {
            rewritten: 2,
            unknown: 1
        }
    );
}

#[test]
fn unchanged_parts_are_slices_of_the_input() {
    let body = Bytes::from_static(br#"{"a":"b","Location":"https://api.cloud.com/x","c":["d"]}"#);
    let mut rewriter = JsonRewriter::new(links());
    rewriter.push(&body);
    let pieces: Vec<Bytes> = std::iter::from_fn(|| rewriter.pull()).collect();
    assert_eq!(pieces.len(), 4);
    assert_eq!(pieces[0].as_ptr(), body.as_ptr());
    assert_eq!(pieces[3].as_ptr_range().end, body.as_ptr_range().end);
}

#[test]
fn only_links_are_held_back() {
    let mut rewriter = JsonRewriter::new(links());
    let mut output = |piece: &'static str| {
        rewriter.push(&Bytes::from_static(piece.as_bytes()));
        let out: Vec<u8> = std::iter::from_fn(|| rewriter.pull()).flatten().collect();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(output(r#"{"a":"https://api.cl"#), r#"{"a":"https://api.cl"#);
    assert_eq!(output(r#"oud.com/","Loca"#), r#"oud.com/","Loca"#);
    assert_eq!(output(r#"tion":"https://api.cl"#), r#"tion":""#);
    assert_eq!(output(r#"oud.com/","x"#), r#"https://gw.example.net/","x"#);
}

#[test]
fn held_back_pieces_do_not_hold_their_buffers() {
    let mut rewriter = JsonRewriter::new(links());
    let large = |text: &str| {
        let mut buffer = Vec::with_capacity(64 * 1024);
        buffer.extend_from_slice(text.as_bytes());
        Bytes::from(buffer)
    };
    rewriter.push(&large(r#"{"Headers":[{"Value":"x","a":""#));
    while rewriter.pull().is_some() {}
    for _ in 0..MAX_LINK - 10 {
        let piece = large("y");
        rewriter.push(&piece);
        assert!(rewriter.pull().is_none(), "held back");
        assert!(piece.is_unique());
    }
}
