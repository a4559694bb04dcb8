//! Reads the body of a `$batch` request, whose items contain tokens (contract §5).
//!
//! The body is read whole, so that the gateway's token can replace the caller's in each item. It is
//! held until the response head, because every attempt may use another token.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body::Body;

use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::{CallerBody, MAX_BUFFERED, too_many_bytes};
use crate::limit::owner::OwnedPermit;
use crate::proxy::prepare::UpstreamRequest;
use citrix_wire::citrix::batch::BatchBody;
use citrix_wire::link_rewrite::strip_content_metadata;
use citrix_wire::policy::batch::check_item;

/// Bytes of one batch. Items have a few hundred.
const MAX_BATCH: usize = 4 * 1024 * 1024;

/// Items checked before the worker runs other tasks. Each may have a URL with many readings.
const ITEMS_PER_YIELD: usize = 20;

/// Bytes of a batch and their permits, released when the last part is dropped.
struct HeldBatch {
    bytes: Vec<u8>,
    permit: Option<OwnedPermit>,
}

impl AsRef<[u8]> for HeldBatch {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a batch and evaluates its items like requests of their own.
///
/// # Errors
/// `bad_request` if it is malformed, encoded or truncated; `body_too_large`; `request_timeout` if
/// it stalls; `overloaded` if too many bytes are held; the rejection of an item by the caller's
/// rules.
pub(super) async fn read_batch(
    request: &mut UpstreamRequest<'_>,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let read = read(request, exchange).await;
    let policy = request.policy.take();
    if let Some(policy) = policy.filter(|policy| policy.awaits_items()) {
        match &read {
            Ok(()) => exchange.audit_admission(policy.customer()),
            Err(failure) => exchange.audit_rejection(failure),
        }
    }
    read
}

async fn read(request: &mut UpstreamRequest<'_>, exchange: &mut Exchange) -> Result<(), Failure> {
    let mut headers = request.head.fields.to_map();
    reject_encoded(&headers)?;
    if let Some(policy) = &request.policy
        && !is_utf8(&headers)
    {
        policy.reject_unreadable(exchange)?;
    }
    // No replay buffer: the batch itself is kept.
    request.body.buffer_for_replay(0);
    let bytes = exchange.count_wait(read_whole(&mut request.body)).await?;
    let batch = BatchBody::parse(&bytes)
        .map_err(|error| Failure::new(Reason::BadRequest, error.to_string()))?;
    if let Some(policy) = &request.policy {
        policy.evaluate_items(batch.items(), exchange).await?;
    }
    reject_misdirected(&batch).await?;
    strip_content_metadata(&mut headers);
    headers.remove(TRANSFER_ENCODING);
    request.head.fields = headers.into();
    request.body = CallerBody::placeholder();
    request.batch = Some(Box::new(batch.into_template()));
    Ok(())
}

/// Rejects a batch with an item that must not get a token.
async fn reject_misdirected(batch: &BatchBody) -> Result<(), Failure> {
    for (index, item) in batch.items().iter().enumerate() {
        if (index + 1) % ITEMS_PER_YIELD == 0 {
            tokio::task::yield_now().await;
        }
        if let Err(ambiguity) = check_item(item) {
            let detail = format!("item {index} of the batch, counted from 0: {ambiguity}");
            return Err(Failure::new(Reason::BadRequest, detail));
        }
    }
    Ok(())
}

fn reject_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    let is_identity = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"identity")
    };
    if headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        return Ok(());
    }
    let detail = "a $batch request must not have a Content-Encoding; its items are read";
    Err(Failure::new(Reason::BadRequest, detail))
}

/// Returns `true` if no other charset than UTF-8 is declared: in UTF-7 the same bytes are other
/// items.
fn is_utf8(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    types.next().is_none_or(declares_only_utf8) && types.next().is_none()
}

fn declares_only_utf8(content_type: &HeaderValue) -> bool {
    let lower = content_type.as_bytes().to_ascii_lowercase();
    let text = String::from_utf8_lossy(&lower);
    let mut charsets = text
        .split(';')
        .skip(1)
        .filter(|parameter| parameter.contains("charset"));
    charsets.all(|parameter| {
        let value = parameter.split_once('=').map_or("", |(_, value)| value);
        value.trim().trim_matches('"') == "utf-8"
    })
}

async fn read_whole(body: &mut CallerBody) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > MAX_BATCH as u64 {
        return Err(too_large());
    }
    let mut held = HeldBatch {
        bytes: Vec::new(),
        permit: body
            .progress()
            .and_then(|progress| progress.take_reserved()),
    };
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        // Trailers are dropped: they would describe bytes that change.
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        if held.bytes.len() + piece.len() > MAX_BATCH {
            return Err(too_large());
        }
        held.bytes.extend_from_slice(&piece);
        let length = held.bytes.len();
        if let Some(permit) = &mut held.permit {
            let grown = permit.grow_to(length, MAX_BUFFERED);
            grown.map_err(too_many_bytes)?;
        }
    }
    held.bytes.shrink_to_fit();
    Ok(Bytes::from_owner(held))
}

fn too_large() -> Failure {
    let detail = format!("a $batch request exceeds {MAX_BATCH} bytes (4 MiB); send several");
    Failure::new(Reason::BodyTooLarge, detail)
}
