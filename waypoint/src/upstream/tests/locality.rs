//! Groups of endpoints: the nearest takes what it can, the rest goes on.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::StatusCode;

use super::origin::{Origin, refusing};
use super::*;
use crate::upstream::EjectionLimits;

const REQUESTS: usize = 400;

/// An origin that answers with this status, and how many requests it has had.
async fn counting(bench: &Bench, status: u16) -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = Origin::start(bench, move |mut peer, _| {
        let count = Arc::clone(&counted);
        async move {
            while peer.head().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                peer.write(&format!("HTTP/1.1 {status} x\r\ncontent-length: 1\r\n\r\nx")).await;
            }
        }
    })
    .await;
    (origin, count)
}

impl Bench {
    fn grouped(&self, groups: &[&[&Origin]]) -> Cluster {
        let addresses = |group: &&[&Origin]| group.iter().map(|one| one.address).collect();
        let groups: Vec<Vec<SocketAddr>> = groups.iter().map(addresses).collect();
        self.upstreams.cluster("ns/service".into(), Protocol::Http1, Security::Plain, &groups)
    }
}

fn ejecting(base: Duration) -> Bench {
    let ejection =
        EjectionLimits { consecutive_failures: 3, base, max: base, ..EjectionLimits::default() };
    Bench::new(UpstreamLimits { ejection, ..UpstreamLimits::default() })
}

/// How many of so many requests are answered with 200.
async fn successes(cluster: &Cluster, count: usize) -> usize {
    let mut successes = 0;
    for _ in 0..count {
        successes += usize::from(fetch(cluster, get("/")).await.0 == StatusCode::OK);
    }
    successes
}

#[tokio::test]
async fn the_nearest_group_takes_everything_while_it_is_healthy() {
    let bench = Bench::new(UpstreamLimits::default());
    let (near, of_near) = counting(&bench, 200).await;
    let (too, of_too) = counting(&bench, 200).await;
    let (far, of_far) = counting(&bench, 200).await;
    let cluster = bench.grouped(&[&[&near, &too], &[&far]]);
    assert_eq!(successes(&cluster, REQUESTS).await, REQUESTS);
    let counts = [of_near, of_too, of_far].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts[2], 0);
    assert!(counts[..2].iter().all(|count| REQUESTS / 4 < *count), "{counts:?}");
}

#[tokio::test]
async fn a_group_with_too_few_healthy_endpoints_gives_a_part_to_the_next() {
    let bench = ejecting(Duration::from_secs(600));
    let (near, of_near) = counting(&bench, 200).await;
    let (bad, of_bad) = counting(&bench, 503).await;
    let (far, of_far) = counting(&bench, 200).await;
    let cluster = bench.grouped(&[&[&near, &bad], &[&far]]);
    while of_bad.load(Ordering::SeqCst) < 3 {
        successes(&cluster, 1).await;
    }
    let before = of_near.load(Ordering::SeqCst);
    assert_eq!(of_far.load(Ordering::SeqCst), 0, "until then nothing was given away");
    assert_eq!(successes(&cluster, REQUESTS).await, REQUESTS);
    // One of two is healthy: 70 of 100 stay. Nine standard deviations to either side.
    let stayed = of_near.load(Ordering::SeqCst) - before;
    assert!((196..=364).contains(&stayed), "{stayed} of {REQUESTS}, where 280 are to be expected");
    assert_eq!(of_far.load(Ordering::SeqCst), REQUESTS - stayed);
    assert_eq!(of_bad.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_no_near_endpoint_can_take_goes_on_until_one_comes_back() {
    let bench = ejecting(Duration::from_millis(300));
    let (bad, of_bad) = counting(&bench, 503).await;
    let (far, of_far) = counting(&bench, 200).await;
    let cluster = bench.grouped(&[&[&bad], &[&far]]);
    assert_eq!(successes(&cluster, 3).await, 0);
    assert_eq!(of_far.load(Ordering::SeqCst), 0);
    // However slow the machine is: three more failures in a row eject it again.
    within(async {
        while of_far.load(Ordering::SeqCst) == 0 {
            successes(&cluster, 1).await;
        }
    })
    .await;
    let before = of_bad.load(Ordering::SeqCst);
    within(async {
        while of_bad.load(Ordering::SeqCst) == before {
            successes(&cluster, 1).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_no_near_endpoint_accepts_is_sent_to_the_next_group() {
    let bench = Bench::new(UpstreamLimits::default());
    let (far, of_far) = counting(&bench, 200).await;
    let groups = [vec![refusing()], vec![refusing()], vec![far.address]];
    let cluster =
        bench.upstreams.cluster("ns/service".into(), Protocol::Http1, Security::Plain, &groups);
    assert_eq!(successes(&cluster, 2).await, 2);
    assert_eq!(of_far.load(Ordering::SeqCst), 2);
}
