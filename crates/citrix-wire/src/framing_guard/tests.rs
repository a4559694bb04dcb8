use proptest::prelude::*;

use super::*;

/// Scans the bytes in pieces of this size; returns the offsets at which portions end.
fn portions(guard: &mut FramingGuard, bytes: &[u8], piece: usize) -> Vec<usize> {
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        at += guard
            .scan(&bytes[at..(at + piece).min(bytes.len())])
            .unwrap();
        if guard.skip == 0 && guard.portion.ended {
            ends.push(at);
        }
    }
    ends
}

fn check(head: &str, body: BodyLength) -> Result<(), FramingError> {
    let results = [1, 2, 3, 7, usize::MAX / 2].map(|piece| {
        let mut guard = FramingGuard::default();
        portions(&mut guard, head.as_bytes(), piece);
        guard.check_head(body)
    });
    assert!(
        results.iter().all(|result| *result == results[0]),
        "{head:?} {results:?}"
    );
    results[0]
}

const HEADS: [(&str, BodyLength, Result<(), FramingError>); 18] = [
    (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        BodyLength::Bytes(0),
        Ok(()),
    ),
    ("GET / HTTP/1.1\r\n\r\n", BodyLength::Bytes(0), Ok(())),
    (
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        BodyLength::Bytes(0),
        Ok(()),
    ),
    (
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        BodyLength::Bytes(0),
        Ok(()),
    ),
    (
        "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::BlankLines),
    ),
    (
        "\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::BareLineFeed),
    ),
    (
        "\nGET / HTTP/1.1\r\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::BareLineFeed),
    ),
    (
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::BareLineFeed),
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::BareLineFeed),
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        BodyLength::Bytes(0),
        Err(FramingError::BareLineFeed),
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\n\nX: \r\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::BareLineFeed),
    ),
    (
        "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        BodyLength::Bytes(0),
        Err(FramingError::Fragment),
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: #a\r\n\r\n",
        BodyLength::Bytes(0),
        Ok(()),
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        BodyLength::Bytes(5),
        Ok(()),
    ),
    (
        "POST / HTTP/1.1\r\nX-Content-Length: 5\r\ncontent-length:5\r\n\r\n",
        BodyLength::Bytes(5),
        Ok(()),
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nCONTENT-LENGTH:5\r\n\r\n",
        BodyLength::Bytes(5),
        Err(FramingError::RepeatedContentLength),
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        BodyLength::Chunked,
        Err(FramingError::ContentLengthWithTransferEncoding),
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        BodyLength::Chunked,
        Ok(()),
    ),
];

#[test]
fn rfc9112_ambiguous_heads_are_rejected() {
    for (head, body, expected) in HEADS {
        assert_eq!(check(head, body), expected, "{head:?}");
    }
}

#[test]
fn many_blank_lines_form_one_portion_with_the_next_head() {
    let mut guard = FramingGuard::default();
    let heads = "\r\n".repeat(1000) + "GET / HTTP/1.1\r\n\r\n" + "GET / HTTP/1.1\r\n\r\n";
    assert_eq!(
        portions(&mut guard, heads.as_bytes(), usize::MAX / 2),
        [4, 8, 2018, 2036]
    );
    assert_eq!(
        check(&heads[..2018], BodyLength::Bytes(0)),
        Err(FramingError::BlankLines)
    );
}

#[test]
fn body_of_known_length_is_not_scanned() {
    let mut guard = FramingGuard::default();
    let head = b"POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(
        guard.scan(&[head, &b"\n\r\n\r\n#\nGET"[..]].concat()),
        Ok(head.len())
    );
    assert_eq!(guard.check_head(BodyLength::Bytes(7)), Ok(()));
    assert_eq!(guard.scan(b"\n\r\n"), Ok(3));
    assert_eq!(guard.scan(b"\r\n#\nGET"), Ok(4));
    portions(&mut guard, b"GET / HTTP/1.1\r\n\r\n", 5);
    assert_eq!(guard.check_head(BodyLength::Bytes(0)), Ok(()));
}

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Returns a guard that has passed the head of a chunked request.
fn before_chunks() -> FramingGuard {
    let mut guard = FramingGuard::default();
    guard.scan(CHUNKED).unwrap();
    guard.check_head(BodyLength::Chunked).unwrap();
    guard
}

#[test]
fn small_chunks_pass_and_excessive_framing_is_rejected() {
    let mut guard = before_chunks();
    for _ in 0..100_000 {
        assert_eq!(guard.scan(b"1\r\nx\r\n"), Ok(6));
    }
    let padded = b"000000000000000000000001\r\nx\r\n";
    let excess = padded.len() as u64 - 1 - FRAMING_PER_BYTE;
    let passed = (0..1_000_000).take_while(|_| guard.scan(padded).is_ok());
    let short_of = MAX_FRAMING / excess - passed.count() as u64;
    assert!(short_of <= 1, "{short_of}");
}

/// What follows a bare LF would otherwise become part of the trailers, or another request.
#[test]
fn rfc9112_7_1_ambiguous_chunks_and_trailers_are_rejected() {
    use ChunkFramingError::{End, Extension, Size};
    const BARE: ChunkedBodyError = ChunkedBodyError::BareLineFeed;
    let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (body, error) in [
        ("0\r\n\n", BARE),
        ("0\r\na: b\n\r\n", BARE),
        ("0\r\na: b\r\n\n", BARE),
        ("0\r\na: b\nc: d\r\n\r\n", BARE),
        ("1\r\nx\r\n0\r\n\na: b\r\n\r\n", BARE),
        ("0\n\r\n", Size.into()),
        ("1;a\nx\r\n", Extension.into()),
        ("1\r\nx\n", End.into()),
    ] {
        let bytes = [body, next].concat();
        for piece in [1, 2, 3, 7, bytes.len()] {
            let mut guard = before_chunks();
            let mut pieces = bytes.as_bytes().chunks(piece);
            let failed = pieces.find_map(|piece| guard.scan(piece).err());
            assert_eq!(failed, Some(error), "{body:?} in pieces of {piece}");
        }
    }
}

proptest! {
    /// hyper's buffer is empty at the end of any chunked body.
    #[test]
    fn rfc9112_7_1_chunked_body_ends_at_the_end_of_a_portion(
        chunks in prop::collection::vec("[\r\n0a;:#]{1,12}", 0..6),
        extension in "(;[a0]{0,3})?",
        trailers in prop::collection::vec("[a-c]{1,3}: [a-c]{0,3}", 0..3),
        piece in 1_usize..40,
    ) {
        let mut body = String::new();
        for chunk in &chunks {
            body += &format!("{:x}{extension}\r\n{chunk}\r\n", chunk.len());
        }
        body += &format!("0{extension}\r\n");
        for trailer in &trailers {
            body += &format!("{trailer}\r\n");
        }
        body += "\r\n";
        let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut guard = before_chunks();
        let ends = portions(&mut guard, format!("{body}{next}").as_bytes(), piece);
        prop_assert_eq!(ends, [body.len(), body.len() + next.len()]);
        prop_assert_eq!(guard.check_head(BodyLength::Bytes(0)), Ok(()));
    }
}
