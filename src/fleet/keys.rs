//! Keys derived from `fleet.key`: the store learns neither names nor contents.
//!
//! Names are keyed hashes. Records are sealed and bound to the fleet, their purpose and their name,
//! so that none can take the place of another. `fleet.key_previous` names and opens what replicas that
//! still have it wrote, and seals nothing.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use fleet_protocol::Name;
use fleet_protocol::command::KeyFingerprint;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::system::sealing::{SealingKey, ShortSecret, TAG_LEN, Undecipherable, derive_key};

/// Version of the format of names and records.
const SALT: &[u8] = b"CAPFLEET1";

/// The kinds of names. Names of different kinds differ although they name the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A limit of a customer: a queue or a rate.
    Limit,
    /// A caller, or the host of an anonymous client.
    Caller,
    /// A place that a gate closes: customer, route, first path segment.
    Gate,
    /// A credential: customer, client id, token URL.
    Identity,
    /// A client secret.
    Secret,
    /// A customer.
    Customer,
    /// A replica's description.
    Member,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A token, of an identity.
    Token,
    /// The verdict on a secret, of an identity.
    Verdict,
    /// The site id, of a customer.
    Site,
    /// The redirects to other regions, of a customer.
    Regions,
    /// The description of a replica.
    Member,
}

impl NameKind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Limit => b"limit",
            Self::Caller => b"caller",
            Self::Gate => b"gate",
            Self::Identity => b"identity",
            Self::Secret => b"secret",
            Self::Customer => b"customer",
            Self::Member => b"member",
        }
    }
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Token => b"token",
            Self::Verdict => b"verdict",
            Self::Site => b"site",
            Self::Regions => b"regions",
            Self::Member => b"member",
        }
    }

    /// Tokens have a key of their own.
    const fn is_token(self) -> bool {
        matches!(self, Self::Token)
    }
}

/// The keys of a fleet.
pub struct FleetKeys {
    fleet: String,
    names: hmac::Key,
    previous_names: Option<hmac::Key>,
    fingerprint: KeyFingerprint,
    signing: Zeroizing<[u8; 32]>,
    current: RecordKeys,
    previous: Option<RecordKeys>,
}

impl fmt::Debug for FleetKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FleetKeys").field(&self.fingerprint).finish()
    }
}

struct RecordKeys {
    tokens: SealingKey,
    facts: SealingKey,
}

impl RecordKeys {
    fn derive(secret: &SecretString) -> Result<Self, ShortSecret> {
        let key = |purpose| SealingKey::derive(bytes_of(secret), SALT, purpose);
        Ok(Self {
            tokens: key(b"tokens")?,
            facts: key(b"facts")?,
        })
    }

    fn of(&self, purpose: Purpose) -> &SealingKey {
        if purpose.is_token() {
            &self.tokens
        } else {
            &self.facts
        }
    }
}

fn bytes_of(secret: &SecretString) -> &[u8] {
    secret.expose_secret().as_bytes()
}

impl FleetKeys {
    /// Derives the keys of a fleet from `fleet.key` and `fleet.key_previous`.
    ///
    /// # Errors
    /// If one of them is too short.
    pub fn new(
        fleet: &str,
        key: &SecretString,
        previous: Option<&SecretString>,
    ) -> Result<Self, ShortSecret> {
        let derive = |purpose| derive_key(bytes_of(key), SALT, purpose);
        let names = |secret| {
            let key = derive_key(bytes_of(secret), SALT, b"names")?;
            Ok(hmac::Key::new(HMAC_SHA256, &*key))
        };
        let [a, b, c, d, ..] = *derive(b"fingerprint")?;
        Ok(Self {
            fleet: fleet.to_owned(),
            names: names(key)?,
            previous_names: previous.map(names).transpose()?,
            fingerprint: KeyFingerprint(u32::from_be_bytes([a, b, c, d])),
            signing: derive(b"gateway tokens")?,
            current: RecordKeys::derive(key)?,
            previous: previous.map(RecordKeys::derive).transpose()?,
        })
    }

    /// Returns the name of something in the store. No two lists of parts have the same name.
    pub fn name(&self, kind: NameKind, parts: &[&[u8]]) -> Name {
        self.name_with(&self.names, kind, parts)
    }

    /// Returns the name that replicas with the previous key use.
    pub fn previous_name(&self, kind: NameKind, parts: &[&[u8]]) -> Option<Name> {
        let names = self.previous_names.as_ref()?;
        Some(self.name_with(names, kind, parts))
    }

