//! Body lengths, transfer codings, chunks and trailers.

use super::{Case, END, Reaches, Response, SMUGGLED, bare, case, passes, rejected, unended};

pub(super) fn all() -> Vec<Case> {
    [
        lengths(),
        codings(),
        broken_chunks(),
        odd_chunks(),
        trailers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Invalid `Content-Length` fields.
const INVALID_LENGTHS: &[(&str, &str)] = &[
    ("words", "Content-Length: five\r\n"),
    ("empty", "Content-Length:\r\n"),
    ("plus", "Content-Length: +5\r\n"),
    ("minus", "Content-Length: -5\r\n"),
    ("hexadecimal", "Content-Length: 0x5\r\n"),
    ("fraction", "Content-Length: 5.0\r\n"),
    ("list of two equal", "Content-Length: 5, 5\r\n"),
    ("list of two different", "Content-Length: 5, 6\r\n"),
    ("digits with a space between", "Content-Length: 5 5\r\n"),
    ("non-ASCII digits", "Content-Length: \u{0665}\r\n"),
    (
        "more than 64 bits",
        "Content-Length: 18446744073709551621\r\n",
    ),
    (
        "two different",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
    ),
];

/// RFC 9112 section 6.2.
fn lengths() -> Vec<Case> {
    let post = |lengths: &str, body: &str| format!("POST / HTTP/1.1\r\n{lengths}{END}{body}");
    let mut cases: Vec<Case> = INVALID_LENGTHS
        .iter()
        .map(|(name, lengths)| bare(format!("length: {name}"), post(lengths, "hello")))
        .collect();
    cases.extend([
        rejected(
            "length: two equal",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        ),
        rejected(
            "length: 5 and 05",
            post("Content-Length: 5\r\nContent-Length: 05\r\n", "hello"),
        ),
        rejected(
            "length: two in different case",
            post(
                "Content-Length: 5\r\nX: y\r\ncONTENT-lENGTH: 5\r\n",
                "hello",
            ),
        ),
        case(
            "length: maximum",
            post("Content-Length: 9223372036854775807\r\n", "hello"),
            Response::Problem(413, "body_too_large"),
            Reaches::Nothing,
        ),
        case(
            "length: the value that hyper uses for chunked",
            post("Content-Length: 18446744073709551615\r\n", ""),
            Response::Bare(431),
            Reaches::Nothing,
        ),
        passes(
            "length: leading zeros",
            post("Content-Length: 0005\r\n", "hello"),
            "POST / HTTP/1.1",
            "hello",
        ),
        // The gateway's own `Connection: close`: the upstream may ignore the body.
        case(
            "length: of a GET",
            format!("GET / HTTP/1.1\r\nContent-Length: 5\r\n{END}hello"),
            Response::Passed(1),
            Reaches::Requests(vec![("GET / HTTP/1.1", "hello".into(), &["connection"])]),
        ),
        case(
            "length: more than arrives",
            post("Content-Length: 50\r\n", "hello"),
            Response::Problem(408, "request_timeout"),
            Reaches::Unended,
        ),
    ]);
    cases
}

/// Ambiguous fields with a final `chunked`.
const CODINGS_WITH_CHUNKED: &[(&str, &str)] = &[
    (
        "gzip before chunked",
        "Transfer-Encoding: gzip, chunked\r\n",
    ),
    (
        "identity before chunked",
        "Transfer-Encoding: identity, chunked\r\n",
    ),
    (
        "chunked twice in one field",
        "Transfer-Encoding: chunked, chunked\r\n",
    ),
    (
        "chunked twice",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "something before chunked",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "an empty field before chunked",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
    ),
    ("an empty member", "Transfer-Encoding: , chunked\r\n"),
    (
        "with a length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
    (
        "with a length before it",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "with an invalid length",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
    ),
    (
        "with two lengths",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
    ),
    (
        "with a length of zero",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ),
];

/// `Transfer-Encoding` fields whose final coding is not `chunked`.
const CODINGS_WITHOUT_CHUNKED: &[(&str, &str)] = &[
    ("gzip", "Transfer-Encoding: gzip\r\n"),
    ("identity", "Transfer-Encoding: identity\r\n"),
    ("empty", "Transfer-Encoding:\r\n"),
    (
        "chunked before gzip",
        "Transfer-Encoding: chunked, gzip\r\n",
    ),
    (
        "chunked before identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ),
    ("nearly chunked", "Transfer-Encoding: xchunked\r\n"),
    (
        "chunked with a parameter",
        "Transfer-Encoding: chunked;q=1\r\n",
    ),
    (
        "chunked in quotation marks",
        "Transfer-Encoding: \"chunked\"\r\n",
    ),
    (
        "chunked and an empty member",
        "Transfer-Encoding: chunked,\r\n",
    ),
];

/// RFC 9112 sections 6.1 and 6.3.
fn codings() -> Vec<Case> {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\n{fields}{END}5\r\nhello\r\n0\r\n\r\n");
    let mut cases: Vec<Case> = CODINGS_WITH_CHUNKED
        .iter()
        .map(|(name, fields)| rejected(format!("coding: {name}"), post(fields)))
        .collect();
    cases.extend(
        CODINGS_WITHOUT_CHUNKED
            .iter()
            .map(|(name, fields)| bare(format!("coding: {name}"), post(fields))),
    );
    cases.extend([
        bare("coding: of HTTP/1.0", format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n{END}0\r\n\r\n")),
        bare(
            "coding: of HTTP/1.0 with a length",
            format!("POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n{END}0\r\n\r\n"),
        ),
        passes("coding: upper case", post("Transfer-Encoding: CHUNKED\r\n"), "POST / HTTP/1.1", "hello"),
        rejected(
            "both framings, and a request after the shorter reading",
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}", SMUGGLED.len() + 5),
        ),
    ]);
    cases
}

/// RFC 9112 section 7.1.
fn broken_chunks() -> Vec<Case> {
    let post = |body: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{END}{body}");
    let mut cases: Vec<Case> = [
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a non-numeric size", "five\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a space before a size", " 5\r\nhello\r\n0\r\n\r\n"),
        (
            "a size of more than 64 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        ("a size that ends with LF", "5\nhello\r\n0\r\n\r\n"),
        ("a size that ends with CR", "5\rhello\r\n0\r\n\r\n"),
        ("data that end with LF", "5\r\nhello\n0\r\n\r\n"),
        ("data that are longer", "5\r\nhello!\r\n0\r\n\r\n"),
        ("data that are shorter", "6\r\nhello\r\n0\r\n\r\n"),
        ("an extension with LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("an end with LF", "5\r\nhello\r\n0\n\n"),
    ]
    .iter()
    .map(|(name, body)| unended(format!("chunks: {name}"), post(body)))
    .collect();
    cases.extend([
        unended(
            "chunks: a megabyte of extension",
            post(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20))),
        ),
        unended(
            "chunks: small extensions on many chunks",
            post(&format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\nx\r\n", "e".repeat(400)).repeat(100)
            )),
        ),
        unended(
            "chunks: a megabyte of leading zeros",
            post(&format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(1 << 20))),
        ),
    ]);
    cases
}

/// RFC 9112 section 7.1.
fn odd_chunks() -> Vec<Case> {
    let post = |body: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{END}{body}");
    vec![
        passes(
            "chunks: a few leading zeros",
            post("0005\r\nhello\r\n000\r\n\r\n"),
            "POST / HTTP/1.1",
            "hello",
        ),
        passes(
            "chunks: an extension is dropped",
            post("5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n"),
            "POST / HTTP/1.1",
            "hello",
        ),
        passes(
            "chunks: capitals",
            post("A\r\n0123456789\r\n0\r\n\r\n"),
            "POST / HTTP/1.1",
            "0123456789",
        ),
        passes(
            "chunks: empty lines inside",
            post("8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"),
            "POST / HTTP/1.1",
            "\r\n\r\n\r\n\r\n",
        ),
        case(
            "chunks: no last chunk",
            post("5\r\nhello\r\n"),
            Response::Problem(408, "request_timeout"),
            Reaches::Unended,
        ),
        case(
            "chunks: above the limit",
            post(&format!(
                "{:x}\r\n{}\r\n0\r\n\r\n",
                3 << 20,
                "x".repeat(3 << 20)
            )),
            Response::Problem(413, "body_too_large"),
            Reaches::Unended,
        ),
    ]
}

/// RFC 9112 section 7.1.2, RFC 9110 section 6.5.
fn trailers() -> Vec<Case> {
    let post = |trailers: &str| {
        format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{END}5\r\nhello\r\n0\r\n{trailers}\r\n"
        )
    };
    vec![
        passes(
            "trailers: those that matter are dropped",
            post(
                "Authorization: Bearer x\r\nCitrix-CustomerId: other\r\ncitrix_customerid: other\r\nHost: other\r\n\
                  Content-Length: 7\r\nTransfer-Encoding: gzip\r\nX-Api-Key: k\r\n",
            ),
            "POST / HTTP/1.1",
            "hello",
        ),
        unended("trailers: a space before the colon", post("X : a\r\n")),
        unended("trailers: no colon", post("X\r\n")),
        unended("trailers: NUL", post("X: a\0b\r\n")),
        unended("trailers: obsolete folding", post("X: a\r\n b\r\n")),
        unended("trailers: bare CR", post("X: a\rb\r\n")),
        unended("trailers: bare LF", post("X: a\nY: b\r\n")),
        unended("trailers: a line that ends with LF", post("X: a\n")),
        // hyper alone would take the request for trailers, and not respond to it.
        unended(
            "trailers: a line that ends with LF, and a request",
            format!("{}{SMUGGLED}", post("X: a\n")),
        ),
        unended(
            "trailers: an LF and a request",
            post(&format!("\n{SMUGGLED}")),
        ),
        unended(
            "trailers: a megabyte in one field",
            post(&format!("X: {}\r\n", "x".repeat(1 << 20))),
        ),
        unended(
            "trailers: a megabyte in many fields",
            post(&"X: abcdefghijklmnop\r\n".repeat(50_000)),
        ),
        unended("trailers: two hundred", post(&"X: a\r\n".repeat(200))),
    ]
}
