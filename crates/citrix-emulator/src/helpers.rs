//! `/echo`, `/upload`, `/download`, `/status`: paths for tests of proxies, which Citrix does not
//! have.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::access::field_token_status;
use super::call::Call;
use super::responses::{self, Response};
use super::state::State;

/// Maximum number of body bytes that `/echo` returns.
const MAX_ECHOED_BODY: usize = 1024;

const CHUNK_LENGTH: usize = 64 * 1024;
/// Content that `/download` repeats.
static CHUNK: [u8; CHUNK_LENGTH] = chunk();

#[expect(
    clippy::cast_possible_truncation,
    reason = "the remainder is below 251"
)]
const fn chunk() -> [u8; CHUNK_LENGTH] {
    let mut chunk = [0; CHUNK_LENGTH];
    let mut index = 0;
    while index < CHUNK_LENGTH {
        // The period is prime, so that a test notices shifted or repeated chunks.
        chunk[index] = (index % 251) as u8;
        index += 1;
    }
    chunk
}

/// Returns the request as it arrived, with each token replaced by its status.
pub(super) async fn echo(mut call: Call<'_>) -> Response {
    let (length, beginning, trailers) = read(&mut call.body).await;
    let uri = &call.parts.uri;
    let headers = |headers| show(call.state, headers);
    responses::ok(&json!({
        "method": call.parts.method.as_str(),
        "path": uri.path_and_query().map_or("", |path| path.as_str()),
        "authority": uri.authority().map(|authority| authority.as_str()),
        "version": format!("{:?}", call.parts.version),
        "headers": headers(&call.parts.headers),
        "trailers": headers(&trailers),
        "body_length": length,
        "body": String::from_utf8_lossy(&beginning),
    }))
}

fn show(state: &State, headers: &HeaderMap) -> Value {
    let show = |(name, value): (&http::HeaderName, &HeaderValue)| {
        if [AUTHORIZATION, PROXY_AUTHORIZATION].contains(name) {
            json!([
                name.as_str(),
                field_token_status(state, value.as_bytes(), true).0.label()
            ])
        } else {
            json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
        }
    };
    headers.iter().map(show).collect()
}

/// Returns length, beginning and trailers of a body.
async fn read(body: &mut Incoming) -> (u64, Vec<u8>, HeaderMap) {
    let (mut length, mut beginning, mut trailers) = (0, Vec::new(), HeaderMap::new());
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                let room = MAX_ECHOED_BODY - beginning.len();
                beginning.extend_from_slice(&data[..data.len().min(room)]);
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    (length, beginning, trailers)
}

/// Reads a body of any size and returns its length.
pub(super) async fn upload(mut call: Call<'_>) -> Response {
    let mut bytes = 0;
    while let Some(frame) = call.body.frame().await {
        match frame {
            Ok(frame) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            // Truncated: the client cannot receive the response anyway.
            Err(_) => return responses::empty(StatusCode::BAD_REQUEST),
        }
    }
    responses::ok(&json!({ "bytes": bytes }))
}

/// Returns `?bytes=N` bytes in chunks of 64 KiB; without `Content-Length` if `chunked=1`.
pub(super) fn download(call: &Call<'_>) -> Response {
    let query = call.query();
    let Ok(Some(remaining)) = query.number("bytes") else {
        return responses::text(StatusCode::BAD_REQUEST, "Say how many: ?bytes=N");
    };
    let chunked = query.get("chunked").is_some_and(|value| value == "1");
    let response = responses::respond(
        StatusCode::OK,
        RepeatedBody { remaining, chunked }.boxed_unsync(),
    );
    let response = responses::with(
        response,
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if chunked {
        response
    } else {
        responses::with(response, CONTENT_LENGTH, remaining)
    }
}

/// Responds to `/status/{code}` with that status, and with the standard error body where the status
/// permits content.
pub(super) fn status(call: &Call<'_>) -> Response {
    let code = match call.rest[..] {
        [code] => code.parse().ok().filter(|code| *code >= 200),
        _ => None,
    };
    match code.and_then(|code| StatusCode::from_u16(code).ok()) {
        None => responses::text(
            StatusCode::BAD_REQUEST,
            "A status from 200 to 999: /status/503",
        ),
        Some(
            status
            @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED),
        ) => responses::empty(status),
        Some(status) => {
            responses::standard_error(status, "common/status", "As you asked.", json!([]))
        }
    }
}

/// A body that repeats [`CHUNK`].
struct RepeatedBody {
    remaining: u64,
    chunked: bool,
}

impl Body for RepeatedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let length =
            usize::try_from(self.remaining).map_or(CHUNK_LENGTH, |left| left.min(CHUNK_LENGTH));
        self.remaining -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&CHUNK[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.remaining)
        }
    }
}
