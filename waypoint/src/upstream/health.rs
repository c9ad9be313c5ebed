//! Passive health: an endpoint that fails time after time is left out for a while.
//!
//! Takes what each attempt came to, gives whether an endpoint is ejected. Only so many endpoints of
//! a service are ejected at a time, and never all: a service whose endpoints all fail is sent to as
//! before. The state belongs to the endpoint, so it outlives snapshots as connections do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};

use super::balance::Endpoint;
use super::retry::{Again, Failure};
use super::{Cluster, Protocol, UpstreamError};
use crate::codec::body::Body;
use crate::trace::random;

/// When and for how long endpoints are ejected.
///
/// # Source
///
/// Envoy, `config.cluster.v3.OutlierDetection`: its defaults, but that the time doubles where
/// Envoy's grows by the base, that the jitter is on, and that the last endpoint stays.
#[derive(Clone, Debug)]
pub struct EjectionLimits {
    /// Failures in a row that eject an endpoint; any other answer begins the count anew.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts; each that follows lasts twice as long.
    pub base: Duration,
    /// How long one lasts at most. Who was not ejected for as long begins anew.
    pub max: Duration,
    /// Endpoints of a service that may be ejected at a time, in percent; one may be in any case,
    /// and one always stays. When reached: whoever else fails stays.
    pub percent_max: usize,
}

impl Default for EjectionLimits {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base: Duration::from_secs(10),
            max: Duration::from_secs(300),
            percent_max: 10,
        }
    }
}

/// An ejection lasts up to this share longer, in percent, so that endpoints that failed together
/// do not come back together.
const JITTER_PERCENT: u64 = 10;

/// The gRPC status of a service that is not there.
///
/// # Source
///
/// grpc/doc/statuscodes.md
const GRPC_UNAVAILABLE: &str = "14";

/// What the attempts at one endpoint have come to.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last success.
    failures: AtomicU32,
    /// Ejections, each soon after the one before.
    ejections: AtomicU32,
    /// Until when it is ejected, in milliseconds after `Shared::started`; 0 = never was.
    ejected_until: AtomicU64,
}

/// What one attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    /// Nothing: the fault was not the endpoint's.
    Nothing,
    Failure(Reason),
}

/// Why an attempt counts against its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Connect,
    Tls,
    Reset,
    Timeout,
    Malformed,
    GatewayError,
}

// === impl Reason ===

