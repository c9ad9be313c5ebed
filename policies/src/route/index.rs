//! The matches of one hostname, found by path: what cannot hold is not looked at.
//!
//! ```text
//! path ──► exact: by the whole path ──► expressions: one after the other
//!                                          └──► prefixes: a tree of segments, deepest first
//! ```
//!
//! That is the order of precedence, too; within one path, matches are sorted when the table is
//! built. A path costs its segments, as far as any prefix goes, however many routes there are;
//! only expressions cost as many tries as there are of them.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::Candidate;
use super::matching::PathMatch;

#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<String, Vec<Candidate>>,
    expressions: Vec<Candidate>,
    prefixes: Node,
}

/// A prefix, as deep in the tree as it has segments.
#[derive(Debug, Default)]
struct Node {
    /// One, as most prefixes have, is in here: one way less to memory that is in no cache.
    here: SmallVec<[Candidate; 1]>,
    below: HashMap<String, Node>,
}

impl Index {
    pub(super) fn insert(&mut self, candidate: Candidate) {
        match &candidate.when.path {
            PathMatch::Exact(path) => {
                self.exact.entry(path.clone()).or_default().push(candidate);
            }
            PathMatch::Regex(_) => self.expressions.push(candidate),
            PathMatch::AnyService(_) => self.prefixes.here.push(candidate),
            PathMatch::Prefix(prefix) => {
                let mut node = &mut self.prefixes;
                for segment in prefix.split('/').skip(1) {
                    node = node.below.entry(segment.to_owned()).or_default();
                }
                node.here.push(candidate);
            }
        }
    }

    /// The first match, in the order of precedence, that `holds`; it is asked only about those
    /// whose path may hold.
    pub(super) fn find<'a>(
        &'a self,
        path: &str,
        holds: &mut impl FnMut(&Candidate) -> bool,
    ) -> Option<&'a Candidate> {
        let exact = self.exact.get(path).into_iter().flatten();
        exact
            .chain(&self.expressions)
            .find(|candidate| holds(candidate))
            .or_else(|| self.prefixes.find(path, holds))
    }

    /// Sorts every list by precedence.
    pub(super) fn sort(&mut self) {
        self.exact.values_mut().for_each(|list| sort(list));
        sort(&mut self.expressions);
        self.prefixes.sort();
    }

    /// Every match, in no particular order.
    pub(super) fn each(&self) -> Vec<&Candidate> {
        let mut all: Vec<_> = self.exact.values().flatten().chain(&self.expressions).collect();
        self.prefixes.each(&mut all);
        all
    }
}

impl Node {
    /// Deepest first. No deeper than the longest prefix that is written, whatever the path.
    fn find<'a>(
        &'a self,
        path: &str,
        holds: &mut impl FnMut(&Candidate) -> bool,
    ) -> Option<&'a Candidate> {
        let next = path.strip_prefix('/').and_then(|rest| {
            let (segment, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            self.below.get(segment)?.find(rest, holds)
        });
        next.or_else(|| self.here.iter().find(|candidate| holds(candidate)))
    }

    fn sort(&mut self) {
        sort(&mut self.here);
        self.below.values_mut().for_each(Self::sort);
    }

    fn each<'a>(&'a self, all: &mut Vec<&'a Candidate>) {
        all.extend(&self.here);
        self.below.values().for_each(|node| node.each(all));
    }
}

fn sort(candidates: &mut [Candidate]) {
    candidates
        .sort_by(|a, b| b.when.weight().cmp(&a.when.weight()).then(a.seniority.cmp(&b.seniority)));
}
