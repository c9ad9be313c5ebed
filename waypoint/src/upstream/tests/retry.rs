//! What is tried again, and what never is.

use http::StatusCode;
use tokio::sync::mpsc;

use super::origin::{Ending, Origin, Peer, black_hole, refusing};
use super::*;
use crate::upstream::UpstreamPeer;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// An origin whose connections answer one request each and then die without a word when they have
/// read the next; it reports every head.
async fn dying_when_reused(bench: &Bench) -> (Origin, mpsc::Receiver<(usize, String)>) {
    let (heads, seen) = mpsc::channel(16);
    let origin = Origin::start(bench, move |mut peer, number| {
        let heads = heads.clone();
        async move {
            let first = peer.head().await.unwrap_or_default();
            let _ = heads.send((number, first)).await;
            peer.write(HELLO).await;
            if let Some(second) = peer.head().await {
                let _ = heads.send((number, second)).await;
            }
        }
    })
    .await;
    (origin, seen)
}

fn attempts(response: &Response<Body>) -> u32 {
    response.extensions().get::<UpstreamPeer>().expect("a peer").attempts
}

#[tokio::test]
async fn a_get_on_a_reused_connection_that_died_is_sent_once_more() {
    let bench = Bench::new(UpstreamLimits::default());
    let (origin, mut seen) = dying_when_reused(&bench).await;
    let cluster = bench.http1(&[origin.address]);
    fetch(&cluster, get("/1")).await;
    let response = send(&cluster, get("/2")).await.expect("a response");
    assert_eq!((response.status(), attempts(&response)), (StatusCode::OK, 2));
    let mut heads = Vec::new();
    for _ in 0..3 {
        let (number, head) = seen.recv().await.expect("a head");
        heads.push((number, head.split(' ').nth(1).expect("a path").to_owned()));
    }
    assert_eq!(heads, [(0, "/1".into()), (0, "/2".into()), (1, "/2".into())]);
}

#[tokio::test]
async fn a_post_or_a_get_with_a_body_is_never_sent_twice() {
    for method in [http::Method::POST, http::Method::GET, http::Method::DELETE] {
        let bench = Bench::new(UpstreamLimits::default());
        let (origin, mut seen) = dying_when_reused(&bench).await;
        let cluster = bench.http1(&[origin.address]);
        fetch(&cluster, get("/1")).await;
        let second = request(method, "/2", Body::full(Bytes::from("body")));
        let error = send(&cluster, second).await.expect_err("no response");
        assert!(matches!(error, UpstreamError::ResetBeforeHead { .. }), "{error:?}");
        drop((cluster, bench));
        assert_eq!(seen.recv().await.expect("a head").0, 0);
        assert_eq!(seen.recv().await.expect("a head").0, 0);
        assert_eq!((origin.accepted(), seen.try_recv().is_err()), (1, true));
    }
}

#[tokio::test]
async fn a_get_is_sent_only_once_more() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, number| async move {
        peer.head().await;
        if number == 0 {
            peer.write(HELLO).await;
            peer.head().await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    fetch(&cluster, get("/1")).await;
    let error = send(&cluster, get("/2")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::ResetBeforeHead { .. }), "{error:?}");
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        peer.head().await;
        peer.write(HELLO).await;
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    for _ in 0..3 {
        assert_eq!(fetch(&cluster, post("/", "body")).await.1, "hello");
        tokio::time::sleep(Duration::from_millis(20)).await; // The FIN arrives.
    }
    assert_eq!(origin.accepted(), 3);
}

#[tokio::test]
async fn a_death_before_or_within_the_first_answer_is_not_tried_again() {
    let cases: [(&str, Ending); 3] =
        [("", drop), ("", Peer::reset), ("HTTP/1.1 200 OK\r\ncontent-le", drop)];
    for (written, end) in cases {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = Origin::start(&bench, move |mut peer, number| async move {
            peer.head().await;
            if number == 0 && !written.is_empty() {
                peer.write(HELLO).await; // So that the connection is reused.
                peer.head().await;
            }
            peer.write(written).await;
            end(peer);
        })
        .await;
        let cluster = bench.http1(&[origin.address]);
        if !written.is_empty() {
            fetch(&cluster, get("/")).await;
        }
        let error = send(&cluster, get("/")).await.expect_err("no response");
        assert!(matches!(error, UpstreamError::ResetBeforeHead { .. }), "{error:?}");
        assert_eq!((origin.accepted(), bench.outstanding()), (1, 0), "{written:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_leads_to_another_endpoint() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::answering(&bench, HELLO).await;
    let dead = refusing();
    let cluster = bench.http1(&[dead, origin.address, refusing()]);
    for _ in 0..20 {
        assert_eq!(fetch(&cluster, post("/", "body")).await.1, "hello");
    }
    let error = send(&bench.http1(&[dead]), get("/")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::ConnectRefused { address } if address == dead));
}

#[tokio::test]
async fn attempts_are_bounded() {
    let bench = Bench::new(UpstreamLimits { attempts_max: 2, ..Default::default() });
    let origin = Origin::answering(&bench, HELLO).await;
    let dead = [refusing(), refusing(), refusing()];
    let error = send(&bench.http1(&dead), get("/")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::ConnectRefused { .. }), "{error:?}");
    assert_eq!(origin.accepted(), 0);
}

