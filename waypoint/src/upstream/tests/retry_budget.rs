//! Retries of a service are few beside its requests.

use tokio::sync::Semaphore;

use super::origin::{Origin, refusing};
use super::*;
use crate::upstream::RetryBudget;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn budget(min: usize) -> UpstreamLimits {
    UpstreamLimits { retry_budget: RetryBudget { percent: 0, min }, ..UpstreamLimits::default() }
}

/// What the counter of the only service says.
fn counted(bench: &Bench, name: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    bench.upstreams.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    let prefix = format!("{name}_total{{service=\"ns/service\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok());
    value.unwrap_or(0)
}

#[tokio::test]
async fn a_retry_over_the_budget_is_not_made_and_is_counted() {
    let bench = Bench::new(budget(0));
    let origin = Origin::answering(&bench, HELLO).await;
    let cluster = bench.http1(&[refusing(), origin.address]);
    let mut failed = 0;
    while failed == 0 {
        match send(&cluster, get("/")).await {
            Ok(response) => drop(text(response.into_body()).await),
            Err(UpstreamError::ConnectRefused { .. }) => failed += 1,
            Err(error) => panic!("another error: {error:?}"),
        }
    }
    assert_eq!(counted(&bench, "waypoint_upstream_retries_over_budget"), 1);
    assert_eq!(counted(&bench, "waypoint_upstream_retries"), 0);
}

#[tokio::test]
async fn a_retry_takes_from_the_budget_until_it_is_answered() {
    let bench = Bench::new(budget(1));
    let released = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&released);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let gate = Arc::clone(&gate);
        async move {
            while peer.head().await.is_some() {
                gate.acquire().await.expect("never closed").forget();
                peer.write(HELLO).await;
            }
        }
    })
    .await;
    let cluster = bench.http1(&[refusing(), origin.address]);
    // The refusing endpoint has nothing outstanding, so one of two requests is tried there first.
    let mut waiting = Vec::new();
    while counted(&bench, "waypoint_upstream_retries") == 0 {
        waiting.push(bench.start(&cluster, get("/")));
        let sent = waiting.len();
        until(|| bench.outstanding() == sent).await;
    }
    // After its cool-down it is chosen again, and the only retry still waits for its answer.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = send(&cluster, get("/")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::ConnectRefused { .. }), "{error:?}");
    assert_eq!(counted(&bench, "waypoint_upstream_retries_over_budget"), 1);

    released.add_permits(100);
    for pending in &mut waiting {
        let response = pending.answer().await.expect("a response");
        assert_eq!(text(response.into_body()).await.expect("a whole body"), "hello");
    }
    for _ in 0..20 {
        assert_eq!(fetch(&cluster, get("/")).await.1, "hello", "the budget is free again");
    }
}
