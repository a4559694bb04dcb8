//! Header fields in a list.
//!
//! A request to an upstream has about ten fields. They are written in order and hardly looked up, so
//! that a hash table would cost more than it saves.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header fields in the order in which they are sent.
#[derive(Clone, Debug, Default)]
pub struct FieldList(Vec<(HeaderName, HeaderValue)>);

impl FieldList {
    /// Returns an empty list with space for `capacity` fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Moves the fields of `headers` that `is_kept` selects to the end of the list, and drops the
    /// others.
    pub fn take(&mut self, headers: &mut HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) {
        let mut is_skipped = false;
        for (name, value) in headers.drain() {
            // Only the first field of a name has it.
            let repeated = || self.0.last().map(|(name, _)| name.clone());
            let name = match name {
                Some(name) => {
                    is_skipped = !is_kept(&name);
                    Some(name)
                }
                None => repeated(),
            };
            if let Some(name) = name.filter(|_| !is_skipped) {
                self.0.push((name, value));
            }
        }
    }

    /// Returns the fields as a map.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.0.len());
        for (name, value) in self.iter() {
            map.append(name, value.clone());
        }
        map
    }

    /// Returns the fields.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Returns `true` if there is a field with this name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Adds a field.
    pub fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Replaces the field of a name that occurs at most once.
    pub fn set_only(&mut self, name: HeaderName, value: HeaderValue) {
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            None => self.0.push((name, value)),
            Some((_, replaced)) => *replaced = value,
        }
    }

    /// Replaces the fields of a name by one.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        match self.0.iter().position(|(other, _)| *other == name) {
            None => self.0.push((name, value)),
            Some(first) => {
                self.0[first].1 = value;
                let is_repeated = self.0[first + 1..].iter().any(|(other, _)| *other == name);
                if is_repeated {
                    let mut index = 0;
                    self.0.retain(|(other, _)| {
                        index += 1;
                        index <= first + 1 || *other != name
                    });
                }
            }
        }
    }

    /// Removes the fields of a name.
    pub fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|(other, _)| other != name);
    }
}

impl From<HeaderMap> for FieldList {
    fn from(mut headers: HeaderMap) -> Self {
        let mut list = Self::with_capacity(headers.len());
        list.take(&mut headers, |_| true);
        list
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["host", "accept", "x-one", "x-two"];

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, u16),
        Set(usize, u16),
        Remove(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let name = 0..NAMES.len();
        prop_oneof![
            (name.clone(), any::<u16>()).prop_map(|(name, value)| Step::Push(name, value)),
            (name.clone(), any::<u16>()).prop_map(|(name, value)| Step::Set(name, value)),
            name.prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// The fields of each name, in order, are those of a map.
        #[test]
        fn list_has_the_fields_of_a_map(steps in prop::collection::vec(any_step(), 0..20)) {
            let (mut list, mut map) = (FieldList::default(), HeaderMap::new());
            for step in steps {
                match step {
                    Step::Push(name, value) => {
                        list.push(HeaderName::from_static(NAMES[name]), value.into());
                        map.append(NAMES[name], value.into());
                    }
                    Step::Set(name, value) => {
                        list.set(HeaderName::from_static(NAMES[name]), value.into());
                        map.insert(NAMES[name], value.into());
                    }
                    Step::Remove(name) => {
                        list.remove(&HeaderName::from_static(NAMES[name]));
                        map.remove(NAMES[name]);
                    }
                }
            }
            let of = |list: &FieldList, name: &HeaderName| {
                let fields = list.iter().filter(|(other, _)| *other == name);
                fields.map(|(_, value)| value.clone()).collect::<Vec<_>>()
            };
            for name in NAMES.map(HeaderName::from_static) {
                let mapped = map.get_all(&name).iter().cloned().collect::<Vec<_>>();
                prop_assert_eq!(of(&list, &name), mapped);
                prop_assert_eq!(list.contains(&name), map.contains_key(&name));
            }
            prop_assert_eq!(&FieldList::from(map.clone()).to_map(), &map);
            let mut taken = FieldList::default();
            taken.take(&mut map, |name| name != "host");
            prop_assert!(map.is_empty());
            for name in NAMES.map(HeaderName::from_static) {
                let kept = if name == "host" { Vec::new() } else { of(&list, &name) };
                prop_assert_eq!(of(&taken, &name), kept);
            }
        }
    }
}
