//! How many retries of a service may run at a time: trying again must not be what brings a service
//! down that has too much to do already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::Cluster;
use super::super::balance::Service;

/// What part of a service's requests may be retries.
///
/// # Source
///
/// Envoy, `CircuitBreakers.Thresholds.RetryBudget`: 20 % of the active requests. Its minimum is 3;
/// ours spares a service of few requests that loses an endpoint.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    /// Retries at a time, in percent of the requests whose response has not ended. When over: the
    /// retry is not made, and the failure is the answer.
    pub percent: usize,
    /// Retries that may run at a time however few requests there are.
    pub min: usize,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min: 10 }
    }
}

/// A retry counted at its service until this is dropped: when its response head is there.
pub(super) struct Retrying(Arc<Service>);

// === impl RetryBudget ===

impl RetryBudget {
    /// How many retries may run beside so many requests.
    fn most(&self, active: usize) -> usize {
        (active.saturating_mul(self.percent) / 100).max(self.min)
    }
}

// === impl Retrying ===

impl Retrying {
    /// Begins one more retry, unless the service has as many as it may have.
    pub(super) fn begin(cluster: &Cluster) -> Option<Self> {
        let shared = &cluster.endpoints.first()?.shared;
        // The one in hand is not outstanding anywhere just now.
        let outstanding = cluster.endpoints.iter().map(|endpoint| endpoint.outstanding());
        let most = shared.limits.retry_budget.most(1 + outstanding.sum::<usize>());
        let service = &cluster.service;
        let running = service.retries.fetch_add(1, Ordering::Relaxed);
        let retrying = Self(Arc::clone(service));
        if most <= running {
            shared.counters.over_retry_budget(&service.name);
            return None;
        }
        shared.counters.retried(&service.name);
        Some(retrying)
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_may_be_retries_and_ten_in_any_case() {
        let budget = RetryBudget::default();
        for (active, want) in [(1, 10), (50, 10), (54, 10), (55, 11), (1000, 200)] {
            assert_eq!(budget.most(active), want, "{active} requests");
        }
    }
}
