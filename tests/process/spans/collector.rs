//! A span collector: the subset of OTLP over HTTP that the tests need (opentelemetry-proto,
//! `collector/trace/v1`).

use std::collections::BTreeMap;

use citrix_wire::hex;
use testkit::upstream::Upstream;

const ACCEPTED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";

/// A decoded span.
#[derive(Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// Attributes of the sender.
    pub resource: BTreeMap<String, String>,
    pub kind: u64,
    /// Unix time in nanoseconds.
    pub start: u64,
    pub end: u64,
    pub failed: bool,
}

pub const SERVER: u64 = 2;
pub const CLIENT: u64 = 3;

/// Starts a collector that accepts every request.
pub async fn collector() -> Upstream {
    Upstream::responding(ACCEPTED).await
}

/// Returns the spans received so far, ordered by start.
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
        for resource_spans in bytes(&request.body, 1) {
            let resource = bytes(resource_spans, 1)
                .first()
                .map(|resource| attributes(resource, 1))
                .unwrap_or_default();
            for scope_spans in bytes(resource_spans, 2) {
                spans.extend(
                    bytes(scope_spans, 2)
                        .into_iter()
                        .map(|span| read(span, resource.clone())),
                );
            }
        }
    }
    spans.sort_by_key(|span| (span.start, span.kind));
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
        start: number(7),
        end: number(8),
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

/// A field of a protobuf message.
enum ProtobufField<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn bytes(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let found = fields(message)
        .into_iter()
        .filter(|(number, _)| *number == wanted);
    found
        .filter_map(|(_, field)| {
            if let ProtobufField::Bytes(bytes) = field {
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
            if let ProtobufField::Number(number) = field {
                Some(number)
            } else {
                None
            }
        })
        .collect()
}

fn fields(mut message: &[u8]) -> Vec<(u64, ProtobufField<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => ProtobufField::Number(varint(&mut message)),
            1 => ProtobufField::Number(u64::from_le_bytes(
                take(&mut message, 8).try_into().unwrap(),
            )),
            2 => {
                let length = usize::try_from(varint(&mut message)).unwrap();
                ProtobufField::Bytes(take(&mut message, length))
            }
            5 => ProtobufField::Number(
                u32::from_le_bytes(take(&mut message, 4).try_into().unwrap()).into(),
            ),
            other => panic!("unknown wire type: {other}"),
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
    panic!("varint too long");
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at(length);
    *message = rest;
    taken
}
