//! Malformed, ambiguous or extreme requests, byte for byte, with their expected outcome.

mod bodies;
mod pipelined;

use std::borrow::Cow;

/// The responses that the caller receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// A gateway error with this status and reason.
    Problem(u16, &'static str),
    /// An error of hyper: a status and nothing else.
    Bare(u16),
    /// 400 of hyper if all bytes arrive at once, else `request_timeout`.
    BareOrTimeout,
    /// This number of upstream responses.
    Passed(usize),
    /// An upstream response, then a gateway error.
    PassedThen(u16),
    /// An upstream response, then an error of hyper.
    PassedThenBare(u16),
}

/// The requests that the upstream receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaches {
    /// Not a byte.
    Nothing,
    /// These requests: request line, body, and names of fields other than those of every request.
    Requests(Vec<(&'static str, Cow<'static, str>, &'static [&'static str])>),
    /// An incomplete request, or nothing if the connection closed first.
    Unended,
}

/// One request. The connection is closed after each.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub response: Response,
    pub reaches: Reaches,
}

const BAD: Response = Response::Problem(400, "bad_request");
/// The rest of a head with `Connection: close`.
const END: &str = "Host: localhost\r\nConnection: close\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn case(
    name: impl Into<String>,
    bytes: impl Into<Vec<u8>>,
    response: Response,
    reaches: Reaches,
) -> Case {
    Case {
        name: name.into(),
        bytes: bytes.into(),
        response,
        reaches,
    }
}

/// Returns a case that the gateway rejects, forwarding nothing.
fn rejected(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    case(name, bytes, BAD, Reaches::Nothing)
}

/// Returns a case that hyper rejects, so that nothing is forwarded.
fn bare(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    case(name, bytes, Response::Bare(400), Reaches::Nothing)
}

/// Returns a case that is forwarded with this request line and body and the fields of every
/// request only.
fn passes(
    name: impl Into<String>,
    bytes: impl Into<Vec<u8>>,
    line: &'static str,
    body: impl Into<Cow<'static, str>>,
) -> Case {
    case(
        name,
        bytes,
        Response::Passed(1),
        Reaches::Requests(vec![(line, body.into(), &[])]),
    )
}

/// Returns a case whose body proves invalid while it is forwarded.
fn unended(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Case {
    case(name, bytes, BAD, Reaches::Unended)
}

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(line_feeds());
    cases.extend(carriage_returns());
    cases.extend(empty_lines());
    cases.extend(obsolete_folding());
    cases.extend(versions());
    cases.extend(request_lines());
    cases.extend(methods());
    cases.extend(targets());
    cases.extend(hosts());
    cases.extend(fields());
    cases.extend(bounds());
    cases.extend(hop_by_hop());
    cases.extend(lookalikes());
    cases.extend(bodies::all());
    cases.extend(pipelined::all());
    cases
}

/// RFC 9112 section 2.2.
fn line_feeds() -> Vec<Case> {
    let get = "GET / HTTP/1.1\r\n";
    vec![
        rejected(
            "bare LF after the request line",
            format!("GET / HTTP/1.1\n{END}"),
        ),
        rejected(
            "bare LF after a field",
            "GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
        ),
        rejected(
            "bare LF after every line",
            "GET / HTTP/1.1\nHost: localhost\n\n",
        ),
        rejected(
            "CR LF LF at the head's end",
            "GET / HTTP/1.1\r\nHost: localhost\r\n\n",
        ),
        rejected(
            "LF CR LF at the head's end",
            "GET / HTTP/1.1\r\nHost: localhost\n\r\n",
        ),
        rejected("LF before the request", format!("\n{get}{END}")),
        rejected(
            "a field hidden after a bare LF",
            format!("{get}X: y\nCitrix-CustomerId: other\r\n{END}"),
        ),
        rejected(
            "a request hidden after a head that ends with LF LF",
            format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\n\n{SMUGGLED}",
                SMUGGLED.len()
            ),
        ),
    ]
}

/// RFC 9112 section 2.2.
fn carriage_returns() -> Vec<Case> {
    let get = "GET / HTTP/1.1\r\n";
    vec![
        bare(
            "bare CR after the request line",
            format!("GET / HTTP/1.1\r{END}"),
        ),
        bare("bare CR in a value", format!("{get}X: a\rb\r\n{END}")),
        bare("bare CR before a name", format!("{get}\rX: a\r\n{END}")),
        bare(
            "bare CR at the end of a value",
            format!("{get}X: a\r\r\n{END}"),
        ),
        bare("bare CR before the request", format!("\r{get}{END}")),
        bare(
            "bare CR in the target",
            format!("GET /a\rb HTTP/1.1\r\n{END}"),
        ),
        // When hyper continues an incomplete head, it waits for a valid line end.
        case(
            "CR CR LF at the head's end",
            format!("{get}Host: localhost\r\n\r\r\n"),
            Response::BareOrTimeout,
            Reaches::Nothing,
        ),
    ]
}

