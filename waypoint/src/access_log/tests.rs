//! What a record says of a request that ended in no ordinary way.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::drain::Drain;
use crate::metrics::{FilterSample, FilterSource};
use crate::upstream::{UpstreamLimits, Upstreams};

struct NoFilters;

impl FilterSource for NoFilters {
    fn samples(&self) -> Vec<FilterSample> {
        Vec::new()
    }
}

#[tokio::test]
async fn a_request_that_a_panic_ends_is_recorded_with_500_and_counted_once() {
    let (_drain, tasks, _closing) = Drain::new();
    let upstreams = Upstreams::new(UpstreamLimits::default(), tasks);
    let metrics = Metrics::new(Arc::new(NoFilters), &upstreams);
    let records = Records::new(Arc::clone(&metrics), None);
    let local = SocketAddr::from(([127, 0, 0, 1], 80));
    let connection = Arc::new(ConnectionInfo::new(local, local, "test".into(), None));
    let mut request = http::Request::new(Body::empty());
    let ids = crate::trace::bind(request.headers_mut());
    let record = Record::open(&records, &connection, &request, &ids);

    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _record = record;
        panic!("a mistake");
    }));
    records.refused(&Refusal::Panicked, &connection);

    assert!(unwound.is_err());
    let rendered = metrics.render();
    let requests: Vec<_> =
        rendered.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
    assert!(matches!(requests[..], [one] if one.contains("response_code=\"500\"")), "{requests:?}");
    assert!(rendered.contains("waypoint_refused_requests_total{check=\"panicked\"} 1\n"));
}
