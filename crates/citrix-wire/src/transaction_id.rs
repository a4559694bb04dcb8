//! Identifiers of an exchange: the gateway's request id and Citrix's transaction id (contract §3).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::citrix::headers::CITRIX_TRANSACTION_ID;

/// The gateway's request id, in every response and in the access log.
pub const X_PROXY_REQUEST_ID: HeaderName = HeaderName::from_static("x-proxy-request-id");

/// Maximum length of a forwarded transaction id; Citrix's own have 36 characters.
const MAX_LENGTH: usize = 128;
/// Length of a UUID with hyphens.
const UUID_LEN: usize = 36;

/// Index of the four bytes that name a replica: the last eight digits.
const REPLICA: usize = 12;

/// Generates ids: random UUIDs, whose last eight digits name the replica in a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdGenerator {
    replica: Option<u32>,
}

impl IdGenerator {
    /// Returns the generator of one replica.
    pub const fn of_replica(replica: u32) -> Self {
        Self {
            replica: Some(replica),
        }
    }

    /// Returns an id as a header value.
    pub fn generate(self) -> HeaderValue {
        let mut id = Uuid::new_v4();
        if let Some(replica) = self.replica {
            let mut bytes = id.into_bytes();
            bytes[REPLICA..].copy_from_slice(&replica.to_be_bytes());
            id = Uuid::from_bytes(bytes);
        }
        let mut text = [0; UUID_LEN];
        id.hyphenated().encode_lower(&mut text);
        // Counted from the start, unlike a copy, whose first clone takes another allocation. A
        // hyphenated UUID is always a valid header value.
        HeaderValue::from_maybe_shared(Bytes::from_owner(text))
            .unwrap_or_else(|_| HeaderValue::from_static("00000000-0000-4000-8000-000000000000"))
    }
}

/// Returns a random UUID as a header value.
pub fn generate() -> HeaderValue {
    IdGenerator::default().generate()
}

/// Returns the replica that an id names if a replica generated it. Any other random UUID names one
/// as well, which then exists in no fleet.
pub fn replica_of(id: &str) -> Option<u32> {
    let id = Uuid::try_parse(id).ok().filter(|_| id.len() == UUID_LEN)?;
    let replica = <[u8; 4]>::try_from(&id.as_bytes()[REPLICA..]).ok()?;
    (id.get_version_num() == 4).then(|| u32::from_be_bytes(replica))
}

/// Returns the caller's `Citrix-TransactionId` if it is one field of 1 to 128 visible ASCII
/// characters.
pub fn from_caller(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(CITRIX_TRANSACTION_ID).iter();
    let value = values.next()?;
    let usable = values.next().is_none()
        && (1..=MAX_LENGTH).contains(&value.len())
        && value.as_bytes().iter().all(u8::is_ascii_graphic);
    usable.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_distinct_uuids() {
        let (one, two) = (generate(), generate());
        assert_ne!(one, two);
        assert!(Uuid::parse_str(one.to_str().unwrap()).is_ok());
    }

    #[test]
    fn id_of_a_replica_is_a_random_uuid_that_names_it() {
        let ids = IdGenerator::of_replica(0x0012_abff);
        let (one, two) = (ids.generate(), ids.generate());
        assert_ne!(one, two);
        for id in [one, two] {
            let id = id.to_str().unwrap();
            assert!(id.ends_with("0012abff"), "{id}");
            assert_eq!(replica_of(id), Some(0x0012_abff));
            let id = Uuid::parse_str(id).unwrap();
            assert_eq!(id.get_version_num(), 4);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        }
        for other in [
            "",
            "abc-1",
            "0012abff",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "6ba7b8109dad41d180b400c04fd430c8",
        ] {
            assert_eq!(replica_of(other), None, "{other}");
        }
    }

    #[test]
    fn repeated_invisible_or_long_caller_id_is_ignored() {
        let long = "x".repeat(MAX_LENGTH + 1);
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["abc-1"], Some("abc-1")),
            (&["one", "two"], None),
            (&[""], None),
            (&["with space"], None),
            (&[&long], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(CITRIX_TRANSACTION_ID, value.parse().unwrap());
            }
            assert_eq!(
                from_caller(&headers).as_ref().map(|v| v.to_str().unwrap()),
                *expected
            );
        }
    }
}
