//! Bodies: bytes that name their request and contain their own SHA-256, JSON with links, batches.

use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use bytes::Bytes;
use serde_json::Value;

/// Beginning of each token; its number follows.
pub(crate) const TOKEN_PREFIX: &str = "soak-token-";
/// Id and length precede the filler.
const PREFIX: usize = 16;
/// The shortest body that is not empty.
pub(crate) const SHORTEST: usize = PREFIX + SHA256_OUTPUT_LEN;
const BLOCK: usize = 64 * 1024;

/// Bytes that compress badly. Each body takes them from an offset of its own.
static FILLER: LazyLock<Bytes> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(17);
    (0..2 * BLOCK).map(|_| random.u8(..)).collect()
});

/// Generates a body piece by piece.
pub(crate) struct Producer {
    id: u64,
    hash: Context,
    length: usize,
    sent: usize,
}

impl Producer {
    /// Begins a body of `length` bytes: 0, or at least [`SHORTEST`].
    pub(crate) fn new(id: u64, length: usize) -> Self {
        Self {
            id,
            hash: Context::new(&SHA256),
            length,
            sent: 0,
        }
    }

    /// Returns the next piece, of `max` bytes if there are as many; `None` at the end.
    pub(crate) fn next(&mut self, max: usize) -> Option<Bytes> {
        let filled = self.length.saturating_sub(SHA256_OUTPUT_LEN);
        let piece = match self.sent {
            sent if sent >= self.length => return None,
            0 => {
                let mut prefix = self.id.to_be_bytes().to_vec();
                prefix.extend((self.length as u64).to_be_bytes());
                prefix.into()
            }
            sent if sent >= filled => {
                self.sent = self.length;
                return Some(Bytes::copy_from_slice(self.hash.clone().finish().as_ref()));
            }
            sent => {
                let offset = usize::try_from(self.id * 7919 % BLOCK as u64).unwrap_or(0);
                let length = (filled - sent).min(max.max(1)).min(BLOCK);
                FILLER.slice(offset..offset + length)
            }
        };
        self.hash.update(&piece);
        self.sent += piece.len();
        Some(piece)
    }
}

/// Checks a body of [`Producer`] while it arrives.
pub(crate) struct Verifier {
    hash: Context,
    /// The bytes that may be the hash.
    tail: Vec<u8>,
    prefix: Vec<u8>,
    length: usize,
}

impl Verifier {
    pub(crate) fn new() -> Self {
        Self {
            hash: Context::new(&SHA256),
            tail: Vec::new(),
            prefix: Vec::new(),
            length: 0,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let missing = PREFIX.saturating_sub(self.prefix.len()).min(bytes.len());
        self.prefix.extend_from_slice(&bytes[..missing]);
        self.length += bytes.len();
        if bytes.len() >= SHA256_OUTPUT_LEN {
            let (body, tail) = bytes.split_at(bytes.len() - SHA256_OUTPUT_LEN);
            self.hash.update(&self.tail);
            self.hash.update(body);
            self.tail.clear();
            self.tail.extend_from_slice(tail);
        } else {
            self.tail.extend_from_slice(bytes);
            let more = self.tail.len().saturating_sub(SHA256_OUTPUT_LEN);
            self.hash.update(&self.tail[..more]);
            self.tail.drain(..more);
        }
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Compares a complete body with what was sent.
    pub(crate) fn finish(self, id: u64, length: usize) -> Result<(), String> {
        if self.length != length {
            return Err(format!("{} bytes instead of {length}", self.length));
        }
        if length == 0 {
            return Ok(());
        }
        if self.prefix[..8] != id.to_be_bytes() {
            return Err(format!("the body of another request: {:?}", self.prefix));
        }
        if self.hash.finish().as_ref() != self.tail {
            return Err("the hash differs".to_owned());
        }
        Ok(())
    }
}

/// Bytes of a row of a page, about.
const ROW: usize = 95;

/// Returns a page of OData whose links begin with `base`, of about `length` bytes.
pub(crate) fn page(id: u64, base: &str, length: usize) -> String {
    let mut text = format!(r#"{{"@odata.context":"{base}/$metadata#Machines","value":["#);
    let rows = (length / ROW + 1) as u64;
    for row in 0..rows {
        let separator = if row == 0 { "" } else { "," };
        let number = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ row;
        text += &format!(
            r#"{separator}{{"Id":{id},"Row":{row},"Name":"machine \"{number:x}\" ü","Url":"https://example.com/{row}"}}"#
        );
    }
    text + &format!(r#"],"@odata.nextLink":"{base}/Machines?$skip={rows}&id={id}"}}"#)
}

/// Returns a DaaS batch whose items have `token`.
pub(crate) fn batch(id: u64, token: &str, items: usize) -> String {
    let items = (0..items).map(|item| {
        format!(
            r#"{{ "Reference":"{item}","Method":"POST","RelativeUrl":"/Machines/{id}-{item}/$reboot","Headers":[{{"Name":"Authorization","Value":"CwsAuth Bearer={token}"}}],"Body":"{{\"id\":{id},\"é\":{item}}}"}}"#
        )
    });
    let items: Vec<String> = items.collect();
    format!(r#"{{"Items":[{}]}}"#, items.join(", "))
}

/// Checks that a batch arrived as [`batch`] wrote it, with one of the gateway's tokens.
pub(crate) fn check_batch(id: u64, text: &[u8], items: usize) -> Result<(), String> {
    let json: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let value = json["Items"][0]["Headers"][0]["Value"].as_str();
    let token = value.and_then(|value| value.strip_prefix("CwsAuth Bearer="));
    let token = token.ok_or("no token in the first item")?;
    if !token.starts_with(TOKEN_PREFIX) || text != batch(id, token, items).as_bytes() {
        return Err("the batch differs".to_owned());
    }
    Ok(())
}