/// RFC 9112 section 2.2.
fn empty_lines() -> Vec<Case> {
    let get = "GET / HTTP/1.1\r\n";
    vec![
        passes(
            "one leading empty line",
            format!("\r\n{get}{END}"),
            "GET / HTTP/1.1",
            "",
        ),
        passes(
            "two leading empty lines",
            format!("\r\n\r\n{get}{END}"),
            "GET / HTTP/1.1",
            "",
        ),
        rejected(
            "five leading empty lines",
            format!("{}{get}{END}", "\r\n".repeat(5)),
        ),
        rejected(
            "a thousand leading empty lines",
            format!("{}{get}{END}", "\r\n".repeat(1000)),
        ),
        case(
            "endless empty lines",
            "\r\n".repeat(100_000),
            Response::Bare(431),
            Reaches::Nothing,
        ),
    ]
}

/// RFC 9112 section 5.2.
fn obsolete_folding() -> Vec<Case> {
    let get = "GET / HTTP/1.1\r\n";
    vec![
        bare(
            "obsolete folding with a space",
            format!("{get}X: a\r\n b\r\n{END}"),
        ),
        bare(
            "obsolete folding with a tab",
            format!("{get}X: a\r\n\tb\r\n{END}"),
        ),
        bare(
            "obsolete folding of an empty value",
            format!("{get}X:\r\n \r\n{END}"),
        ),
        bare(
            "obsolete folding of Host",
            "GET / HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n",
        ),
        bare(
            "obsolete folding of a length",
            format!("POST / HTTP/1.1\r\nContent-Length:\r\n 5\r\n{END}hello"),
        ),
        bare("a folded first field", format!("{get} X: a\r\n{END}")),
    ]
}

/// RFC 9112 section 2.3.
fn versions() -> Vec<Case> {
    vec![
        bare("HTTP/0.9", "GET /\r\n\r\n"),
        bare("HTTP/0.9 with a space", "GET / \r\n\r\n"),
        bare("an explicit HTTP/0.9", format!("GET / HTTP/0.9\r\n{END}")),
        bare("HTTP/1.2", format!("GET / HTTP/1.2\r\n{END}")),
        bare("HTTP/2.0", format!("GET / HTTP/2.0\r\n{END}")),
        bare("HTTP/1.10", format!("GET / HTTP/1.10\r\n{END}")),
        bare("HTTP/1", format!("GET / HTTP/1\r\n{END}")),
        bare("lower-case http/1.1", format!("GET / http/1.1\r\n{END}")),
        bare(
            "a version with spaces",
            format!("GET / HTTP / 1.1\r\n{END}"),
        ),
        bare(
            "something after the version",
            format!("GET / HTTP/1.1 x\r\n{END}"),
        ),
        bare(
            "a space after the version",
            format!("GET / HTTP/1.1 \r\n{END}"),
        ),
    ]
}

/// RFC 9112 section 3.
fn request_lines() -> Vec<Case> {
    vec![
        bare("no target", format!("GET HTTP/1.1\r\n{END}")),
        bare("no method", format!(" / HTTP/1.1\r\n{END}")),
        bare(
            "two spaces before the target",
            format!("GET  / HTTP/1.1\r\n{END}"),
        ),
        bare(
            "two spaces after the target",
            format!("GET /  HTTP/1.1\r\n{END}"),
        ),
        bare(
            "a tab before the target",
            format!("GET\t/ HTTP/1.1\r\n{END}"),
        ),
        bare(
            "a tab after the target",
            format!("GET /\tHTTP/1.1\r\n{END}"),
        ),
        bare(
            "a form feed instead of a space",
            format!("GET /\x0cHTTP/1.1\r\n{END}"),
        ),
        bare(
            "a space before the method",
            format!(" GET / HTTP/1.1\r\n{END}"),
        ),
        // An incomplete request line: the head times out.
        case(
            "a stalled request line",
            "GET / HT",
            Response::Problem(408, "request_timeout"),
            Reaches::Nothing,
        ),
    ]
}

/// RFC 9112 section 3.1.
fn methods() -> Vec<Case> {
    vec![
        bare("a method with a colon", format!("GET: / HTTP/1.1\r\n{END}")),
        bare(
            "a method with brackets",
            format!("G(E)T / HTTP/1.1\r\n{END}"),
        ),
        bare("a method with NUL", format!("G\0ET / HTTP/1.1\r\n{END}")),
        bare(
            "a non-ASCII method",
            format!("G\u{c9}T / HTTP/1.1\r\n{END}"),
        ),
        bare(
            "a PROXY line",
            format!("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n{END}"),
        ),
        rejected(
            "CONNECT",
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
        ),
        rejected(
            "CONNECT with a path",
            format!("CONNECT /x HTTP/1.1\r\n{END}"),
        ),
        rejected("TRACE", format!("TRACE / HTTP/1.1\r\n{END}")),
        passes(
            "lower-case trace is another method",
            format!("trace / HTTP/1.1\r\n{END}"),
            "trace / HTTP/1.1",
            "",
        ),
    ]
}

