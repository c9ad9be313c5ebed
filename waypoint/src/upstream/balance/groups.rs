//! Groups of endpoints by preference: how many of the requests each of them takes.
//!
//! The first group takes all of them while enough of its endpoints are healthy; what it cannot take
//! goes on to the next. Shares are counted anew while endpoints are ejected, at most every
//! [`REFRESH_MS`]; at any other time a request costs one load of an atomic.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;

use super::Endpoint;
use crate::trace::random;

/// Groups of one service: the same node, the same zone, elsewhere.
const GROUPS_MAX: usize = 3;

/// How much more than its even share a healthy endpoint may be given, in percent: a group of which
/// five in seven are healthy still takes everything.
///
/// # Source
///
/// Envoy, `ClusterLoadAssignment.Policy.overprovisioning_factor`: 140.
const OVERPROVISIONING: usize = 140;

/// How long counted shares are believed, in milliseconds.
const REFRESH_MS: u64 = 100;

/// Where the groups of a cluster's endpoints begin and end.
pub(in crate::upstream) struct Groups {
    /// The end of each group, in the list of endpoints; none of them is empty.
    ends: Vec<usize>,
    /// Requests that left the preferred group; `None` where there is one group only.
    spilled: Option<Counter>,
    /// The shares as they were counted last, packed.
    counted: AtomicU64,
}

impl Groups {
    /// Groups of these sizes, in the order of preference; what is more than [`GROUPS_MAX`] of them
    /// is of the last one.
    pub(super) fn new(
        sizes: impl Iterator<Item = usize>,
        spilled: impl FnOnce() -> Counter,
    ) -> Self {
        let mut ends: Vec<usize> = Vec::with_capacity(GROUPS_MAX);
        for size in sizes.filter(|size| 0 < *size) {
            let end = ends.last().map_or(0, |end| *end) + size;
            match ends.get_mut(GROUPS_MAX - 1) {
                Some(last) => *last = end,
                None => ends.push(end),
            }
        }
        let spilled = (1 < ends.len()).then(spilled);
        Self { ends, spilled, counted: AtomicU64::new(0) }
    }

    /// The endpoints of each group, in the order of preference.
    pub(in crate::upstream) fn each<'a, T>(
        &'a self,
        endpoints: &'a [T],
    ) -> impl Iterator<Item = &'a [T]> {
        (0..self.ends.len()).map(move |group| &endpoints[self.range(group)])
    }

    /// Forgets what was counted: an endpoint has just been ejected.
    pub(in crate::upstream) fn forget(&self) {
        self.counted.store(0, Ordering::Relaxed);
    }

    /// The endpoints of the group that this request goes to. A retry stays in its group while that
    /// has endpoints that are not `tried`, and then goes to the nearest group that has one.
    pub(super) fn choose<'a>(
        &self,
        endpoints: &'a [Arc<Endpoint>],
        is_first: bool,
        is_untried: impl Fn(&Endpoint) -> bool,
    ) -> &'a [Arc<Endpoint>] {
        let Some(spilled) = &self.spilled else { return endpoints };
        let mut group = self.draw(endpoints);
        if !is_first {
            let others = (0..self.ends.len()).filter(|other| *other != group);
            let mut all = std::iter::once(group).chain(others);
            let left = |group: &usize| endpoints[self.range(*group)].iter().any(|e| is_untried(e));
            group = all.find(left).unwrap_or(group);
        }
        if group != 0 {
            spilled.inc();
        }
        &endpoints[self.range(group)]
    }

    fn range(&self, group: usize) -> Range<usize> {
        let start = group.checked_sub(1).map_or(0, |former| self.ends[former]);
        start..self.ends[group]
    }

    fn draw(&self, endpoints: &[Arc<Endpoint>]) -> usize {
        let Some(shared) = endpoints.first().map(|endpoint| &endpoint.shared) else { return 0 };
        let Some(now_ms) = shared.now_if_some_are_ejected() else { return 0 };
        let ends = self.shares(endpoints, now_ms);
        let point = (random() % 100) as u8;
        ends.iter().position(|end| point < *end).unwrap_or(0)
    }

    /// The shares, as [`shares`] has them. Two requests may count at the same time; both are right.
    fn shares(&self, endpoints: &[Arc<Endpoint>], now_ms: u64) -> [u8; GROUPS_MAX] {
        // One more than the time, so that 0 is no time.
        let counted = self.counted.load(Ordering::Relaxed);
        let ([.., a, b, c], counted_ms) = (counted.to_be_bytes(), counted >> 24);
        if counted_ms != 0 && now_ms < counted_ms - 1 + REFRESH_MS {
            return [a, b, c];
        }
        let is_healthy = |endpoint: &&Arc<Endpoint>| !endpoint.health.is_ejected(|| now_ms);
        let mut groups = [(0, 0); GROUPS_MAX];
        for (counted, group) in groups.iter_mut().zip(self.each(endpoints)) {
            *counted = (group.iter().filter(is_healthy).count(), group.len());
        }
        let ends = shares(groups);
        let [a, b, c] = ends.map(u64::from);
        self.counted.store((now_ms + 1) << 24 | a << 16 | b << 8 | c, Ordering::Relaxed);
        ends
    }
}

/// How many of a hundred requests go to each group or to one before it; of each group the healthy
/// endpoints and all of them.
///
/// # Source
///
/// Envoy, load balancing, priority levels: a level's health is the healthy share times the
/// overprovisioning factor; what is missing to 100 is taken by the next levels, and if all together
/// have less, by each after its health.
fn shares(groups: [(usize, usize); GROUPS_MAX]) -> [u8; GROUPS_MAX] {
    let health = groups.map(|(healthy, all)| (OVERPROVISIONING * healthy / all.max(1)).min(100));
    let total = health.iter().sum::<usize>().min(100);
    let mut end = 0;
    let mut ends = health.map(|health| {
        end = (end + health * 100 / total.max(1)).min(100);
        end as u8
    });
    // What rounding left over is of the last group that has any.
    let last = ends[GROUPS_MAX - 1];
    ends.iter_mut().filter(|end| **end == last && 0 < last).for_each(|end| *end = 100);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_takes_everything_until_too_few_are_healthy_and_spills_the_rest() {
        let cases = [
            // healthy of all, in each group      of a hundred, up to each group
            ([(7, 7), (7, 7), (0, 0)], [100, 100, 100]),
            ([(5, 7), (7, 7), (0, 0)], [100, 100, 100]),
            ([(1, 2), (7, 7), (0, 0)], [70, 100, 100]),
            ([(0, 3), (7, 7), (0, 0)], [0, 100, 100]),
            ([(0, 3), (1, 4), (9, 9)], [0, 35, 100]),
            // Both together cannot take all: each takes its part of it.
            ([(1, 4), (1, 4), (0, 0)], [50, 100, 100]),
            ([(1, 7), (1, 7), (1, 7)], [33, 66, 100]),
            // Nobody is healthy: the first takes what there is, as without groups.
            ([(0, 3), (0, 3), (0, 0)], [0, 0, 0]),
        ];
        for (groups, want) in cases {
            assert_eq!(shares(groups), want, "{groups:?}");
        }
    }
}
