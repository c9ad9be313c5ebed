//! Which endpoint is chosen, and which connections are kept.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::origin::Origin;
use super::*;
use crate::upstream::EndpointFigures;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
/// A response whose body stays open until the reader lets go of it.
const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello";

fn figures(bench: &Bench, origin: &Origin) -> EndpointFigures {
    let all = bench.upstreams.figures();
    *all.iter().find(|figures| figures.address == origin.address).expect("a living endpoint")
}

#[tokio::test]
async fn requests_go_to_the_endpoint_with_fewer_outstanding() {
    let bench = Bench::new(UpstreamLimits::default());
    let one = Origin::answering(&bench, ENDLESS).await;
    let two = Origin::answering(&bench, ENDLESS).await;
    let cluster = bench.http1(&[one.address, two.address]);
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(send(&cluster, get("/")).await.expect("a response"));
    }
    assert_eq!(figures(&bench, &one).outstanding, 5);
    assert_eq!(figures(&bench, &two).outstanding, 5);
    drop(open);
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn requests_spread_over_many_endpoints() {
    let bench = Bench::new(UpstreamLimits::default());
    let mut origins = Vec::new();
    for _ in 0..4 {
        origins.push(Origin::answering(&bench, HELLO).await);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let cluster = bench.http1(&addresses);
    let mut hits = [0; 4];
    for _ in 0..200 {
        let response = send(&cluster, get("/")).await.expect("a response");
        let peer = response.extensions().get::<crate::upstream::UpstreamPeer>().expect("a peer");
        let hit = addresses.iter().position(|address| *address == peer.address).expect("one");
        hits[hit] += 1;
    }
    assert!(hits.iter().all(|count| 20 < *count), "{hits:?}");
}

#[tokio::test]
async fn a_full_pool_lets_requests_wait_and_a_full_queue_sheds_them() {
    let limits = UpstreamLimits { http1_connections_max: 1, queue_max: 1, ..Default::default() };
    let bench = Bench::new(limits);
    let origin = Origin::start(&bench, |mut peer, _| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").await;
        peer.head().await; // Nothing comes while the first response is not whole.
        peer.write(HELLO).await;
        peer.closed().await;
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let first = send(&cluster, get("/")).await.expect("a response");
    let mut second = bench.start(&cluster, get("/"));
    until(|| figures(&bench, &origin).waiting == 1).await;
    let third = send(&cluster, get("/")).await.expect_err("the queue is full");
    assert!(matches!(third, UpstreamError::QueueFull { queue_max: 1 }), "{third:?}");
    drop(first); // Its connection is closed: the next may make one.
    assert!(second.answer().await.is_ok());
    assert_eq!((origin.accepted(), figures(&bench, &origin).waiting), (2, 0));
}

#[tokio::test]
async fn a_connection_that_comes_free_goes_to_the_one_who_waits() {
    let bench = Bench::new(UpstreamLimits { http1_connections_max: 1, ..Default::default() });
    let (go, gate) = mpsc::channel::<()>(1);
    let gate = Arc::new(tokio::sync::Mutex::new(gate));
    let origin = Origin::start(&bench, move |mut peer, _| {
        let gate = Arc::clone(&gate);
        async move {
            while peer.head().await.is_some() {
                gate.lock().await.recv().await;
                peer.write(HELLO).await;
            }
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let mut first = bench.start(&cluster, get("/1"));
    until(|| origin.accepted() == 1).await;
    let mut second = bench.start(&cluster, get("/2"));
    until(|| figures(&bench, &origin).waiting == 1).await;
    go.send(()).await.expect("open");
    assert!(first.answer().await.is_ok());
    go.send(()).await.expect("open");
    assert!(second.answer().await.is_ok());
    assert_eq!((origin.accepted(), figures(&bench, &origin).idle), (1, 1));
}

#[tokio::test]
async fn who_waits_too_long_is_shed_and_who_leaves_the_queue_frees_its_place() {
    let wait = Duration::from_millis(60);
    let limits = UpstreamLimits {
        http1_connections_max: 1,
        queue_max: 1,
        queue_wait: wait,
        ..Default::default()
    };
    let bench = Bench::new(limits);
    let origin = Origin::answering(&bench, ENDLESS).await;
    let cluster = bench.http1(&[origin.address]);
    let _open = send(&cluster, get("/")).await.expect("a response");
    for _ in 0..3 {
        let error = send(&cluster, get("/")).await.expect_err("no connection");
        assert!(matches!(error, UpstreamError::QueueTimeout { .. }), "{error:?}");
    }
    assert_eq!(bench.outstanding(), 1);
}

#[tokio::test]
async fn snapshots_that_name_the_same_endpoint_share_its_connections() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::answering(&bench, HELLO).await;
    let old = bench.http1(&[origin.address]);
    fetch(&old, get("/")).await;
    let new = bench.upstreams.cluster(
        "ns/other".into(),
        Protocol::Http1,
        Security::Plain,
        &[vec![origin.address]],
    );
    drop(old);
    fetch(&new, get("/")).await;
    assert_eq!((origin.accepted(), bench.upstreams.figures().len()), (1, 1));
}

/// An origin that answers everything and counts the connections that were closed on it.
async fn counting_closes(bench: &Bench) -> (Origin, Arc<AtomicUsize>) {
    let closes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&closes);
    let origin = Origin::start(bench, move |mut peer, _| {
        let counter = Arc::clone(&counter);
        async move {
            while peer.head().await.is_some() {
                peer.write(HELLO).await;
            }
            counter.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    (origin, closes)
}

#[tokio::test]
async fn an_endpoint_that_nobody_names_closes_its_idle_connections() {
    let bench = Bench::new(UpstreamLimits::default());
    let (origin, closes) = counting_closes(&bench).await;
    let cluster = bench.http1(&[origin.address]);
    fetch(&cluster, get("/")).await;
    assert_eq!(figures(&bench, &origin).idle, 1);
    drop(cluster);
    until(|| closes.load(Ordering::SeqCst) == 1).await;
    assert_eq!(bench.upstreams.figures(), []);
}

#[tokio::test]
async fn idle_connections_end_after_their_time_and_when_all_closes() {
    let idle_timeout = Duration::from_millis(200);
    let bench = Bench::new(UpstreamLimits { idle_timeout, ..Default::default() });
    let (origin, closes) = counting_closes(&bench).await;
    let cluster = bench.http1(&[origin.address]);
    fetch(&cluster, get("/")).await;
    until(|| closes.load(Ordering::SeqCst) == 1).await;
    assert_eq!(figures(&bench, &origin).connections, 0);

    fetch(&cluster, get("/")).await;
    bench.upstreams.close();
    until(|| closes.load(Ordering::SeqCst) == 2).await;
    fetch(&cluster, get("/")).await; // Still served, but not kept.
    until(|| closes.load(Ordering::SeqCst) == 3).await;
    assert_eq!(figures(&bench, &origin).connections, 0);
}

#[tokio::test]
async fn only_so_many_idle_connections_are_kept() {
    let bench = Bench::new(UpstreamLimits { idle_max: 2, ..Default::default() });
    let (origin, closes) = counting_closes(&bench).await;
    let cluster = bench.http1(&[origin.address]);
    let mut answers: Vec<_> = (0..5).map(|_| bench.start(&cluster, get("/"))).collect();
    for answer in &mut answers {
        answer.answer().await.expect("a response");
    }
    let opened = origin.accepted();
    until(|| closes.load(Ordering::SeqCst) == opened.saturating_sub(2)).await;
    assert!(figures(&bench, &origin).idle <= 2);
}

#[tokio::test]
async fn all_goes_with_the_last_handle() {
    let (drain, tasks, _) = Drain::new();
    let upstreams = Upstreams::new(UpstreamLimits::default(), tasks);
    drop(upstreams);
    assert!(within(drain.drain(PATIENCE)).await);
}