#[tokio::test]
async fn an_endpoint_that_answers_no_syn_costs_the_connect_timeout_once() {
    let connect_timeout = Duration::from_millis(100);
    let bench = Bench::new(UpstreamLimits { connect_timeout, ..Default::default() });
    let hole = black_hole().await;
    let origin = Origin::answering(&bench, HELLO).await;
    let cluster = bench.http1(&[hole.address, origin.address]);
    let mut slow = 0;
    for _ in 0..20 {
        let response = send(&cluster, get("/")).await.expect("a response");
        slow += attempts(&response) - 1;
        text(response.into_body()).await.expect("a whole body");
    }
    assert!(slow <= 1, "{slow} requests waited for the black hole");
    let error = send(&bench.http1(&[hole.address]), get("/")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::ConnectTimeout { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_given_up_at_the_deadline() {
    let limit = Duration::from_millis(60);
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut closed) = mpsc::channel(2);
    let origin = Origin::start(&bench, move |peer, _| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(peer.closed().await).await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    for per_try in [true, false] {
        let request = tokio::time::Instant::now() + limit;
        let deadlines = match per_try {
            true => Deadlines { per_try: Some(limit), ..Deadlines::default() },
            false => Deadlines { request: Some(request), ..Deadlines::default() },
        };
        let error = within(cluster.send(Permitted::callout(get("/")), deadlines))
            .await
            .map(drop)
            .expect_err("no response");
        assert!(matches!(error, UpstreamError::ResponseTimeout), "{error:?}");
        within(closed.recv()).await.expect("the connection was closed");
        assert_eq!(bench.outstanding(), 0);
    }
}

#[tokio::test]
async fn an_upload_may_take_longer_than_the_endpoint_may_be_silent() {
    let limit = Duration::from_millis(500);
    let deadlines = Deadlines { silence: Some(limit), ..Deadlines::default() };
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, number| async move {
        peer.head().await;
        if number == 0 {
            let body = peer.until(b"0\r\n\r\n").await;
            assert_eq!(body.as_deref(), Some("2\r\nsl\r\n2\r\now\r\n0\r\n\r\n"));
            peer.write("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
        peer.closed().await;
    })
    .await;
    let cluster = bench.http1(&[origin.address]);

    let (client, body) = fed();
    let upload = request(Method::POST, "/", body);
    let mut sending = std::pin::pin!(cluster.send(Permitted::callout(upload), deadlines));
    // The client takes its time, more than once.
    for piece in ["sl", "ow"] {
        let early = tokio::time::timeout(2 * limit, sending.as_mut()).await;
        assert!(early.is_err(), "{:?}", early.map(|answer| answer.map(drop)));
        client.send(data(piece)).await.unwrap();
    }
    drop(client);
    let (response, _) = within(sending).await.expect("a response");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    drop(response);

    // Once the request is whole, it is the endpoint that is waited for.
    let asked = Permitted::callout(post("/", "whole"));
    let error = within(cluster.send(asked, deadlines)).await.map(drop).expect_err("no response");
    assert!(matches!(error, UpstreamError::ResponseTimeout), "{error:?}");
}

#[tokio::test]
async fn an_endpoint_that_takes_no_more_of_an_upload_is_waited_for_like_a_silent_one() {
    let deadlines = Deadlines { silence: Some(Duration::from_millis(200)), ..Deadlines::default() };
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |peer, _| async move {
        let _unread = peer;
        std::future::pending::<()>().await;
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let (client, body) = fed();
    let endless = async { while client.send(data(vec![b'x'; 64 * 1024])).await.is_ok() {} };
    let sending = cluster.send(Permitted::callout(request(Method::POST, "/", body)), deadlines);
    let (answer, ()) = within(futures_util::future::join(sending, endless)).await;
    let error = answer.map(drop).expect_err("no response");
    assert!(matches!(error, UpstreamError::ResponseTimeout), "{error:?}");
}

#[tokio::test]
async fn a_dropped_request_closes_its_connection() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut events) = mpsc::channel(2);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let seen = seen.clone();
        async move {
            peer.head().await;
            let _ = seen.send(()).await;
            peer.closed().await;
            let _ = seen.send(()).await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    {
        let mut sending =
            std::pin::pin!(cluster.send(Permitted::callout(get("/")), Deadlines::default()));
        let arrived = std::pin::pin!(events.recv());
        within(futures_util::future::select(&mut sending, arrived)).await;
    }
    within(events.recv()).await.expect("the connection was closed");
    assert_eq!(bench.outstanding(), 0);
}
