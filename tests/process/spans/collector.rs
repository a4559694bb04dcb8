//! A collector of spans: OTLP over HTTP (opentelemetry-proto, `collector/trace/v1`), as much of it as tests look at.

use std::collections::BTreeMap;

use citrix_wire::hex;
use testkit::upstream::Upstream;

const ACCEPTED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

/// What a span says.
#[derive(Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// Who sent it.
    pub resource: BTreeMap<String, String>,
    pub kind: u64,
    pub began: u64,
    pub ended: u64,
    pub failed: bool,
}

pub const SERVER: u64 = 2;
pub const CLIENT: u64 = 3;

/// One that accepts whatever comes.
pub async fn collector() -> Upstream {
    Upstream::responding(ACCEPTED).await
}

/// All spans that came so far, by when they began.
pub async fn spans(collector: &Upstream) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in collector.take_requests().await {
        assert!(request.head.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
        assert_eq!(
            request.field("content-type").as_deref(),
            Some("application/x-protobuf")
        );
        assert!(
            !String::from_utf8_lossy(&request.body).contains("c4nary"),
            "{request:?}"
        );
        for of_resource in bytes(&request.body, 1) {
            let resource = bytes(of_resource, 1)
                .first()
                .map(|it| attributes(it, 1))
                .unwrap_or_default();
            for of_scope in bytes(of_resource, 2) {
                spans.extend(
                    bytes(of_scope, 2)
                        .into_iter()
                        .map(|span| read(span, resource.clone())),
                );
            }
        }
    }
    spans.sort_by_key(|span| (span.began, span.kind));
    spans
}

fn read(span: &[u8], resource: BTreeMap<String, String>) -> Span {
    let id = |number| hex::encode(bytes(span, number).first().copied().unwrap_or_default());
    let number = |wanted| numbers(span, wanted).first().copied().unwrap_or_default();
    let status = bytes(span, 15)
        .first()
        .map(|status| numbers(status, 3))
        .unwrap_or_default();
    Span {
        trace: id(1),
        id: id(2),
        parent: id(4),
        name: String::from_utf8(bytes(span, 5)[0].to_vec()).unwrap(),
        attributes: attributes(span, 9),
        resource,
        kind: number(6),
        began: number(7),
        ended: number(8),
        failed: status == [2],
    }
}

fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let pair = |pair: &[u8]| {
        let value = bytes(pair, 2)[0];
        let text = bytes(value, 1)
            .first()
            .map(|text| String::from_utf8(text.to_vec()).unwrap());
        let number = || numbers(value, 3).first().map(u64::to_string);
        let key = String::from_utf8(bytes(pair, 1)[0].to_vec()).unwrap();
        (key, text.or_else(number).unwrap_or_default())
    };
    bytes(message, number).into_iter().map(pair).collect()
}

/// A field of a message of protobuf.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn bytes(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let found = fields(message)
        .into_iter()
        .filter(|(number, _)| *number == wanted);
    found
        .filter_map(|(_, field)| {
            if let Field::Bytes(bytes) = field {
                Some(bytes)
            } else {
                None
            }
        })
        .collect()
}

fn numbers(message: &[u8], wanted: u64) -> Vec<u64> {
    let found = fields(message)
        .into_iter()
        .filter(|(number, _)| *number == wanted);
    found
        .filter_map(|(_, field)| {
            if let Field::Number(number) = field {
                Some(number)
            } else {
                None
            }
        })
        .collect()
}

fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(
                take(&mut message, 8).try_into().unwrap(),
            )),
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                Field::Bytes(take(&mut message, length))
            }
            5 => {
                Field::Number(u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()).into())
            }
            other => panic!("no type of a field: {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
    }
    panic!("no number");
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at(length);
    *message = rest;
    taken
}