impl Reason {
    /// The reason as a metric's label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::GatewayError => "gateway_error",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// `None`: no head came in time.
    pub(super) fn of(
        outcome: Option<&Result<Response<Body>, Failure>>,
        protocol: Protocol,
    ) -> Self {
        match outcome {
            None => Self::Failure(Reason::Timeout),
            Some(Ok(response)) if is_gateway_error(response, protocol) => {
                Self::Failure(Reason::GatewayError)
            }
            Some(Ok(_)) => Self::Success,
            Some(Err(failure)) => Self::of_failure(failure),
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        match &failure.error {
            UpstreamError::ConnectTimeout { .. }
            | UpstreamError::ConnectRefused { .. }
            | UpstreamError::ConnectFailed { .. } => Self::Failure(Reason::Connect),
            UpstreamError::Tls { .. } => Self::Failure(Reason::Tls),
            // A connection that ended before it was used again: endpoints may do that.
            UpstreamError::ResetBeforeHead { .. } if failure.again != Again::No => Self::Nothing,
            UpstreamError::ResetBeforeHead { .. } => Self::Failure(Reason::Reset),
            UpstreamError::MalformedResponse { .. } => Self::Failure(Reason::Malformed),
            UpstreamError::ResponseTimeout => Self::Failure(Reason::Timeout),
            UpstreamError::NoEndpoints
            | UpstreamError::Unresolved { .. }
            | UpstreamError::QueueFull { .. }
            | UpstreamError::QueueTimeout { .. }
            | UpstreamError::TlsRefused { .. }
            | UpstreamError::RequestBody(_)
            | UpstreamError::InvalidRequest { .. }
            | UpstreamError::UpgradeUnsupported => Self::Nothing,
        }
    }
}

/// Whether who answered could not reach what answers: the service, or a proxy before it.
fn is_gateway_error(response: &Response<Body>, protocol: Protocol) -> bool {
    let gateway = matches!(
        response.status(),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    let grpc_status = || response.headers().get("grpc-status");
    gateway
        || protocol == Protocol::Http2 && grpc_status().is_some_and(|code| code == GRPC_UNAVAILABLE)
}

// === impl Health ===

impl Health {
    /// Whether it is left out at that time.
    pub(super) fn is_ejected(&self, now_ms: impl FnOnce() -> u64) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && now_ms() < until
    }

    /// Failures in a row, and how much longer it is left out.
    pub(super) fn figures(&self, now_ms: u64) -> (u32, Option<Duration>) {
        let until = self.ejected_until.load(Ordering::Relaxed);
        let left = until.checked_sub(now_ms).filter(|left| 0 < *left);
        (self.failures.load(Ordering::Relaxed), left.map(Duration::from_millis))
    }

    /// How long the next ejection lasts; counts it.
    fn eject(&self, limits: &EjectionLimits, now_ms: u64) -> Duration {
        let since = now_ms.saturating_sub(self.ejected_until.load(Ordering::Relaxed));
        if limits.max <= Duration::from_millis(since) {
            self.ejections.store(0, Ordering::Relaxed);
        }
        let repeated = self.ejections.fetch_add(1, Ordering::Relaxed);
        let doubled = limits.base.saturating_mul(1 << repeated.min(16)).min(limits.max);
        let jitter = millis(doubled) * JITTER_PERCENT / 100;
        let time = doubled + Duration::from_millis(random() % (jitter + 1));
        self.ejected_until.store(now_ms + millis(time), Ordering::Relaxed);
        time
    }
}

/// Notes what an attempt at an endpoint came to; ejects the endpoint when it has failed too often.
pub(super) fn note(cluster: &Cluster, endpoint: &Arc<Endpoint>, verdict: Verdict) {
    let health = &endpoint.health;
    let reason = match verdict {
        Verdict::Nothing => return,
        Verdict::Success => {
            // Mostly there is nothing to write, and the line stays shared among the cores.
            if health.failures.load(Ordering::Relaxed) != 0 {
                health.failures.store(0, Ordering::Relaxed);
            }
            return;
        }
        Verdict::Failure(reason) => reason,
    };
    let limits = &endpoint.shared.limits.ejection;
    let failures = health.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    // At five, ten, …: an endpoint that had to stay is looked at again, but not at each failure.
    if !failures.is_multiple_of(limits.consecutive_failures.max(1)) {
        return;
    }
    let Some(time) = eject(cluster, endpoint, limits) else { return };
    // Behind a network that was cut, the kernel of a connection that is there may wait for as long as
    // the cut has taken before it tries again, and the endpoint would be ejected once more.
    endpoint.retire_connections();
    endpoint.shared.counters.ejected(cluster.service(), reason);
    tracing::warn!(
        service = %cluster.service(),
        address = %endpoint.address,
        reason = reason.name(),
        seconds = time.as_secs(),
        "an endpoint is ejected"
    );
}

/// Ejects the endpoint if its service may lose one more; gives for how long.
fn eject(cluster: &Cluster, endpoint: &Endpoint, limits: &EjectionLimits) -> Option<Duration> {
    // Two that fail at once are counted one after the other.
    let _one_at_a_time = cluster.service.ejecting.lock();
    let now_ms = endpoint.shared.now_ms();
    let is_ejected = |one: &Endpoint| one.health.is_ejected(|| now_ms);
    let all = cluster.endpoints.len();
    let ejected = cluster.endpoints.iter().filter(|one| is_ejected(one)).count();
    let most = (all * limits.percent_max / 100).max(1).min(all.saturating_sub(1));
    if is_ejected(endpoint) || most <= ejected {
        return None;
    }
    endpoint.health.failures.store(0, Ordering::Relaxed);
    let time = endpoint.health.eject(limits, now_ms);
    endpoint.shared.ejects_until(now_ms + millis(time));
    cluster.groups.forget();
    Some(time)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_says_counts_and_what_the_service_says_does_not() {
        use Protocol::{Http1, Http2};
        let cases = [
            // status, gRPC status, protocol, counts
            (200, None, Http1, false),
            (500, None, Http1, false),
            (501, None, Http1, false),
            (502, None, Http1, true),
            (503, None, Http2, true),
            (504, None, Http2, true),
            (200, Some("0"), Http2, false),
            (200, Some("13"), Http2, false),
            (200, Some("14"), Http2, true),
            (200, Some("14"), Http1, false),
        ];
        for (status, grpc_status, protocol, counts) in cases {
            let mut response = Response::builder().status(status);
            if let Some(grpc_status) = grpc_status {
                response = response.header("grpc-status", grpc_status);
            }
            let response = response.body(Body::empty()).expect("a response");
            let verdict = Verdict::of(Some(&Ok(response)), protocol);
            let want = match counts {
                true => Verdict::Failure(Reason::GatewayError),
                false => Verdict::Success,
            };
            assert_eq!(verdict, want, "{status} {grpc_status:?} {protocol:?}");
        }
    }

    #[test]
    fn an_ejection_lasts_twice_as_long_each_time_and_begins_anew_after_a_long_while() {
        let (health, limits) = (Health::default(), EjectionLimits::default());
        let mut now_ms = 1;
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let time = health.eject(&limits, now_ms);
            let least = Duration::from_secs(seconds);
            assert!(least <= time && time <= least * 11 / 10, "{seconds} s: {time:?}");
            assert!(health.is_ejected(|| now_ms) && !health.is_ejected(|| now_ms + millis(time)));
            now_ms += millis(time) + 1000;
        }
        now_ms += millis(limits.max);
        assert!(health.eject(&limits, now_ms) <= limits.base * 11 / 10);
    }
}
