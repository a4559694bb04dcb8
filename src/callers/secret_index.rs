//! Look-up of a caller by the hash of its secret.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use crate::config::Caller;
use crate::system::digest::Sha256;

/// The hashes of all secrets, in buckets of equal size.
///
/// A keyed hash of the presented hash selects the bucket, all of whose entries are compared. The time
/// of a look-up therefore depends on the bucket alone, not on a match, and a client that knows a hash
/// cannot derive its bucket: the key is random and differs in each worker and after each reload.
#[derive(Debug)]
pub(super) struct SecretIndex {
    key: RandomState,
    entries: Vec<Entry>,
    buckets: usize,
    /// Entries of a bucket.
    size: usize,
}

/// A secret, or an unused entry: a caller with [`Sha256::ZERO`].
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) expected: Sha256,
    /// The index of the caller.
    pub(super) caller: usize,
    /// The index in [`Caller::secrets`].
    pub(super) secret: usize,
}

impl SecretIndex {
    pub(super) fn new(callers: &[Caller]) -> Self {
        let secrets: Vec<Entry> = callers
            .iter()
            .enumerate()
            .flat_map(|(caller, config)| {
                let entry = move |(secret, hash): (usize, &Sha256)| Entry {
                    expected: *hash,
                    caller,
                    secret,
                };
                config.secrets.iter().enumerate().map(entry)
            })
            .collect();
        let key = RandomState::new();
        let buckets = secrets.len().next_power_of_two();
        let mut filled = vec![Vec::new(); buckets];
        for entry in &secrets {
            filled[bucket(&key, &entry.expected, buckets)].push(entry.clone());
        }
        let size = filled.iter().map(Vec::len).max().unwrap_or(0);
        // The caller of an unused entry is evaluated like that of a secret.
        let mut unused = secrets.iter().cycle().map(|entry| Entry {
            expected: Sha256::ZERO,
            ..entry.clone()
        });
        for bucket in &mut filled {
            let missing = size - bucket.len();
            bucket.extend(unused.by_ref().take(missing));
        }
        Self {
            key,
            entries: filled.concat(),
            buckets,
            size,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entries to compare with `hash`, the same number for each hash.
    pub(super) fn bucket(&self, hash: &Sha256) -> &[Entry] {
        let first = bucket(&self.key, hash, self.buckets) * self.size;
        self.entries.get(first..first + self.size).unwrap_or(&[])
    }
}

/// Returns the number of the bucket of `hash`, of a power of two of them.
fn bucket(key: &RandomState, hash: &Sha256, buckets: usize) -> usize {
    let mask = buckets as u64 - 1;
    usize::try_from(key.hash_one(hash.as_bytes()) & mask).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::tests::caller;

    fn index(count: usize) -> SecretIndex {
        let name = |number: usize| caller("a", Some(&number.to_string()), &[], None);
        SecretIndex::new(&(0..count).map(name).collect::<Vec<_>>())
    }

    fn found(index: &SecretIndex, secret: &str) -> Vec<(usize, usize)> {
        let hash = Sha256::of(secret.as_bytes());
        let matches = index
            .bucket(&hash)
            .iter()
            .filter(|e| e.expected.matches(&hash));
        matches.map(|entry| (entry.caller, entry.secret)).collect()
    }

    #[test]
    fn each_secret_is_found_once_and_others_are_not() {
        for count in [1, 2, 3, 10, 1000] {
            let index = index(count);
            for number in 0..count {
                assert_eq!(found(&index, &number.to_string()), [(number, 0)]);
            }
            assert_eq!(found(&index, "x"), []);
            assert_eq!(found(&index, ""), []);
        }
        assert!(index(0).is_empty());
        assert_eq!(found(&index(0), "0"), []);
    }

    #[test]
    fn each_look_up_compares_the_same_small_number_of_secrets() {
        let index = index(1000);
        // The largest of 1,024 buckets has 6 of 1,000 secrets on average.
        assert!((2..=16).contains(&index.size), "{}", index.size);
        for number in 0..2000 {
            let hash = Sha256::of(format!("other {number}").as_bytes());
            assert_eq!(index.bucket(&hash).len(), index.size);
        }
    }
}
