//! Endpoints that fail are left out for a while, few at a time, and come back.

use std::sync::atomic::{AtomicU16, Ordering};

use http::StatusCode;
use tokio::time::Instant;

use super::origin::{Ending, Origin, Peer, refusing};
use super::*;
use crate::upstream::{EjectionLimits, UpstreamPeer};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nbad";

/// Ejects after three failures, for so long at first.
fn limits(base: Duration) -> UpstreamLimits {
    let ejection = EjectionLimits { consecutive_failures: 3, base, max: 8 * base, percent_max: 10 };
    UpstreamLimits { ejection, ..UpstreamLimits::default() }
}

const LONG: Duration = Duration::from_secs(60);

fn ejected(bench: &Bench) -> Vec<SocketAddr> {
    let figures = bench.upstreams.figures();
    let ejected = figures.iter().filter(|figures| figures.ejected_for.is_some());
    ejected.map(|figures| figures.address).collect()
}

/// How many of `count` requests are answered with 200.
async fn successes(cluster: &Cluster, count: usize) -> usize {
    let mut successes = 0;
    for _ in 0..count {
        if let Ok(response) = send(cluster, get("/")).await {
            successes += usize::from(response.status() == StatusCode::OK);
            let _ = text(response.into_body()).await;
        }
    }
    successes
}

