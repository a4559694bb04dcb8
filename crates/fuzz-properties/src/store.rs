//! Data from the store of a fleet: replies of scripts, messages, sealed records.

use std::sync::LazyLock;

use citrix_auth_proxy::system::sealing::SealingKey;
use fleet_protocol::reply::{Body, Value};
use fleet_protocol::{Push, Reply};
use secrecy::zeroize::Zeroizing;

static KEY: LazyLock<SealingKey> =
    LazyLock::new(|| SealingKey::derive(&[7; 32], b"salt", b"fuzz").expect("a long secret"));

/// Checks the bytes as a message, as a reply and as a sealed record: none is larger when it is parsed
/// than what arrived, and no record opens that was not sealed.
pub fn store_replies(input: &[u8]) {
    let _ = Push::parse(input);
    let mut rest = input;
    let value = value(&mut rest, 0);
    for reads in [false, true] {
        let _ = Reply::from_plain(reads, value.clone());
    }
    if let Ok(reply) = Reply::from_script(value)
        && let Body::Beat(beat) = reply.body
    {
        assert!(beat.lost.len() + beat.go.len() + beat.gone.len() <= input.len());
    }
    let mut record = input.to_vec();
    assert!(KEY.open(b"who", &mut record).is_err());
    let sealed = KEY.seal(b"", b"who", Zeroizing::new(input.to_vec()));
    let mut sealed = sealed.expect("a short text");
    let opened = KEY
        .open(b"who", &mut sealed.clone())
        .map(|text| text.to_vec());
    assert!(opened.is_ok_and(|text| text == input));
    if let Some(at) = input.first() {
        let at = usize::from(*at) % sealed.len();
        sealed[at] ^= 1;
        assert!(
            KEY.open(b"who", &mut sealed).is_err(),
            "a changed record opens"
        );
    }
}

/// Reads a value: a byte for its kind, and for its length or number.
fn value(rest: &mut &[u8], depth: usize) -> Value {
    let Some((&[kind, size], after)) = rest.split_first_chunk() else {
        return Value::Nil;
    };
    *rest = after;
    match kind % 5 {
        0 => Value::Nil,
        1 => Value::Int(i64::from(size) - 2),
        2 => Value::Int(i64::MIN | i64::from(size) << 55),
        3 => {
            let (bytes, after) = rest.split_at(rest.len().min(usize::from(size)));
            *rest = after;
            Value::Bytes(bytes.to_vec())
        }
        _ if depth > 3 => Value::Nil,
        _ => Value::Array((0..size % 32).map(|_| value(rest, depth + 1)).collect()),
    }
}
