//! The body of a `$batch` request, in which tokens stand as well: it is read whole, so that ours take their places
//! (contract 5). It is held until Citrix has answered, for each attempt may have another token.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use tokio::time::Instant;

use super::UpstreamRequest;
use crate::error::{Failure, Reason};
use crate::exchange::Exchange;
use crate::inbound::body::CallerBody;
use crate::limit::permits::{Permit, PermitCounter};
use crate::proxy::admit::Policy;
use crate::state::Shared;
use citrix_wire::citrix::batch::Batch;
use citrix_wire::link_rewrite::strip_content_metadata;

/// Bytes of a batch at most. Items have some hundred.
const MAX_BATCH: usize = 4 * 1024 * 1024;
/// Bytes of all batches that are held, over all workers.
const MAX_HELD: usize = 64 * 1024 * 1024;
/// How soon a caller should come back when that much is held.
const COME_BACK: Duration = Duration::from_secs(1);

/// Bytes and the room they take up, which is given back when nobody holds a part of them any more.
struct Held {
    bytes: Vec<u8>,
    room: Permit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the body of a batch, whose items are judged like requests of their own.
///
/// # Errors
/// When it is larger than a batch may be, encoded, or none; when it does not come; when too much is held already; when
/// an item is outside of the caller's rules.
pub(in crate::proxy) async fn read_batch(
    request: &mut UpstreamRequest<'_>,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    let read = read(request, shared, exchange).await;
    if let Some(policy) = request.policy.take().filter(Policy::awaits_items) {
        match &read {
            Ok(()) => exchange.audit_admission(policy.customer()),
            Err(failure) => exchange.audit_refusal(failure),
        }
    }
    read
}

async fn read(
    request: &mut UpstreamRequest<'_>,
    shared: &Shared,
    exchange: &mut Exchange,
) -> Result<(), Failure> {
    refuse_encoded(&request.headers)?;
    if let Some(policy) = &request.policy
        && !is_in_utf8(&request.headers)
    {
        policy.refuse_unreadable(exchange)?;
    }
    // All of it will be at hand.
    request.body.keep(0);
    let began = Instant::now();
    let read = read_whole(&mut request.body, &shared.batches).await;
    // The caller's time, not ours.
    exchange.waited += began.elapsed();
    let batch =
        Batch::read(&read?).map_err(|error| Failure::new(Reason::BadRequest, error.to_string()))?;
    if let Some(policy) = &request.policy {
        policy.evaluate_items(batch.items(), exchange).await?;
    }
    strip_content_metadata(&mut request.headers);
    request.headers.remove(TRANSFER_ENCODING);
    request.body = CallerBody::to_fill();
    request.batch = Some(Box::new(batch.into_template()));
    Ok(())
}

fn refuse_encoded(headers: &HeaderMap) -> Result<(), Failure> {
    let plain = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"identity")
    };
    if headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let detail =
        "a $batch request is read for the tokens in its items; send it without Content-Encoding";
    Err(Failure::new(Reason::BadRequest, detail))
}

/// Whether no other charset is claimed: in UTF-7, letters stand for other letters, and the items would be others.
fn is_in_utf8(headers: &HeaderMap) -> bool {
    let mut types = headers
        .get_all(CONTENT_TYPE)
        .iter()
        .map(|value| value.as_bytes().to_ascii_lowercase());
    let plain = types.next().is_none_or(|text| {
        let text = String::from_utf8_lossy(&text);
        let mut charsets = text
            .split(';')
            .skip(1)
            .filter(|parameter| parameter.contains("charset"));
        charsets.all(|parameter| {
            let value = parameter.split_once('=').map_or("", |(_, value)| value);
            value.trim().trim_matches('"') == "utf-8"
        })
    });
    plain && types.next().is_none()
}

async fn read_whole(body: &mut CallerBody, held: &Arc<PermitCounter>) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > MAX_BATCH as u64 {
        return Err(too_large());
    }
    let room = held.acquire(MAX_HELD).ok_or_else(crowded)?;
    let mut held = Held {
        bytes: Vec::new(),
        room,
    };
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        // Trailers would be about bytes that change.
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        if held.bytes.len() + piece.len() > MAX_BATCH {
            return Err(too_large());
        }
        if !held.room.grow(piece.len(), MAX_HELD) {
            return Err(crowded());
        }
        held.bytes.extend_from_slice(&piece);
    }
    held.bytes.shrink_to_fit();
    Ok(Bytes::from_owner(held))
}

fn too_large() -> Failure {
    let detail =
        format!("a $batch request may have {MAX_BATCH} bytes at most (4 MiB); send several");
    Failure::new(Reason::BodyTooLarge, detail)
}

fn crowded() -> Failure {
    let detail = format!("{MAX_HELD} bytes of $batch requests are being answered already (64 MiB)");
    Failure::new(Reason::Overloaded, detail).retry_after(COME_BACK)
}
