//! How bodies go out: with escaped slashes, in a content coding, or cut off in the middle.

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

/// How much is encoded at a time, so that a large page leaves chunk by chunk.
const CHUNK_LENGTH: usize = 16 * 1024;
/// How long a connection lives after its last chunk: the server writes nothing of an answer that fails at once.
const TRUNCATION_DELAY: Duration = Duration::from_millis(50);
/// Below it a coding makes an answer longer.
const MIN_ENCODED_LENGTH: usize = 256;

/// The content codings that services answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Brotli,
    /// The zlib format, as the name means (RFC 9110 section 8.4.1.2).
    Deflate,
}

impl Coding {
    const ALL: [(&'static str, Self); 3] = [
        ("gzip", Self::Gzip),
        ("br", Self::Brotli),
        ("deflate", Self::Deflate),
    ];

    /// The coding that a caller likes best; of those it likes equally, the one it names first.
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

/// The same answer in the coding that its caller accepts, if any.
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

/// The same JSON with every slash written `\/`, as some serializers do; what is no JSON stays.
pub(super) async fn escape_slashes(response: Response) -> Response {
    let content_type = response.headers().get(CONTENT_TYPE);
    if content_type.is_none_or(|value| !value.as_bytes().starts_with(b"application/json")) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(content) = body.collect().await;
    let content = content.to_bytes();
    // In JSON a slash is always inside a string.
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

/// The same answer, which says how long it is and ends in the middle.
pub(super) async fn truncate(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(content) = body.collect().await;
    let content = content.to_bytes();
    let half = TruncatedBody {
        half: content.slice(..content.len() / 2),
        delay: None,
    };
    // At least one byte is missing, even of an empty answer.
    let announced = content.len().max(1);
    with(
        Response::from_parts(parts, half.boxed_unsync()),
        CONTENT_LENGTH,
        announced,
    )
}

/// One chunk, and no word on the length, so that the header may lie.
struct TruncatedBody {
    half: Bytes,
    /// Until the end; begins when the half is handed over.
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

/// A body encoded while it is sent.
struct Encoded {
    plain: Bytes,
    /// None once it has been finished.
    encoder: Option<Encoder>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    fn write(&mut self, chunk: &[u8]) -> Vec<u8> {
        // Writing to memory does not fail.
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
    fn the_coding_that_the_caller_likes_best_is_taken() {
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
    async fn what_is_encoded_decodes_to_the_same() {
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
    async fn escaped_slashes_mean_the_same() {
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
