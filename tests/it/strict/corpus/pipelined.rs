//! Bytes after a request on the same connection.

use std::borrow::Cow;

use super::{Case, END, Reaches, Response, bare, case, rejected};

pub(super) fn all() -> Vec<Case> {
    let mut cases = after_a_request();
    cases.push(rejected(
        "nothing is read after a rejected request",
        format!("GET /#x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /second HTTP/1.1\r\n{END}"),
    ));
    cases.push(bare(
        "nothing is read after a request that hyper rejects",
        format!("GET / HTTP/9\r\nHost: localhost\r\n\r\nGET /second HTTP/1.1\r\n{END}"),
    ));
    cases
}

fn after_a_request() -> Vec<Case> {
    let get = "GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let hello = "POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (got, posted) = (
        request("GET /first HTTP/1.1", ""),
        request("POST /first HTTP/1.1", "hello"),
    );
    [
        ("a GET", get, got),
        ("a body", hello, posted.clone()),
        ("chunks", chunked, posted),
    ]
    .into_iter()
    .flat_map(|(name, before, reaches)| after(name, before, &reaches))
    .collect()
}

type Request = (&'static str, Cow<'static, str>, &'static [&'static str]);

fn request(line: &'static str, body: &'static str) -> Request {
    (line, Cow::Borrowed(body), &[])
}

/// Cases with bytes after a valid request.
fn after(name: &str, before: &str, first: &Request) -> Vec<Case> {
    let second = format!("GET /second HTTP/1.1\r\n{END}");
    let passed = [
        ("a request", String::new(), "GET /second HTTP/1.1"),
        (
            "an empty line and a request",
            "\r\n".to_owned(),
            "GET /second HTTP/1.1",
        ),
        ("an extra byte", "X".to_owned(), "XGET /second HTTP/1.1"),
    ];
    let rejected = [
        ("bare LF", format!("GET / HTTP/1.1\n{END}")),
        ("a fragment", format!("GET /#x HTTP/1.1\r\n{END}")),
        (
            "two lengths",
            format!("POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n{END}"),
        ),
        (
            "a head of bare LF",
            "GET / HTTP/1.1\nHost: localhost\n\n".to_owned(),
        ),
    ];
    let alone = || Reaches::Requests(vec![first.clone()]);
    let passed = passed.into_iter().map(|(next, between, line)| {
        let reaches = Reaches::Requests(vec![first.clone(), request(line, "")]);
        case(
            format!("after {name}: {next}"),
            format!("{before}{between}{second}"),
            Response::Passed(2),
            reaches,
        )
    });
    let rejected = rejected.into_iter().map(|(next, bytes)| {
        case(
            format!("after {name}: {next}"),
            format!("{before}{bytes}"),
            Response::PassedThen(400),
            alone(),
        )
    });
    let garbage = format!("{before}garbage\r\n\r\n");
    passed
        .chain(rejected)
        .chain([case(
            format!("after {name}: garbage"),
            garbage,
            Response::PassedThenBare(400),
            alone(),
        )])
        .collect()
}
