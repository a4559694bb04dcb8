use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const FORMATS: [CodingFormat; 4] = [
    CodingFormat::Gzip,
    CodingFormat::Zlib,
    CodingFormat::Deflate,
    CodingFormat::Brotli,
];

fn encode(format: CodingFormat, body: &[u8]) -> Vec<u8> {
    let mut encoder = ContentEncoder::new(format);
    encoder.write(body).unwrap();
    encoder.finish().unwrap().to_vec()
}

fn decode(format: CodingFormat, encoded: &[u8], size: usize) -> Result<Vec<u8>, CodingError> {
    let mut decoder = ContentDecoder::new(format);
    let mut out = Vec::new();
    let mut drain = |decoder: &mut ContentDecoder| {
        while let Some(slice) = decoder.pull()? {
            assert!((1..=SLICE).contains(&slice.len()));
            out.extend_from_slice(&slice);
        }
        Ok::<_, CodingError>(())
    };
    for piece in encoded.chunks(size) {
        decoder.push(Bytes::copy_from_slice(piece));
        drain(&mut decoder)?;
    }
    decoder.finish();
    drain(&mut decoder)?;
    Ok(out)
}

#[test]
fn rfc9110_8_4_single_supported_coding_is_parsed() {
    let of = |fields: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(field));
        }
        ContentCoding::from_headers(&headers)
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["identity"]), Ok(None));
    assert_eq!(of(&["gzip"]), Ok(Some(ContentCoding::Gzip)));
    assert_eq!(of(&[" X-GZip "]), Ok(Some(ContentCoding::Gzip)));
    assert_eq!(of(&["deflate"]), Ok(Some(ContentCoding::Deflate)));
    assert_eq!(of(&["BR"]), Ok(Some(ContentCoding::Brotli)));
    for unknown in [
        &["zstd"][..],
        &["gzip, br"],
        &["gzip", "br"],
        &[""],
        &["gzip;q=1"],
    ] {
        assert_eq!(of(unknown), Err(UnsupportedCoding), "{unknown:?}");
    }
}

#[test]
fn first_byte_distinguishes_zlib_from_deflate() {
    for body in [&b""[..], b"x", b"{\"Items\":[]}", &[0; 1000]] {
        assert_eq!(
            ContentCoding::Deflate.format(encode(CodingFormat::Zlib, body)[0]),
            CodingFormat::Zlib
        );
        assert_eq!(
            ContentCoding::Deflate.format(encode(CodingFormat::Deflate, body)[0]),
            CodingFormat::Deflate
        );
    }
    assert_eq!(ContentCoding::Gzip.format(0x78), CodingFormat::Gzip);
}

#[test]
fn rfc1952_2_2_several_gzip_members_are_decoded() {
    let members = [
        encode(CodingFormat::Gzip, b"one, "),
        encode(CodingFormat::Gzip, b""),
        encode(CodingFormat::Gzip, b"two"),
    ];
    for size in [1, 5, usize::MAX] {
        assert_eq!(
            decode(CodingFormat::Gzip, &members.concat(), size).unwrap(),
            b"one, two"
        );
    }
}

#[test]
fn trailing_data_is_an_error() {
    for format in FORMATS {
        for trailing in [&b"x"[..], b"\0\0\0\0", b"\0\0x", b"trailing garbage"] {
            if format == CodingFormat::Gzip && trailing == b"\0\0\0\0" {
                continue;
            }
            let encoded = [&encode(format, b"{\"Items\":[]}"), trailing].concat();
            for size in [1, 7, usize::MAX] {
                assert!(
                    decode(format, &encoded, size).is_err(),
                    "{format:?} {trailing:?} {size}"
                );
            }
        }
    }
}

#[test]
fn zeros_after_the_last_gzip_member_are_ignored() {
    let member = encode(CodingFormat::Gzip, b"{\"Items\":[]}");
    let encoded = [&member[..], &member, &[0; 512]].concat();
    for size in [1, 7, 100, usize::MAX] {
        assert_eq!(
            decode(CodingFormat::Gzip, &encoded, size).unwrap(),
            b"{\"Items\":[]}{\"Items\":[]}",
            "{size}"
        );
    }
}

#[test]
fn wrong_checksum_is_an_error() {
    for format in [CodingFormat::Gzip, CodingFormat::Zlib] {
        let mut encoded = encode(format, b"{\"Items\":[]}");
        let checksum = encoded.len() - if format == CodingFormat::Gzip { 5 } else { 1 };
        encoded[checksum] ^= 1;
        assert!(decode(format, &encoded, usize::MAX).is_err(), "{format:?}");
    }
}

proptest! {
    #[test]
    fn encoded_body_decodes_to_itself(
        format in select(FORMATS.to_vec()),
        pieces in vec((vec(any::<u8>(), 0..50), 1usize..200), 0..20),
        size in 1usize..100,
    ) {
        let body: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
        let mut encoder = ContentEncoder::new(format);
        let mut encoded = Vec::new();
        for (piece, times) in &pieces {
            encoder.write(&piece.repeat(*times)).unwrap();
            encoded.extend_from_slice(&encoder.flush().unwrap());
        }
        encoded.extend_from_slice(&encoder.finish().unwrap());
        prop_assert_eq!(decode(format, &encoded, size).unwrap(), body);
    }

    #[test]
    fn any_bytes_are_decoded_without_panic(
        format in select(FORMATS.to_vec()),
        bytes in vec(any::<u8>(), 0..300),
        size in 1usize..100,
    ) {
        let _ = decode(format, &bytes, size);
    }
}

#[test]
fn rfc1952_2_2_members_without_content_are_decoded_up_to_a_bound() {
    let empty = encode(CodingFormat::Gzip, b"");
    let content = encode(CodingFormat::Gzip, b"x");
    let few = [empty.repeat(15), content.clone()].concat().repeat(3);
    let trailing = [content, empty.repeat(16)].concat();
    // One piece of this would recurse 50,000 times.
    let many = empty.repeat(50_000);
    for size in [1, 20, usize::MAX] {
        assert_eq!(decode(CodingFormat::Gzip, &few, size).unwrap(), b"xxx");
        assert_eq!(decode(CodingFormat::Gzip, &trailing, size).unwrap(), b"x");
        let decoded = decode(CodingFormat::Gzip, &many, size);
        assert!(
            matches!(decoded, Err(CodingError::Invalid(_))),
            "{decoded:?}"
        );
    }
}