    fn name_with(&self, names: &hmac::Key, kind: NameKind, parts: &[&[u8]]) -> Name {
        let mut context = hmac::Context::with_key(names);
        for part in [kind.label(), self.fleet.as_bytes()].iter().chain(parts) {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let mut name = [0; 16];
        name.iter_mut()
            .zip(tag.as_ref())
            .for_each(|(to, from)| *to = *from);
        Name(name)
    }

    /// Returns a part of a hash of `fleet.key`, by which replicas with another key are detected.
    pub fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// Returns the key that signs gateway tokens where `login.signing_key` is absent.
    pub fn signing_key(&self) -> &[u8; 32] {
        &self.signing
    }

    /// Seals a record. `text` should have [`TAG_LEN`] bytes of spare capacity.
    ///
    /// # Errors
    /// If the text is too long.
    pub fn seal(
        &self,
        purpose: Purpose,
        name: Name,
        text: Zeroizing<Vec<u8>>,
    ) -> Result<Vec<u8>, Undecipherable> {
        let key = self.current.of(purpose);
        key.seal(&[], &self.associated(purpose, name), text)
    }

    /// Opens a record with the current key or the previous one.
    ///
    /// # Errors
    /// If it was not sealed for this purpose and name by a replica with one of the keys.
    pub fn open(
        &self,
        purpose: Purpose,
        name: Name,
        record: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Undecipherable> {
        let associated = self.associated(purpose, name);
        let keys = [Some(&self.current), self.previous.as_ref()];
        for keys in keys.into_iter().flatten() {
            // A failure leaves the buffer overwritten.
            let mut record = Zeroizing::new(record.to_vec());
            if let Ok(text) = keys.of(purpose).open(&associated, &mut record) {
                return Ok(Zeroizing::new(text.to_vec()));
            }
        }
        Err(Undecipherable)
    }

    fn associated(&self, purpose: Purpose, name: Name) -> Vec<u8> {
        [purpose.label(), b"/", self.fleet.as_bytes(), b"/", &name.0].concat()
    }
}

/// Returns an empty buffer for a record of up to `length` bytes that sealing does not reallocate.
pub fn record_buffer(length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(length + TAG_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSES: [Purpose; 5] = [
        Purpose::Token,
        Purpose::Verdict,
        Purpose::Site,
        Purpose::Regions,
        Purpose::Member,
    ];

    fn secret(byte: char) -> SecretString {
        byte.to_string().repeat(32).into()
    }

    fn keys(fleet: &str, key: char, previous: Option<char>) -> FleetKeys {
        FleetKeys::new(fleet, &secret(key), previous.map(secret).as_ref()).unwrap()
    }

    fn text() -> Zeroizing<Vec<u8>> {
        let mut text = record_buffer(6);
        text.extend_from_slice(b"record");
        text
    }

    #[test]
    fn record_opens_only_for_its_purpose_name_and_fleet() {
        let keys_of_fleet = keys("default", 'k', None);
        let name = Name([1; 16]);
        for sealed_for in PURPOSES {
            let record = keys_of_fleet.seal(sealed_for, name, text()).unwrap();
            for purpose in PURPOSES {
                let opened = keys_of_fleet.open(purpose, name, &record);
                assert_eq!(opened.is_ok(), purpose == sealed_for, "{purpose:?}");
            }
            let opened = keys_of_fleet.open(sealed_for, name, &record).unwrap();
            assert_eq!(opened, text());
            let other = Name([2; 16]);
            assert!(keys_of_fleet.open(sealed_for, other, &record).is_err());
            assert!(
                keys("other", 'k', None)
                    .open(sealed_for, name, &record)
                    .is_err()
            );
        }
    }

    #[test]
    fn previous_key_opens_and_does_not_seal() {
        let name = Name([1; 16]);
        let old = keys("default", 'o', None);
        let new = keys("default", 'n', Some('o'));
        let record = old.seal(Purpose::Token, name, text()).unwrap();
        assert_eq!(new.open(Purpose::Token, name, &record), Ok(text()));
        let record = new.seal(Purpose::Token, name, text()).unwrap();
        assert_eq!(old.open(Purpose::Token, name, &record), Err(Undecipherable));
    }

    #[test]
    fn names_differ_by_key_fleet_kind_and_parts() {
        let keys_of_fleet = keys("default", 'k', None);
        let names = [
            keys_of_fleet.name(NameKind::Limit, &[b"acme", b"x"]),
            keys_of_fleet.name(NameKind::Limit, &[b"acm", b"ex"]),
            keys_of_fleet.name(NameKind::Limit, &[b"acmex"]),
            keys_of_fleet.name(NameKind::Gate, &[b"acme", b"x"]),
            keys("other", 'k', None).name(NameKind::Limit, &[b"acme", b"x"]),
            keys("default", 'l', None).name(NameKind::Limit, &[b"acme", b"x"]),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(names[..index].iter().all(|other| other != name), "{index}");
        }
        let parts: [&[u8]; 2] = [b"acme", b"x"];
        let same = keys("default", 'k', Some('l'));
        assert_eq!(same.name(NameKind::Limit, &parts), names[0]);
        assert_eq!(same.previous_name(NameKind::Limit, &parts), Some(names[5]));
        assert_eq!(keys_of_fleet.previous_name(NameKind::Limit, &parts), None);
    }

    #[test]
    fn fingerprint_and_signing_key_depend_on_the_key_alone() {
        let [one, same, other] = [
            keys("default", 'k', None),
            keys("other", 'k', Some('p')),
            keys("default", 'l', None),
        ];
        assert_eq!(one.fingerprint(), same.fingerprint());
        assert_ne!(one.fingerprint(), other.fingerprint());
        assert_eq!(one.signing_key(), same.signing_key());
        assert_ne!(one.signing_key(), other.signing_key());
    }

    #[test]
    fn debug_output_contains_no_key() {
        let keys = keys("default", 'k', None);
        let text = format!("{keys:?}");
        assert!(!text.contains("kkkk"), "{text}");
        assert!(
            !text.contains(&format!("{:?}", keys.signing_key())),
            "{text}"
        );
    }
}
