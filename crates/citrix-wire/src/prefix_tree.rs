//! A map from path prefixes to values, matched by whole segments; the longest prefix wins.
//!
//! A lookup takes one binary search per segment, regardless of the number of prefixes.

use std::cmp::Ordering;

use crate::path::first_segment;

/// A node of the tree; its prefix is the path of segments from the root.
#[derive(Debug)]
pub struct PrefixTree<T> {
    value: Option<T>,
    /// Sorted by [`order`].
    branches: Vec<Branch<T>>,
}

#[derive(Debug)]
struct Branch<T> {
    segment: Box<str>,
    ignore_case: bool,
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
    /// Adds a prefix: empty, or segments that each begin with a slash. With `ignore_case`, ASCII
    /// letters of a path match in either case.
    pub fn insert(&mut self, prefix: &str, ignore_case: bool, value: T) {
        let Some((segment, rest)) = first_segment(prefix) else {
            self.value = Some(value);
            return;
        };
        let start = self.start(segment);
        let same = |branch: &Branch<T>| branch.ignore_case == ignore_case && branch.covers(segment);
        let known = self.candidates(segment).iter().position(same);
        if known.is_none() {
            let branch = Branch {
                segment: segment.into(),
                ignore_case,
                below: Self::default(),
            };
            self.branches.insert(start, branch);
        }
        self.branches[start + known.unwrap_or_default()]
            .below
            .insert(rest, ignore_case, value);
    }

    /// Returns the value of the longest prefix of `path`: `/a` is a prefix of `/a`, `/a/` and
    /// `/a/b`, not of `/ab`. Of two equally long prefixes, the case-sensitive one wins.
    pub fn find(&self, path: &str) -> Option<&T> {
        self.deepest(path, 0).map(|(_, value)| value)
    }

    /// Returns the value with its number of segments. Recurses at most as deep as the longest
    /// prefix.
    fn deepest(&self, path: &str, depth: usize) -> Option<(usize, &T)> {
        let mut best = self.value.as_ref().map(|value| (depth, value));
        let Some((segment, rest)) = first_segment(path) else {
            return best;
        };
        for branch in self
            .candidates(segment)
            .iter()
            .filter(|branch| branch.covers(segment))
        {
            let Some((found, value)) = branch.below.deepest(rest, depth + 1) else {
                continue;
            };
            if best
                .is_none_or(|(depth, _)| found > depth || (found == depth && !branch.ignore_case))
            {
                best = Some((found, value));
            }
        }
        best
    }

    /// Returns the branches whose segment equals this one, ignoring case.
    fn candidates(&self, segment: &str) -> &[Branch<T>] {
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

/// Compares by length first, which decides most comparisons, then by bytes, ignoring case.
fn order(a: &str, b: &str) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    a.len()
        .cmp(&b.len())
        .then_with(|| a.bytes().map(lower).cmp(b.bytes().map(lower)))
}

impl<T> Branch<T> {
    fn covers(&self, segment: &str) -> bool {
        self.segment.len() == segment.len()
            && if self.ignore_case {
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
    fn longest_prefix_of_whole_segments_wins() {
        let mut tree = PrefixTree::default();
        for (prefix, ignore_case) in [
            ("", true),
            ("/a", false),
            ("/a/b/c", false),
            ("/cvad/manage", true),
            ("/CVAD/other", false),
            ("/CVAD/manage", false),
        ] {
            tree.insert(prefix, ignore_case, prefix);
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
        fn lookup_equals_a_scan_of_all_prefixes(
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
