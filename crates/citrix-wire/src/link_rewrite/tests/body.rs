use std::io::Read;

use super::super::BodyRewriter;
use super::*;
use crate::coding::{CodingError, CodingFormat, ContentCoding, ContentEncoder, SLICE};

const FORMATS: [(ContentCoding, CodingFormat); 4] = [
    (ContentCoding::Gzip, CodingFormat::Gzip),
    (ContentCoding::Deflate, CodingFormat::Zlib),
    (ContentCoding::Deflate, CodingFormat::Deflate),
    (ContentCoding::Brotli, CodingFormat::Brotli),
];

fn encode(format: CodingFormat, body: &[u8]) -> Bytes {
    let mut encoder = ContentEncoder::new(format);
    encoder.write(body).unwrap();
    encoder.finish().unwrap()
}

fn decode(format: CodingFormat, mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match format {
        CodingFormat::Gzip => flate2::bufread::MultiGzDecoder::new(body).read_to_end(&mut out),
        CodingFormat::Zlib => flate2::bufread::ZlibDecoder::new(body).read_to_end(&mut out),
        CodingFormat::Deflate => flate2::bufread::DeflateDecoder::new(body).read_to_end(&mut out),
        CodingFormat::Brotli => brotli::Decompressor::new(&mut body, 4096).read_to_end(&mut out),
    }
    .unwrap();
    out
}

fn rewrite(
    coding: Option<ContentCoding>,
    body: &Bytes,
    size: usize,
) -> Result<Vec<u8>, CodingError> {
    let mut rewriter = BodyRewriter::new(links(), coding);
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        rewriter.push(Bytes::copy_from_slice(piece));
        while let Some(piece) = rewriter.pull()? {
            out.extend_from_slice(&piece);
        }
    }
    rewriter.finish();
    while let Some(piece) = rewriter.pull()? {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

fn page(host: &str, rows: usize) -> String {
    let rows: String = (0..rows)
        .map(|row| format!(r#"{{"Id":{row},"Name":"machine {row}"}},"#))
        .collect();
    format!(
        r#"{{"@context":"https://{host}/monitorodata/$metadata","Items":[{rows}{{}}],"@odata.nextLink":"https://{host}/monitorodata/Machines?$skip=1","@nextLink":"https:\/\/{host}\/monitorodata"}}"#
    )
}

#[test]
fn links_are_rewritten_inside_every_coding() {
    let (input, expected) = (page("api.cloud.com", 500), page("gw.example.net", 500));
    for size in [1, 7, 1000, usize::MAX] {
        assert_eq!(
            rewrite(None, &Bytes::from(input.clone()), size).unwrap(),
            expected.as_bytes()
        );
        for (coding, format) in FORMATS {
            let out = rewrite(Some(coding), &encode(format, input.as_bytes()), size).unwrap();
            assert!(
                decode(format, &out) == expected.as_bytes(),
                "{format:?} {size}"
            );
        }
    }
}

#[test]
fn flushed_output_is_decodable_before_the_end() {
    for (coding, format) in FORMATS {
        let mut encoder = ContentEncoder::new(format);
        let mut rewriter = BodyRewriter::new(links(), Some(coding));
        let mut out = Vec::new();
        for (piece, expected) in [
            (r#"{"a":1,"#, r#"{"a":1,"#),
            (
                r#""Location":"//api.cloud.com","#,
                r#"{"a":1,"Location":"https://gw.example.net","#,
            ),
        ] {
            encoder.write(piece.as_bytes()).unwrap();
            rewriter.push(encoder.flush().unwrap());
            while let Some(piece) = rewriter.pull().unwrap() {
                out.extend_from_slice(&piece);
            }
            let mut decoder = crate::coding::ContentDecoder::new(format);
            decoder.push(Bytes::from(out.clone()));
            let mut text = Vec::new();
            while let Some(slice) = decoder.pull().unwrap() {
                text.extend_from_slice(&slice);
            }
            assert_eq!(String::from_utf8(text).unwrap(), expected, "{format:?}");
        }
    }
}

#[test]
fn truncated_body_is_an_error_without_further_output() {
    let body = page("api.cloud.com", 20);
    for (coding, format) in FORMATS {
        let encoded = encode(format, body.as_bytes());
        for length in 1..encoded.len() {
            assert!(
                rewrite(Some(coding), &encoded.slice(..length), 50).is_err(),
                "{format:?} {length}"
            );
        }
        let mut rewriter = BodyRewriter::new(links(), Some(coding));
        rewriter.push(encoded.slice(..encoded.len() - 1));
        while let Some(_piece) = rewriter.pull().unwrap() {}
        rewriter.finish();
        assert!(rewriter.pull().is_err());
        assert!(rewriter.pull().unwrap().is_none());
    }
}

#[test]
fn empty_body_stays_empty_in_any_coding() {
    for (coding, _) in FORMATS {
        assert_eq!(rewrite(Some(coding), &Bytes::new(), 1).unwrap(), b"");
    }
}

#[test]
fn plain_body_that_claims_gzip_stays_plain_with_its_links_rewritten() {
    let (input, expected) = (page("api.cloud.com", 3), page("gw.example.net", 3));
    for size in [1, usize::MAX] {
        let out = rewrite(Some(ContentCoding::Gzip), &Bytes::from(input.clone()), size).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn pull_decodes_at_most_one_slice() {
    let zeros = vec![b'0'; 64 * SLICE];
    for (coding, format) in FORMATS {
        let bomb = encode(format, &zeros);
        assert!(bomb.len() < 64 * SLICE / 100, "{format:?}");
        let mut rewriter = BodyRewriter::new(links(), Some(coding));
        rewriter.push(bomb);
        let mut pulls = 0;
        while let Some(piece) = rewriter.pull().unwrap() {
            assert!(piece.len() < SLICE);
            pulls += 1;
        }
        assert!(pulls >= 64, "{format:?}: {pulls}");
    }
}

#[test]
fn rfc7932_9_1_body_with_a_window_above_4_mib_is_not_decoded() {
    let body = page("api.cloud.com", 10);
    for window in 10..=24 {
        let mut encoded = Vec::new();
        std::io::Write::write_all(
            &mut brotli::CompressorWriter::new(&mut encoded, 4096, 1, window),
            body.as_bytes(),
        )
        .unwrap();
        let encoded = Bytes::from(encoded);
        let out = rewrite(Some(ContentCoding::Brotli), &encoded, usize::MAX).unwrap();
        assert_eq!(out == encoded, window > 22, "{window}");
    }
}