/// An origin that answers with this status, as long as the test lets it.
async fn answering_with(bench: &Bench, status: Arc<AtomicU16>) -> Origin {
    Origin::start(bench, move |mut peer, _| {
        let status = Arc::clone(&status);
        async move {
            while peer.head().await.is_some() {
                let status = status.load(Ordering::SeqCst);
                peer.write(&format!("HTTP/1.1 {status} x\r\ncontent-length: 1\r\n\r\nx")).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_left_out() {
    let after_head: [(&str, &str, Ending); 3] = [
        ("gateway errors", BAD, drop),
        ("resets", "", Peer::reset),
        ("answers that are none", "HTP/1.1 200 OK\r\n\r\n", drop),
    ];
    for (what, answer, end) in after_head {
        let bench = Bench::new(limits(LONG));
        let good = Origin::answering(&bench, HELLO).await;
        let bad = Origin::start(&bench, move |mut peer, _| async move {
            peer.head().await;
            peer.write(answer).await;
            end(peer);
        })
        .await;
        let cluster = bench.http1(&[good.address, bad.address]);
        successes(&cluster, 60).await;
        assert_eq!(ejected(&bench), [bad.address], "{what}");
        assert_eq!(successes(&cluster, 60).await, 60, "{what}");
    }
}

/// Two endpoints: one that answers, and one, whose address is given, that waits until its clients give up.
async fn beside_a_silent_one() -> (Bench, Cluster, SocketAddr) {
    let bench = Bench::new(limits(LONG));
    let good = Origin::answering(&bench, HELLO).await;
    let silent = Origin::start(&bench, |peer, _| async move {
        peer.closed().await;
    })
    .await;
    let cluster = bench.http1(&[good.address, silent.address]);
    (bench, cluster, silent.address)
}

#[tokio::test]
async fn an_endpoint_that_was_ejected_is_connected_to_anew() {
    let bench = Bench::new(limits(Duration::from_millis(200)));
    let bad = serving(&bench, |number| number > 0).await;
    let good = serving(&bench, |_| true).await;
    let cluster = bench.http2(&[good.address, bad.address]);
    let per_try = Some(Duration::from_millis(50));
    let deadlines = Deadlines { per_try, ..Deadlines::default() };
    // Its first connection never answers, and no request that waits for it in vain closes it.
    within(async {
        loop {
            let sent = cluster.send(Permitted::callout(get("/")), deadlines).await;
            if sent.is_ok_and(|(_, peer)| peer.address == bad.address) {
                return;
            }
        }
    })
    .await;
}

/// An origin of HTTP/2 whose connections answer as `answers` says of their number.
async fn serving(bench: &Bench, answers: fn(usize) -> bool) -> Origin {
    Origin::start(bench, move |peer, number| async move {
        let mut connection = h2::server::handshake(peer.stream).await.expect("HTTP/2");
        let mut unanswered = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            match answers(number) {
                true => drop(respond.send_response(http::Response::new(()), true)),
                false => unanswered.push((request, respond)),
            }
        }
    })
    .await
}

#[tokio::test]
async fn refused_connections_eject_and_so_do_answers_that_do_not_come() {
    let bench = Bench::new(limits(LONG));
    let good = Origin::answering(&bench, HELLO).await;
    let dead = refusing();
    let cluster = bench.http1(&[good.address, dead]);
    // A refused connection is a second choice for a second: ask until it was chosen often enough.
    within(async {
        while ejected(&bench) != [dead] {
            assert_eq!(successes(&cluster, 8).await, 8, "another endpoint answers");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    let (bench, cluster, silent) = beside_a_silent_one().await;
    let per_try = Some(Duration::from_millis(20));
    for _ in 0..60 {
        let deadlines = Deadlines { per_try, ..Deadlines::default() };
        let answer = within(cluster.send(Permitted::callout(get("/")), deadlines)).await;
        drop(answer);
    }
    assert_eq!(ejected(&bench), [silent]);
}

#[tokio::test]
async fn callers_with_little_time_eject_nobody() {
    let (bench, cluster, _) = beside_a_silent_one().await;
    let mut late = 0;
    for _ in 0..60 {
        let request = Some(Instant::now() + Duration::from_millis(20));
        let deadlines = Deadlines { request, callers: true, ..Deadlines::default() };
        let answer = within(cluster.send(Permitted::callout(get("/")), deadlines)).await;
        late += usize::from(matches!(answer, Err(UpstreamError::ResponseTimeout)));
    }
    assert!(late > 3, "{late} of 60 waited for the silent one");
    assert_eq!(ejected(&bench), []);
}

#[tokio::test]
async fn clients_that_stall_their_uploads_eject_nobody() {
    let (bench, cluster, _) = beside_a_silent_one().await;
    let per_try = Some(Duration::from_millis(20));
    let mut late = 0;
    for _ in 0..60 {
        let (_client, body) = fed();
        let deadlines = Deadlines { per_try, ..Deadlines::default() };
        let stalled = request(Method::POST, "/", body);
        let answer = within(cluster.send(Permitted::callout(stalled), deadlines)).await;
        late += usize::from(matches!(answer, Err(UpstreamError::ResponseTimeout)));
    }
    assert!(late > 3, "{late} of 60 waited for the silent one");
    assert_eq!(ejected(&bench), []);
}

#[tokio::test]
async fn a_success_begins_the_count_anew_and_other_errors_do_not_count() {
    let bench = Bench::new(limits(LONG));
    let good = Origin::answering(&bench, HELLO).await;
    let (asked, answered) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicU16::new(200)));
    let wavering = Origin::start(&bench, move |mut peer, _| {
        let asked = Arc::clone(&asked);
        async move {
            while peer.head().await.is_some() {
                // Two of three fail.
                let third = asked.fetch_add(1, Ordering::SeqCst) % 3 == 2;
                peer.write(if third { HELLO } else { BAD }).await;
            }
        }
    })
    .await;
    let cluster = bench.http1(&[good.address, wavering.address]);
    successes(&cluster, 60).await;
    assert_eq!(ejected(&bench), []);

    let faulty = answering_with(&bench, Arc::clone(&answered)).await;
    let cluster = bench.http1(&[good.address, faulty.address]);
    for status in [500, 404, 429] {
        answered.store(status, Ordering::SeqCst);
        successes(&cluster, 20).await;
        assert_eq!(ejected(&bench), [], "{status} is the service's own answer");
    }
}

#[tokio::test]
async fn few_endpoints_are_ejected_at_a_time_and_never_the_last() {
    let bench = Bench::new(limits(LONG));
    let bad = Origin::answering(&bench, BAD).await;
    successes(&bench.http1(&[bad.address]), 20).await;
    assert_eq!(ejected(&bench), [], "there is no other endpoint");

    let mut addresses = vec![bad.address];
    let mut origins = Vec::new();
    for _ in 1..20 {
        origins.push(Origin::answering(&bench, BAD).await);
    }
    addresses.extend(origins.iter().map(|origin| origin.address));
    let cluster = bench.http1(&addresses);
    successes(&cluster, 400).await;
    assert_eq!(ejected(&bench).len(), 2, "a tenth of twenty");
    let cluster = bench.http1(&addresses[..2]);
    assert!(send(&cluster, get("/")).await.is_ok(), "what is ejected is better than nothing");
}

#[tokio::test]
async fn an_ejected_endpoint_comes_back_and_is_left_out_twice_as_long_the_next_time() {
    let base = Duration::from_millis(200);
    let bench = Bench::new(limits(base));
    let good = Origin::answering(&bench, HELLO).await;
    let status = Arc::new(AtomicU16::new(503));
    let bad = answering_with(&bench, Arc::clone(&status)).await;
    let cluster = bench.http1(&[good.address, bad.address]);
    let mut times = Vec::new();
    for _ in 0..2 {
        within(async {
            while ejected(&bench).is_empty() {
                successes(&cluster, 1).await;
            }
        })
        .await;
        let figures = bench.upstreams.figures();
        times.extend(figures.iter().filter_map(|figures| figures.ejected_for));
        until(|| ejected(&bench).is_empty()).await;
    }
    assert!(times[0] <= base * 11 / 10, "{times:?}");
    assert!(base < times[1] && times[1] <= base * 22 / 10, "{times:?}");
    status.store(200, Ordering::SeqCst);
    within(async {
        loop {
            let response = send(&cluster, get("/")).await.expect("a response");
            let peer = *response.extensions().get::<UpstreamPeer>().expect("a peer");
            text(response.into_body()).await.expect("a whole body");
            if peer.address == bad.address {
                return;
            }
        }
    })
    .await;
    assert_eq!(ejected(&bench), []);
}

#[tokio::test]
async fn an_ejection_outlives_the_snapshot() {
    let bench = Bench::new(limits(LONG));
    let good = Origin::answering(&bench, HELLO).await;
    let bad = Origin::answering(&bench, BAD).await;
    let addresses = [good.address, bad.address];
    let cluster = bench.http1(&addresses);
    successes(&cluster, 60).await;
    let next = bench.http1(&addresses);
    drop(cluster);
    assert_eq!(ejected(&bench), [bad.address]);
    assert_eq!(successes(&next, 60).await, 60);
}

#[tokio::test]
async fn ejections_are_counted_by_service_and_reason() {
    let bench = Bench::new(limits(LONG));
    let mut registry = prometheus_client::registry::Registry::default();
    bench.upstreams.register(&mut registry);
    let good = Origin::answering(&bench, HELLO).await;
    let bad = Origin::answering(&bench, BAD).await;
    successes(&bench.http1(&[good.address, bad.address]), 60).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    let ejections =
        "waypoint_upstream_ejections_total{service=\"ns/service\",reason=\"gateway_error\"} 1";
    // The cluster is gone, and with it the endpoint.
    for line in [ejections, "waypoint_upstream_ejected_endpoints 0"] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
}
