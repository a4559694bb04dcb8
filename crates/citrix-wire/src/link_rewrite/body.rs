//! Decodes a body, rewrites its links and encodes it again.

use bytes::Bytes;

use super::json::JsonRewriter;
use super::{LinkCounts, LinkRewriter};
use crate::coding::{CodingError, ContentCoding, ContentDecoder, ContentEncoder};

/// Rewrites the links of a JSON body in its content coding. Push a piece, pull until `None`, push
/// the next; at the end, finish and pull until `None`.
///
/// - Output is flushed: the receiver can decode everything pushed so far, except what
///   [`JsonRewriter`] holds back.
/// - A pull decodes at most one slice of 64 KiB, which bounds memory and time however far a body
///   expands.
/// - After an error no output follows, in particular no end of the coding: the receiver sees a
///   truncated body.
pub struct BodyRewriter {
    json: JsonRewriter,
    state: CodecState,
}

enum CodecState {
    /// No content coding.
    Identity,
    /// Before the first byte, which determines the format.
    Pending(ContentCoding),
    Open(Box<Codec>),
    /// After the end or an error.
    Closed,
}

impl CodecState {
    /// Returns the state for a body that begins with this byte. One that is not in its `gzip`
    /// coding, but plain, stays plain: clients that cope with it directly still do. One whose decoder would
    /// take more than 4 MiB is not decoded.
    fn for_body(coding: ContentCoding, first: u8) -> Self {
        const GZIP_ID1: u8 = 0x1f;
        // Windows of 8 and 16 MiB (RFC 7932 section 9.1).
        let has_large_window = matches!(first & 0x0f, 0b1101 | 0b1111);
        match coding {
            ContentCoding::Gzip if first != GZIP_ID1 => return Self::Identity,
            ContentCoding::Brotli if has_large_window => return Self::Identity,
            _ => {}
        }
        let format = coding.format(first);
        Self::Open(Box::new(Codec {
            decoder: ContentDecoder::new(format),
            encoder: ContentEncoder::new(format),
            ended: false,
        }))
    }
}

struct Codec {
    decoder: ContentDecoder,
    encoder: ContentEncoder,
    ended: bool,
}

impl BodyRewriter {
    /// Creates a rewriter for one body in this coding.
    pub fn new(links: LinkRewriter, coding: Option<ContentCoding>) -> Self {
        Self {
            json: JsonRewriter::new(links),
            state: coding.map_or(CodecState::Identity, CodecState::Pending),
        }
    }

    /// Appends a piece. Pieces are buffered, so pull until `None` first.
    pub fn push(&mut self, piece: Bytes) {
        let Some(first) = piece.first() else { return };
        if let CodecState::Pending(coding) = self.state {
            self.state = CodecState::for_body(coding, *first);
        }
        match &mut self.state {
            CodecState::Identity => self.json.push(&piece),
            CodecState::Open(codec) => codec.decoder.push(piece),
            CodecState::Pending(_) | CodecState::Closed => {}
        }
    }

    /// Marks the end of the body.
    pub fn finish(&mut self) {
        match &mut self.state {
            CodecState::Identity => self.json.finish(),
            CodecState::Open(codec) => {
                codec.decoder.finish();
                codec.ended = true;
            }
            CodecState::Pending(_) | CodecState::Closed => {}
        }
    }

    /// Returns the next piece of output; `None` until the next push or, after [`Self::finish`], at
    /// the end.
    ///
    /// # Errors
    /// If an encoded body cannot be decoded to its end. The response must be aborted.
    pub fn pull(&mut self) -> Result<Option<Bytes>, CodingError> {
        match &mut self.state {
            CodecState::Identity => Ok(self.json.pull()),
            CodecState::Open(codec) => match codec.recode(&mut self.json) {
                Ok(Some(piece)) => Ok(Some(piece)),
                Ok(None) if !codec.ended => Ok(None),
                Ok(None) => self.close().map(Some),
                Err(error) => {
                    self.state = CodecState::Closed;
                    Err(error)
                }
            },
            CodecState::Pending(_) | CodecState::Closed => Ok(None),
        }
    }

    /// Returns `true` if the body is decoded and encoded, which takes several times as long.
    pub fn is_coded(&self) -> bool {
        !matches!(self.state, CodecState::Identity)
    }

    /// Returns the number of links so far.
    pub fn counts(&self) -> LinkCounts {
        self.json.counts()
    }

    fn close(&mut self) -> Result<Bytes, CodingError> {
        let CodecState::Open(mut codec) = std::mem::replace(&mut self.state, CodecState::Closed)
        else {
            return Ok(Bytes::new());
        };
        self.json.finish();
        codec.encode(&mut self.json)?;
        codec.encoder.finish().map_err(CodingError::Invalid)
    }
}

impl Codec {
    /// Returns the output for the next slice that yields any.
    fn recode(&mut self, json: &mut JsonRewriter) -> Result<Option<Bytes>, CodingError> {
        while let Some(slice) = self.decoder.pull()? {
            json.push(&slice);
            if self.encode(json)? {
                return self.encoder.flush().map(Some).map_err(CodingError::Invalid);
            }
        }
        Ok(None)
    }

    /// Encodes rewritten JSON; returns `true` if there was any.
    fn encode(&mut self, json: &mut JsonRewriter) -> Result<bool, CodingError> {
        let mut any = false;
        while let Some(piece) = json.pull() {
            self.encoder.write(&piece).map_err(CodingError::Invalid)?;
            any = true;
        }
        Ok(any)
    }
}
