//! A whole body: out of its coding, through the rewriter, into the coding again.

use bytes::Bytes;

use super::json::JsonRewriter;
use super::{LinkCounts, LinkRewriter};
use crate::coding::{Coding, CodingError, Decoder, Encoder};

/// Rewrites the links of a JSON body as it comes from the wire. Push a piece, pull until nothing comes, push the next;
/// at the end `finish`, and pull until nothing comes.
///
/// - What went in can be read by the receiver as soon as it came out, but for what [`JsonRewriter`] holds back.
/// - A pull does work for one slice of 64 KiB decoded at most, and memory is bounded likewise: what a body expands to
///   costs its receiver, who has to take it, and not us.
/// - After an error nothing comes any more, least of all an end of the coding: the receiver sees that it broke off.
pub struct BodyRewriter {
    json: JsonRewriter,
    wrap: Wrap,
}

enum Wrap {
    /// No coding.
    Plain,
    /// The first byte tells the format.
    Coded(Coding),
    Open(Box<Codec>),
    /// All came out, or it broke.
    Closed,
}

struct Codec {
    decoder: Decoder,
    encoder: Encoder,
    ended: bool,
}

impl BodyRewriter {
    /// One for a body in this coding.
    pub fn new(links: LinkRewriter, coding: Option<Coding>) -> Self {
        Self {
            json: JsonRewriter::new(links),
            wrap: coding.map_or(Wrap::Plain, Wrap::Coded),
        }
    }

    /// Takes the next piece. Pieces wait, so push one when nothing comes any more.
    pub fn push(&mut self, piece: Bytes) {
        let Some(first) = piece.first() else { return };
        if let Wrap::Coded(coding) = self.wrap {
            let format = coding.format(*first);
            let (decoder, encoder) = (Decoder::new(format), Encoder::new(format));
            self.wrap = Wrap::Open(Box::new(Codec {
                decoder,
                encoder,
                ended: false,
            }));
        }
        match &mut self.wrap {
            Wrap::Plain => self.json.push(&piece),
            Wrap::Open(codec) => codec.decoder.push(piece),
            Wrap::Coded(_) | Wrap::Closed => {}
        }
    }

    /// Says that the body is over.
    pub fn finish(&mut self) {
        match &mut self.wrap {
            Wrap::Plain => self.json.finish(),
            Wrap::Open(codec) => {
                codec.decoder.finish();
                codec.ended = true;
            }
            Wrap::Coded(_) | Wrap::Closed => {}
        }
    }

    /// What comes out next; `None` until the next piece has gone in or, after [`Self::finish`], for ever.
    ///
    /// # Errors
    /// When a coded body cannot be read to its end. The answer has to be cut off.
    pub fn pull(&mut self) -> Result<Option<Bytes>, CodingError> {
        match &mut self.wrap {
            Wrap::Plain => Ok(self.json.pull()),
            Wrap::Open(codec) => match codec.recode(&mut self.json) {
                Ok(Some(piece)) => Ok(Some(piece)),
                Ok(None) if !codec.ended => Ok(None),
                Ok(None) => self.close().map(Some),
                Err(error) => {
                    self.wrap = Wrap::Closed;
                    Err(error)
                }
            },
            Wrap::Coded(_) | Wrap::Closed => Ok(None),
        }
    }

    /// How many links there were so far.
    pub fn counts(&self) -> LinkCounts {
        self.json.counts()
    }

    fn close(&mut self) -> Result<Bytes, CodingError> {
        let Wrap::Open(mut codec) = std::mem::replace(&mut self.wrap, Wrap::Closed) else {
            return Ok(Bytes::new());
        };
        self.json.finish();
        codec.encode(&mut self.json)?;
        codec.encoder.finish().map_err(CodingError::Invalid)
    }
}

impl Codec {
    /// The next slice that has something to show.
    fn recode(&mut self, json: &mut JsonRewriter) -> Result<Option<Bytes>, CodingError> {
        while let Some(slice) = self.decoder.pull()? {
            json.push(&slice);
            if self.encode(json)? {
                return self.encoder.flush().map(Some).map_err(CodingError::Invalid);
            }
        }
        Ok(None)
    }

    /// Whether there was anything.
    fn encode(&mut self, json: &mut JsonRewriter) -> Result<bool, CodingError> {
        let mut any = false;
        while let Some(piece) = json.pull() {
            self.encoder.write(&piece).map_err(CodingError::Invalid)?;
            any = true;
        }
        Ok(any)
    }
}
