//! Transformations of response bodies: escaped slashes, content codings, truncation.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Sleep, sleep};

use super::responses::{Response, with};

/// Plain bytes encoded per frame.
const CHUNK_LENGTH: usize = 16 * 1024;
/// Delay before a truncated body ends: hyper writes nothing of a response whose body fails at once.
const TRUNCATION_DELAY: Duration = Duration::from_millis(50);
/// Minimum content length in bytes for a content coding, which would lengthen shorter content.
const MIN_ENCODED_LENGTH: usize = 256;

/// A supported content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Brotli,
    /// The zlib format (RFC 9110 section 8.4.1.2).
    Deflate,
}

impl Coding {
    const ALL: [(&'static str, Self); 3] = [
        ("gzip", Self::Gzip),
        ("br", Self::Brotli),
        ("deflate", Self::Deflate),
    ];

    /// Returns the coding with the highest quality value, the first of equal ones.
    fn accepted(headers: &HeaderMap) -> Option<(&'static str, Self)> {
        let fields = headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|field| field.to_str().ok());
        let mut best = None;
        for item in fields.flat_map(|field| field.split(',')) {
            let (name, quality) = item.split_once(';').unwrap_or((item, "q=1"));
            let quality: f32 = quality
                .trim()
                .trim_start_matches("q=")
                .parse()
                .unwrap_or(0.0);
            let coding = Self::ALL
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
            if let Some(coding) = coding
                && quality > best.map_or(0.0, |(_, best)| best)
            {
                best = Some((*coding, quality));
            }
        }
        best.map(|(coding, _)| coding)
    }
}

/// Applies the content coding that the client prefers, if any.
pub(super) async fn encode(response: Response, accepts: &HeaderMap) -> Response {
    let Some((name, coding)) = Coding::accepted(accepts) else {
        return response;
    };
    let (parts, body) = response.into_parts();
    let Ok(content) = body.collect().await;
    let content = content.to_bytes();
    let mut response = Response::from_parts(parts, Full::new(content.clone()).boxed_unsync());
    if content.len() >= MIN_ENCODED_LENGTH {
        *response.body_mut() = Encoded::new(content, coding).boxed_unsync();
        response.headers_mut().remove(CONTENT_LENGTH);
        response = with(response, CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    with(response, VARY, HeaderValue::from_static("Accept-Encoding"))
}

/// Writes every slash in JSON as `\/`, as some serializers do; leaves other content unchanged.
pub(super) async fn escape_slashes(response: Response) -> Response {
    let content_type = response.headers().get(CONTENT_TYPE);
    if content_type.is_none_or(|value| !value.as_bytes().starts_with(b"application/json")) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(content) = body.collect().await;
    let content = content.to_bytes();
    // A slash in JSON is always inside a string.
    let escaped: Vec<u8> = content
        .iter()
        .flat_map(|byte| {
            if *byte == b'/' {
                &b"\\/"[..]
            } else {
                std::slice::from_ref(byte)
            }
        })
        .copied()
        .collect();
    Response::from_parts(parts, Full::new(Bytes::from(escaped)).boxed_unsync())
}

/// Keeps the content length but ends the body in the middle.
pub(super) async fn truncate(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(content) = body.collect().await;
    let content = content.to_bytes();
    let half = TruncatedBody {
        half: content.slice(..content.len() / 2),
        delay: None,
    };
    // At least one byte is missing, even from empty content.
    let announced = content.len().max(1);
    with(
        Response::from_parts(parts, half.boxed_unsync()),
        CONTENT_LENGTH,
        announced,
    )
}

/// One frame, then the end after a delay. It gives no size hint, so that the server does not check
/// `Content-Length`.
struct TruncatedBody {
    half: Bytes,
    /// Delay before the end; starts with the frame.
    delay: Option<Pin<Box<Sleep>>>,
}

impl Body for TruncatedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.delay {
            Some(delay) => delay.as_mut().poll(context).map(|()| None),
            None => {
                self.delay = Some(Box::pin(sleep(TRUNCATION_DELAY)));
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.half)))))
            }
        }
    }
}

/// A body that is encoded while it is sent.
struct Encoded {
    plain: Bytes,
    /// `None` after the end.
    encoder: Option<Encoder>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    fn write(&mut self, chunk: &[u8]) -> Vec<u8> {
        // Writing to a `Vec` cannot fail.
        let (_, out) = match self {
            Self::Gzip(encoder) => (encoder.write_all(chunk), encoder.get_mut()),
            Self::Brotli(encoder) => (encoder.write_all(chunk), encoder.get_mut()),
            Self::Deflate(encoder) => (encoder.write_all(chunk), encoder.get_mut()),
        };
        std::mem::take(out)
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.finish().unwrap_or_default(),
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Deflate(encoder) => encoder.finish().unwrap_or_default(),
        }
    }
}

impl Encoded {
    fn new(plain: Bytes, coding: Coding) -> Self {
        let fast = Compression::fast();
        let encoder = match coding {
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), fast)),
            Coding::Brotli => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                CHUNK_LENGTH,
                1,
                20,
            ))),
            Coding::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), fast)),
        };
        Self {
            plain,
            encoder: Some(encoder),
        }
    }
}

impl Body for Encoded {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(mut encoder) = self.encoder.take() {
            let out = if self.plain.is_empty() {
                encoder.finish()
            } else {
                let length = self.plain.len().min(CHUNK_LENGTH);
                let chunk = self.plain.split_to(length);
                let out = encoder.write(&chunk);
                self.encoder = Some(encoder);
                out
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::responses;

    fn accepting(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(text))])
    }

    #[test]
    fn accept_encoding_selects_highest_quality() {
        for (text, name) in [
            ("gzip, deflate, br", Some("gzip")),
            ("gzip;q=0.5, BR;q=0.9", Some("br")),
            ("deflate", Some("deflate")),
            ("gzip;q=0, identity", None),
            ("zstd, *", None),
            ("", None),
        ] {
            assert_eq!(
                Coding::accepted(&accepting(text)).map(|(name, _)| name),
                name,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn encoded_body_decodes_to_original() {
        let plain: String = (0..40_000).map(|number| format!("{number}/")).collect();
        for name in ["gzip", "br", "deflate"] {
            let response = responses::text(http::StatusCode::OK, plain.clone());
            let response = encode(response, &accepting(name)).await;
            assert_eq!(response.headers()[CONTENT_ENCODING], name);
            let Ok(encoded) = response.into_body().collect().await;
            let (encoded, mut decoded) = (encoded.to_bytes(), String::new());
            match name {
                "gzip" => flate2::read::GzDecoder::new(&encoded[..]).read_to_string(&mut decoded),
                "br" => brotli::Decompressor::new(&encoded[..], CHUNK_LENGTH)
                    .read_to_string(&mut decoded),
                _ => flate2::read::ZlibDecoder::new(&encoded[..]).read_to_string(&mut decoded),
            }
            .unwrap();
            assert!(decoded == plain && encoded.len() < plain.len(), "{name}");
        }
    }

    #[tokio::test]
    async fn escaped_slashes_keep_the_json_value() {
        let value = serde_json::json!({ "link": "https://h/a" });
        let Ok(body) = escape_slashes(responses::ok(&value))
            .await
            .into_body()
            .collect()
            .await;
        let body = body.to_bytes();
        assert_eq!(&body[..], br#"{"link":"https:\/\/h\/a"}"#);
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
            value
        );
    }
}
