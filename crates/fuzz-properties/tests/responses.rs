//! Responses put together from parts that parsers read differently. `PROPTEST_CASES` sets the number.

use proptest::prelude::*;

const STARTS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 200 OK\n",
    "HTTP/1.1  200 OK\r\n",
    "\r\nHTTP/1.1 200 \r\n",
];

const FIELDS: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length: +5\r\n",
    "Content-Length : 5\r\n",
    "content-length:\t5 \r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: CHUNKED \r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: x, Close\r\nConnection: keep-alive\r\n",
    "X: y\n",
    "X: y\r\r\n",
    "X: \u{e9}\r\n",
    "X:\0\r\n",
    " X: y\r\n",
    "X\r\n",
    ": y\r\n",
];

const BODIES: &[&str] = &[
    "hello",
    "5\r\nhello\r\n",
    "05 ;a=\"b\"\r\nhello\r\n",
    "5\nhello\r\n",
    "5\r\nhello\n",
    "5\r\nhello0\r\n\r\n",
    "5;\u{1}\r\nhello\r\n",
    "FFFFFFFFFFFFFFFF\r\nhello",
    "1FFFFFFFFFFFFFFFF\r\nhello",
    "0000000000000000000005\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\n\n",
    "\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
];

fn part(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(parts).prop_map(str::to_owned)
}

fn parts(parts: &'static [&'static str], max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(part(parts), 0..max).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn what_the_gateway_reads_hyper_reads_too(
        method in prop::sample::select(vec![0, 1, 2, 0x80, 0x81, 0x82]),
        size: u8,
        interim in prop::option::weighted(0.1, part(STARTS)),
        start in prop::sample::select(STARTS),
        fields in parts(FIELDS, 4),
        body in parts(BODIES, 5),
        mutation in prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>(), 0..3)),
    ) {
        let text = [interim.as_deref().unwrap_or(""), start, &fields, "\r\n", &body].concat();
        let mut input = [&[method, size], text.as_bytes()].concat();
        if let Some((index, byte, kind)) = mutation {
            let at = 2 + index.index(input.len() - 2);
            match kind {
                0 => input[at] = byte,
                1 => drop(input.remove(at)),
                _ => input.insert(at, byte),
            }
        }
        fuzz_properties::upstream_response(&input);
    }
}
