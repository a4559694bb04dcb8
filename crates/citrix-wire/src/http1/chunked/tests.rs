use proptest::prelude::*;

use super::*;
use crate::http1::chunk_framing::MAX_EXTENSIONS;

/// Decodes a body that arrives in pieces of `size` bytes. Returns its content, its trailers, the
/// bytes that follow it, and whether it has ended.
fn decoded(body: &[u8], size: usize) -> Result<(String, HeaderMap, Vec<u8>, bool), ChunkError> {
    let (mut decoder, mut input) = (ChunkDecoder::default(), BytesMut::new());
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    for piece in body.chunks(size) {
        input.extend_from_slice(piece);
        while !decoder.is_ended() {
            match decoder.decode(&mut input)? {
                None => break,
                Some(Piece::Data(data)) => content.extend_from_slice(&data),
                Some(Piece::Trailers(fields)) => trailers = fields,
                Some(Piece::End) => assert!(decoder.is_ended()),
            }
        }
    }
    let content = String::from_utf8_lossy(&content).into_owned();
    Ok((content, trailers, input.to_vec(), decoder.is_ended()))
}

/// Decodes a body in pieces of every size, with the same result for each.
fn decode(body: &str) -> Result<(String, HeaderMap, Vec<u8>, bool), ChunkError> {
    let whole = decoded(body.as_bytes(), body.len().max(1));
    for size in 1..body.len().min(64) {
        assert_eq!(
            decoded(body.as_bytes(), size),
            whole,
            "{body:?} in pieces of {size}"
        );
    }
    whole
}

#[test]
fn rfc9112_7_1_chunks_become_the_content() {
    for (body, content, rest) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        (
            "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nHTTP/1.1",
            "hello world",
            "HTTP/1.1",
        ),
        ("a\r\n0123456789\r\n00\r\n\r\n", "0123456789", ""),
        ("00000000000000Aa", "", ""),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;a=\"b\" ; c\r\nhello\r\n0;x\r\n\r\n", "hello", ""),
        ("5 \t\r\nhello\r\n0 ;x\r\n\r\n", "hello", ""),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
    ] {
        let (found, trailers, after, ended) = decode(body).unwrap();
        assert_eq!(
            (found.as_str(), after.as_slice()),
            (content, rest.as_bytes()),
            "{body:?}"
        );
        assert_eq!(ended, body.contains("\r\n\r\n"), "{body:?}");
        assert!(trailers.is_empty());
    }
}

#[test]
fn rfc9112_7_1_2_trailers_follow_the_last_chunk() {
    let (content, trailers, rest, ended) =
        decode("1\r\nx\r\n0\r\nX-Sum: 1\r\nB: 2\r\n\r\nrest").unwrap();
    assert_eq!(
        (content.as_str(), rest.as_slice(), ended),
        ("x", &b"rest"[..], true)
    );
    assert_eq!(
        (trailers.len(), &trailers["x-sum"]),
        (2, &http::HeaderValue::from_static("1"))
    );
    assert!(matches!(
        decode("0\r\nX : 1\r\n\r\n"),
        Err(ChunkError::Trailers(_))
    ));
    assert!(matches!(
        decode("0\r\nX: 1\n\r\n"),
        Err(ChunkError::Trailers(_))
    ));
}

#[test]
fn incomplete_body_does_not_end() {
    let body = "5\r\nhello\r\n0\r\nX: 1\r\n\r\n";
    for length in 0..body.len() {
        let (.., ended) = decode(&body[..length]).unwrap();
        assert!(!ended, "{:?}", &body[..length]);
    }
}

#[test]
fn rfc9112_7_1_chunks_with_more_than_one_reading_are_rejected() {
    use ChunkFramingError::{End, Extension, Size};
    for (body, error) in [
        ("x\r\n", Size),
        ("\r\n", Size),
        (";x\r\n", Size),
        (" 5\r\n", Size),
        ("-5\r\n", Size),
        ("+5\r\n", Size),
        ("0x5\r\n", Size),
        ("5 5\r\n", Size),
        ("5\n", Size),
        ("5\rx", Size),
        ("5\r\r\n", Size),
        ("10000000000000000\r\n", Size),
        (&"0".repeat(65), Size),
        ("5;a\nhello", Extension),
        ("5;a\0\r\n", Extension),
        ("5;a\x7f\r\n", Extension),
        ("5\r\nhello5", End),
        ("5\r\nhello\n", End),
        ("5\r\nhello\r5", End),
    ] {
        assert_eq!(decode(body), Err(error.into()), "{body:?}");
    }
}

#[test]
fn extensions_of_a_body_are_bounded() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(1023));
    let within = format!("{}0\r\n\r\n", chunk.repeat(16));
    assert!(decoded(within.as_bytes(), 4096).unwrap().3);
    let beyond = chunk.repeat(17);
    assert_eq!(
        decoded(beyond.as_bytes(), 4096),
        Err(ChunkFramingError::Extension.into())
    );
    let spaces = format!("1{}", " ".repeat(MAX_EXTENSIONS + 1));
    assert_eq!(
        decoded(spaces.as_bytes(), 4096),
        Err(ChunkFramingError::Extension.into())
    );
}

proptest! {
    #[test]
    fn chunks_are_decoded_as_they_were_encoded(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        size in 1_usize..700,
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            super::super::request::write_chunk_size(&mut body, chunk.len() as u64);
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(super::super::request::LAST_CHUNK);
        let (content, .., rest, ended) = decoded(&body, size).unwrap();
        prop_assert!(ended && rest.is_empty());
        prop_assert_eq!(content, String::from_utf8_lossy(&chunks.concat()).into_owned());
    }

    #[test]
    fn pieces_do_not_change_the_reading(body in "[0-3a;\r\n x]{0,40}", size in 1_usize..40) {
        prop_assert_eq!(decoded(body.as_bytes(), size), decoded(body.as_bytes(), 40));
    }
}
