//! The part of a request body that is buffered before the upstream requests it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::{BodyFault, CallerBody, CallerBodySource};
use crate::error::Failure;
use crate::inbound::stream_body::STREAM_WINDOW;
use crate::limit::owner::{Exceeded, Owner, Resource};

/// Bytes of a body that are at hand before its request acquires a queue permit. A longer body is
/// on its way by then.
const READ_AHEAD: usize = 64 * 1024;
/// Bytes that may be buffered of all request bodies, batches included, over all workers.
pub const MAX_BUFFERED: usize = 64 * 1024 * 1024;

impl CallerBody {
    /// Reserves the bytes that may be buffered: those read ahead or kept for a replay of up to
    /// `replay_limit` bytes, and those in the window of an HTTP/2 stream.
    ///
    /// # Errors
    /// `overloaded` if the bodies in progress use too much.
    pub fn reserve(
        &self,
        owner: &Arc<Owner>,
        all: &Arc<Resource>,
        replay_limit: usize,
    ) -> Result<(), Failure> {
        let Some(streamed) = &self.0 else {
            return Ok(());
        };
        let window = match streamed.source {
            CallerBodySource::Http2(_) => STREAM_WINDOW as usize,
            CallerBodySource::Http1(..) | CallerBodySource::Buffered(_) => 0,
        };
        let limit = replay_limit.max(READ_AHEAD) + window;
        let length = streamed.size_hint().upper();
        let bytes = length.map_or(limit, |length| {
            usize::try_from(length).map_or(limit, |length| length.min(limit))
        });
        let reserved = all.acquire(owner, bytes, MAX_BUFFERED);
        streamed.progress.reserve(reserved.map_err(too_many_bytes)?);
        Ok(())
    }

    /// Polls the first frame, which sends `100 Continue` if the caller expects it.
    pub fn poll_first(&mut self, cx: &mut Context<'_>) {
        if let Some(streamed) = &mut self.0 {
            if streamed.ahead.is_empty()
                && let Poll::Ready(first) = streamed.poll_source(cx)
            {
                streamed.ahead.push_back(first);
            }
            streamed.pause();
        }
    }

    /// Reads the body until it is complete or [`READ_AHEAD`] bytes are at hand.
    ///
    /// # Errors
    /// The fault of the body.
    pub async fn read_ahead(&mut self) -> Result<(), BodyFault> {
        let Some(streamed) = &mut self.0 else {
            return Ok(());
        };
        // Copied, so that small frames do not keep the buffers they arrived in.
        let mut data = Vec::new();
        let mut last = None;
        while data.len() < READ_AHEAD && !streamed.source_ended() {
            match poll_fn(|cx| streamed.poll_source(cx)).await {
                Some(Ok(frame)) => match frame.data_ref() {
                    Some(piece) => data.extend_from_slice(piece),
                    None => last = Some(Some(Ok(frame))),
                },
                Some(Err(fault)) => return Err(fault),
                None => last = Some(None),
            }
            if last.is_some() {
                break;
            }
        }
        streamed.pause();
        let data = Bytes::from(data);
        streamed.progress.replay_buffer.borrow_mut().replace(&data);
        if !data.is_empty() {
            streamed.ahead.push_back(Some(Ok(Frame::data(data))));
        }
        streamed.ahead.extend(last);
        Ok(())
    }
}

/// Returns the failure of a request whose body may not be buffered.
pub fn too_many_bytes(exceeded: Exceeded) -> Failure {
    let in_use = "bytes of request bodies are buffered";
    Failure::overloaded(exceeded.detail(MAX_BUFFERED, in_use, "64 MiB"))
}
