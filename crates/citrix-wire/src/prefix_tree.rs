//! Path prefixes and what they stand for: the longest one of whole segments wins.
//!
//! Looking a path up costs a binary search for each of its first segments, however many prefixes there are.

use std::cmp::Ordering;

use crate::path::first_segment;

/// Prefixes by their segments.
#[derive(Debug)]
pub struct PrefixTree<T> {
    value: Option<T>,
    /// Sorted by [`order`].
    branches: Vec<Branch<T>>,
}

#[derive(Debug)]
struct Branch<T> {
    segment: Box<str>,
    any_case: bool,
    below: PrefixTree<T>,
}

impl<T> Default for PrefixTree<T> {
    fn default() -> Self {
        Self {
            value: None,
            branches: Vec::new(),
        }
    }
}

impl<T> PrefixTree<T> {
    /// Adds a prefix: empty, or segments with a slash before each. `any_case`: whether ASCII letters of a path may
    /// be of either case.
    pub fn insert(&mut self, prefix: &str, any_case: bool, value: T) {
        let Some((segment, rest)) = first_segment(prefix) else {
            self.value = Some(value);
            return;
        };
        let start = self.start(segment);
        let twins = self.twins(segment);
        let same = |branch: &Branch<T>| branch.any_case == any_case && branch.covers(segment);
        let known = twins.iter().position(same);
        if known.is_none() {
            let branch = Branch {
                segment: segment.into(),
                any_case,
                below: Self::default(),
            };
            self.branches.insert(start, branch);
        }
        self.branches[start + known.unwrap_or_default()]
            .below
            .insert(rest, any_case, value);
    }

    /// What the longest prefix of `path` stands for: `/a` is one of `/a`, `/a/` and `/a/b`, not of `/ab`. Of two
    /// that are equally long the one in the path's own spelling wins.
    pub fn find(&self, path: &str) -> Option<&T> {
        self.deepest(path, 0).map(|(_, value)| value)
    }

    /// With the number of segments. As deep as the longest prefix at most, whatever the path.
    fn deepest(&self, path: &str, depth: usize) -> Option<(usize, &T)> {
        let mut best = self.value.as_ref().map(|value| (depth, value));
        let Some((segment, rest)) = first_segment(path) else {
            return best;
        };
        for branch in self
            .twins(segment)
            .iter()
            .filter(|branch| branch.covers(segment))
        {
            let Some((found, value)) = branch.below.deepest(rest, depth + 1) else {
                continue;
            };
            if best.is_none_or(|(depth, _)| found > depth || (found == depth && !branch.any_case)) {
                best = Some((found, value));
            }
        }
        best
    }

    /// The branches whose segment is this one but for the case of its letters.
    fn twins(&self, segment: &str) -> &[Branch<T>] {
        let branches = self.branches.get(self.start(segment)..).unwrap_or_default();
        let count = branches
            .iter()
            .take_while(|branch| order(&branch.segment, segment).is_eq())
            .count();
        branches.get(..count).unwrap_or_default()
    }

    fn start(&self, segment: &str) -> usize {
        self.branches
            .partition_point(|branch| order(&branch.segment, segment).is_lt())
    }
}

/// By length first, which tells most segments apart; case does not count.
fn order(a: &str, b: &str) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    a.len()
        .cmp(&b.len())
        .then_with(|| a.bytes().map(lower).cmp(b.bytes().map(lower)))
}

impl<T> Branch<T> {
    fn covers(&self, segment: &str) -> bool {
        self.segment.len() == segment.len()
            && if self.any_case {
                self.segment.eq_ignore_ascii_case(segment)
            } else {
                *self.segment == *segment
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::path;
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let mut tree = PrefixTree::default();
        for (prefix, any_case) in [
            ("", true),
            ("/a", false),
            ("/a/b/c", false),
            ("/cvad/manage", true),
            ("/CVAD/other", false),
            ("/CVAD/manage", false),
        ] {
            tree.insert(prefix, any_case, prefix);
        }
        for (path, expected) in [
            ("/", ""),
            ("", ""),
            ("*", ""),
            ("/x", ""),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a//", "/a"),
            ("/A", ""),
            ("/ab", ""),
            ("/a/b", "/a"),
            ("/a/b/c/d", "/a/b/c"),
            ("/a/b/cd", "/a"),
            ("//a", ""),
            ("/cvad", ""),
            ("/cvad/manage/x", "/cvad/manage"),
            ("/Cvad/Manage", "/cvad/manage"),
            ("/CVAD/MANAGE", "/cvad/manage"),
            ("/CVAD/manage", "/CVAD/manage"),
            ("/CVAD/other/x", "/CVAD/other"),
            ("/cvad/other/x", ""),
            ("/cvad%2Fmanage", ""),
        ] {
            assert_eq!(tree.find(path), Some(&expected), "{path}");
        }
        assert_eq!(PrefixTree::<()>::default().find("/a"), None);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_prefix_finds(
            prefixes in prop::collection::vec("(/[abB]{1,2}){0,3}", 0..12),
            path in "(/[abB]{0,2}){0,5}",
        ) {
            let mut tree = PrefixTree::default();
            for prefix in &prefixes {
                tree.insert(prefix, false, prefix.as_str());
            }
            let covering = prefixes.iter().filter(|prefix| path::covers(prefix, &path));
            let longest = covering.max_by_key(|prefix| prefix.len()).map(String::as_str);
            prop_assert_eq!(tree.find(&path).copied(), longest);
        }
    }
}
