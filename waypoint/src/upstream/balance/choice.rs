//! Power of two choices, and the weights of endpoints that are new.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::health::millis;
use super::{Cluster, Endpoint};
use crate::trace::random;

/// The share of its weight that an endpoint has at the very beginning, in thousandths.
///
/// # Source
///
/// Envoy, `SlowStartConfig.min_weight_percent`: 10 %.
const WARMING_MIN: u64 = 100;

/// Since when an endpoint that is new to a service takes more and more: one that starts with cold
/// caches is not given its whole share at once.
#[derive(Debug)]
pub(super) struct Warming {
    /// In milliseconds after `Shared::started`, and one more; 0 = it has its whole share.
    since: AtomicU64,
}

// === impl Warming ===

impl Warming {
    /// `Some`: it is new at this time.
    pub(super) fn new(since_ms: Option<u64>) -> Self {
        Self { since: AtomicU64::new(since_ms.map_or(0, |since| since + 1)) }
    }

    /// Whether it leaves this request to others: the less often, the longer it serves.
    pub(super) fn holds_back(&self, window: Duration, now_ms: impl FnOnce() -> u64) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        if since == 0 {
            return false;
        }
        let share = share(now_ms().saturating_sub(since - 1), millis(window));
        if share == 1000 {
            self.since.store(0, Ordering::Relaxed);
        }
        share <= random() % 1000
    }
}

/// The share of its weight that an endpoint of this age has, in thousandths: it grows in a line.
///
/// # Source
///
/// Envoy, slow start: `max(min_weight_percent, (age / window) ^ (1 / aggression))`, with an
/// aggression of 1.
fn share(age_ms: u64, window_ms: u64) -> u64 {
    if window_ms <= age_ms {
        return 1000;
    }
    (age_ms * 1000 / window_ms).max(WARMING_MIN)
}

/// Picks the better of two endpoints of the nearest group that can take the request, drawn at
/// random, none of them in `tried` while another is left. `None`: there is no endpoint.
pub(in crate::upstream) fn pick<'a>(
    cluster: &'a Cluster,
    tried: &[SocketAddr],
) -> Option<&'a Arc<Endpoint>> {
    let is_untried = |endpoint: &Endpoint| !tried.contains(&endpoint.address);
    let endpoints = cluster.groups.choose(&cluster.endpoints, tried.is_empty(), is_untried);
    let untried = |endpoint: &&Arc<Endpoint>| is_untried(endpoint);
    let left =
        if tried.is_empty() { endpoints.len() } else { endpoints.iter().filter(untried).count() };
    // A retry is rare: walking to the n-th untried endpoint costs nothing that matters.
    let nth = |index: usize| match left {
        0 => endpoints.get(index),
        left if left == endpoints.len() => endpoints.get(index),
        _ => endpoints.iter().filter(untried).nth(index),
    };
    match if left == 0 { endpoints.len() } else { left } {
        0 => None,
        1 => nth(0),
        count => {
            let (first, second) = two_of(count, random());
            let (first, second) = (nth(first)?, nth(second)?);
            let better = if second.load() < first.load() { second } else { first };
            if !better.is_ejected() {
                return Some(better);
            }
            // Both are: rare, for few are ejected at a time.
            let mut others = endpoints.iter().filter(untried);
            Some(others.find(|endpoint| !endpoint.is_ejected()).unwrap_or(better))
        }
    }
}

/// Whether `pick` would give an endpoint that has not been tried.
pub(in crate::upstream) fn has_untried(endpoints: &[Arc<Endpoint>], tried: &[SocketAddr]) -> bool {
    endpoints.iter().any(|endpoint| !tried.contains(&endpoint.address))
}

/// Two different numbers below `count`, which is at least 2.
fn two_of(count: usize, random: u64) -> (usize, usize) {
    debug_assert!(2 <= count);
    let [high, low] = [random >> 32, random & 0xffff_ffff];
    let below = |half: u64, bound: usize| ((half * bound as u64) >> 32) as usize;
    let first = below(high, count);
    let second = below(low, count - 1);
    (first, if second < first { second } else { second + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_new_endpoint_grows_in_a_line_from_a_tenth() {
        let cases = [(0, 100), (1_000, 100), (3_000, 100), (6_000, 200), (15_000, 500)];
        for (age, want) in cases.into_iter().chain([(29_999, 999), (30_000, 1000), (90_000, 1000)])
        {
            assert_eq!(share(age, 30_000), want, "{age} ms");
        }
        assert_eq!(share(0, 0), 1000, "without a window nobody warms up");
    }
}