/// RFC 9112 section 3.2.
fn targets() -> Vec<Case> {
    let rejected_targets = [
        ("a fragment", "/a#b"),
        ("a fragment after a query", "/a?b#c"),
        ("only a fragment", "/#"),
        ("a fragment with a path in it", "/allowed#/../forbidden"),
        ("a raw quotation mark", "/a\"b"),
        ("an asterisk", "*"),
        ("only a host", "localhost"),
        ("a host and a port", "localhost:80"),
        ("an absolute target for another host", "http://other/"),
        (
            "an absolute target for another port",
            "http://localhost:81/",
        ),
        ("an absolute target with a user", "http://user@localhost/"),
        (
            "an absolute target with an invalid port",
            "http://localhost:x/",
        ),
        ("an absolute target of another scheme", "ftp://localhost/"),
    ];
    let bare_targets = [
        ("a space", "/a b"),
        ("NUL", "/a\0b"),
        ("a control character", "/a\x01b"),
        ("DEL", "/a\x7fb"),
        ("an angle bracket", "/a<b"),
        ("a backtick", "/a`b"),
        ("a caret as target", "^"),
        ("a raw quotation mark in the query", "/a?b=\"c\""),
        ("no leading slash", "a/b"),
        ("a leading backslash", "\\a"),
        ("an absolute target without a host", "http:///a"),
    ];
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\n{END}");
    let mut cases: Vec<Case> = rejected_targets
        .iter()
        .map(|(name, target)| rejected(format!("target: {name}"), request(target)))
        .chain(
            bare_targets
                .iter()
                .map(|(name, target)| bare(format!("target: {name}"), request(target))),
        )
        .collect();
    cases.push(bare(
        "target: invalid UTF-8",
        [b"GET /a\xffb HTTP/1.1\r\n", END.as_bytes()].concat(),
    ));
    for (target, line) in [
        ("//evil.example/a", "GET //evil.example/a HTTP/1.1"),
        ("/a/../b", "GET /a/../b HTTP/1.1"),
        ("/a%2Fb%00%0d%0aX:y", "GET /a%2Fb%00%0d%0aX:y HTTP/1.1"),
        ("/a%", "GET /a% HTTP/1.1"),
        ("/a\\b", "GET /a\\b HTTP/1.1"),
        ("http://localhost/a?b", "GET /a?b HTTP/1.1"),
        ("http://LOCALHOST:80", "GET / HTTP/1.1"),
    ] {
        cases.push(passes(
            format!("target: {target} is unchanged"),
            request(target),
            line,
            "",
        ));
    }
    cases
}

/// RFC 9112 section 3.2, RFC 9110 section 7.2.
fn hosts() -> Vec<Case> {
    let get = "GET / HTTP/1.1\r\nConnection: close\r\n";
    let mut cases: Vec<Case> = [
        ("none", ""),
        ("two equal", "Host: localhost\r\nHost: localhost\r\n"),
        ("two different", "Host: localhost\r\nHost: other\r\n"),
        ("two names in one", "Host: localhost, other\r\n"),
        ("empty", "Host:\r\n"),
        ("a user", "Host: user@localhost\r\n"),
        ("a path", "Host: localhost/x\r\n"),
        ("a scheme", "Host: http://localhost\r\n"),
        ("an invalid port", "Host: localhost:http\r\n"),
        ("a port too large", "Host: localhost:65536\r\n"),
        ("two ports", "Host: localhost:80:80\r\n"),
        ("a space", "Host: local host\r\n"),
        ("a backslash", "Host: localhost\\x\r\n"),
        ("a fragment", "Host: localhost#x\r\n"),
        ("an unterminated IPv6 address", "Host: [::1\r\n"),
        ("quotation marks", "Host: \"localhost\"\r\n"),
        ("non-ASCII bytes", "Host: localh\u{f6}st\r\n"),
    ]
    .iter()
    .map(|(name, hosts)| rejected(format!("Host: {name}"), format!("{get}{hosts}\r\n")))
    .collect();
    cases.push(case(
        "Host: another name",
        format!("{get}Host: other\r\n\r\n"),
        Response::Problem(421, "foreign_host"),
        Reaches::Nothing,
    ));
    cases.push(passes(
        "HTTP/1.0 needs none",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1",
        "",
    ));
    cases.push(rejected(
        "HTTP/1.0 with two",
        "GET / HTTP/1.0\r\nHost: localhost\r\nHost: other\r\n\r\n",
    ));
    cases
}

/// RFC 9112 section 5, RFC 9110 section 5.
fn fields() -> Vec<Case> {
    let with = |line: &str| format!("GET / HTTP/1.1\r\n{line}\r\n{END}");
    [
        ("a space before the colon", "X : a"),
        ("a tab before the colon", "X\t: a"),
        ("a space before the colon of a length", "Content-Length : 5"),
        (
            "a space before the colon of a coding",
            "Transfer-Encoding : chunked",
        ),
        ("no colon", "X"),
        ("no name", ": a"),
        ("a space in a name", "X Y: a"),
        ("NUL in a name", "X\0Y: a"),
        ("NUL in a value", "X: a\0b"),
        ("a control character in a value", "X: a\x01b"),
        ("DEL in a value", "X: a\x7fb"),
        (
            "a vertical tab before a coding",
            "Transfer-Encoding:\x0bchunked",
        ),
        ("brackets in a name", "X(Y): a"),
        ("a slash in a name", "X/Y: a"),
        ("a non-ASCII name", "X\u{e9}: a"),
        ("a quoted name", "\"X\": a"),
    ]
    .iter()
    .map(|(name, line)| bare(format!("field: {name}"), with(line)))
    .collect()
}

/// RFC 9110 section 15.5, RFC 6585 section 5.
fn bounds() -> Vec<Case> {
    let with = |fields: String| format!("GET / HTTP/1.1\r\n{fields}{END}");
    let many = |count: usize| {
        (0..count).fold(String::new(), |all, number| {
            all + &format!("A{number}: b\r\n")
        })
    };
    vec![
        case(
            "101 fields",
            with(many(99)),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "ten thousand fields",
            with(many(10_000)),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "a large field",
            with(format!("X: {}\r\n", "x".repeat(70_000))),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "a field of a megabyte",
            with(format!("X: {}\r\n", "x".repeat(1 << 20))),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "a large name",
            with(format!("{}: x\r\n", "x".repeat(70_000))),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "a target of a megabyte",
            format!("GET /{} HTTP/1.1\r\n{END}", "x".repeat(1 << 20)),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "a method of a megabyte",
            format!("{} / HTTP/1.1\r\n{END}", "X".repeat(1 << 20)),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        case(
            "a megabyte without a line end",
            "X".repeat(1 << 20),
            Response::Bare(431),
            Reaches::Nothing,
        ),
    ]
}

/// RFC 9110 section 7.6.1.
fn hop_by_hop() -> Vec<Case> {
    let with = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}{END}");
    [
        (
            "Upgrade",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n",
            &["sec-websocket-key"][..],
        ),
        (
            "Upgrade to h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            &[],
        ),
        ("Upgrade alone", "Upgrade: h2c\r\n", &[]),
        ("TE", "TE: trailers, deflate;q=0.5\r\nConnection: TE\r\n", &[]),
        ("TE alone", "TE: trailers\r\n", &[]),
        (
            "Connection names gateway fields",
            "Connection: Authorization, Citrix-CustomerId, Host, Content-Length\r\n",
            &[],
        ),
        ("Connection nominates itself", "Connection: Connection\r\n", &[]),
        ("Keep-Alive and Proxy-Connection", "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n", &[]),
        (
            "credentials of several kinds",
            "Authorization: a\r\nAuthorization: b\r\nProxy-Authorization: c\r\nX-Api-Key: d\r\n",
            &[],
        ),
        (
            "addresses of proxies",
            "X-Forwarded-For: 1\r\nX-Forwarded-Host: 2\r\nForwarded: for=3\r\nVia: 1.1 x\r\n",
            &[],
        ),
        (
            "other methods and paths",
            "X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n",
            &[],
        ),
        ("a field with a non-ASCII value", "X-Name: caf\u{e9}\r\n", &["x-name"]),
    ]
    .into_iter()
    .map(|(name, fields, left)| {
        let reaches = Reaches::Requests(vec![("GET / HTTP/1.1", "".into(), left)]);
        case(format!("hop by hop: {name}"), with(fields), Response::Passed(1), reaches)
    })
    .collect()
}

/// Names that CGI and its successors cannot distinguish from others.
fn lookalikes() -> Vec<Case> {
    [
        "Citrix_CustomerId",
        "citrix_customerid",
        "Citrix_InstanceId",
        "Citrix_TransactionId",
        "Citrix.CustomerId",
        "authorization_",
        "_authorization",
        "x_api_key",
        "X_Forwarded_For",
        "x_original_url",
        "Content_Length",
        "Transfer_Encoding",
        "HOST_",
    ]
    .iter()
    .map(|name| {
        rejected(
            format!("lookalike: {name}"),
            format!("GET / HTTP/1.1\r\n{name}: other\r\n{END}"),
        )
    })
    .collect()
}
