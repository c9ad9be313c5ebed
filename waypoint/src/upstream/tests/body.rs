//! HTTP/1 response bodies: how they end, and how long they are waited for.

use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::origin::{Ending, Origin, Peer};
use super::*;

/// An origin that writes `response` after a head and then does `then` with the connection.
async fn origin(bench: &Bench, response: &'static str, then: Ending) -> Origin {
    Origin::start(bench, move |mut peer, _| async move {
        peer.head().await;
        peer.write(response).await;
        // What was written has arrived before a reset takes it away.
        tokio::time::sleep(Duration::from_millis(20)).await;
        then(peer);
    })
    .await
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error_and_never_a_clean_end() {
    let cases: [(&str, Ending, BodyError); 5] = [
        ("content-length: 9\r\n\r\nhello", drop, BodyError::UpstreamTruncated),
        ("transfer-encoding: chunked\r\n\r\n9\r\nhello", drop, BodyError::UpstreamTruncated),
        ("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", drop, BodyError::UpstreamTruncated),
        ("content-length: 9\r\n\r\nhello", Peer::reset, BodyError::UpstreamReset),
        ("connection: close\r\n\r\nhello", Peer::reset, BodyError::UpstreamReset),
    ];
    for (rest, then, wanted) in cases {
        let bench = Bench::new(UpstreamLimits::default());
        let response = format!("HTTP/1.1 200 OK\r\n{rest}").leak();
        let origin = origin(&bench, response, then).await;
        let response = send(&bench.http1(&[origin.address]), get("/")).await.expect("a head");
        let (bytes, end) = read(response.into_body()).await;
        assert_eq!((bytes.as_slice(), end), (b"hello".as_slice(), Err(wanted)), "{rest:?}");
        assert_eq!(bench.outstanding(), 0);
    }
}

#[tokio::test]
async fn chunks_that_are_none_are_malformed() {
    let bench = Bench::new(UpstreamLimits::default());
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n";
    let origin = origin(&bench, answer, drop).await;
    let response = send(&bench.http1(&[origin.address]), get("/")).await.expect("a head");
    let (bytes, end) = read(response.into_body()).await;
    assert_eq!((bytes.as_slice(), end), (b"hello".as_slice(), Err(BodyError::UpstreamMalformed)));
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_whole() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = origin(&bench, "HTTP/1.1 200 OK\r\n\r\nhello", drop).await;
    assert_eq!(fetch(&bench.http1(&[origin.address]), get("/")).await.1, "hello");
    assert_eq!(bench.upstreams.figures().len(), 0);
}

#[tokio::test]
async fn trailers_of_a_chunked_body_are_passed_on() {
    let bench = Bench::new(UpstreamLimits::default());
    let answer =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let origin = Origin::answering(&bench, answer).await;
    let cluster = bench.http1(&[origin.address]);
    for _ in 0..2 {
        let mut body = send(&cluster, get("/")).await.expect("a response").into_body();
        let first = within(body.frame()).await.expect("a frame").expect("data");
        assert_eq!(first.into_data().ok(), Some(Bytes::from("ok")));
        let second = within(body.frame()).await.expect("a frame").expect("trailers");
        assert_eq!(second.into_trailers().expect("trailers")["x-sum"], "7");
        assert!(within(body.frame()).await.is_none());
    }
    assert_eq!((origin.accepted(), bench.outstanding()), (1, 0));
}

#[tokio::test]
async fn a_half_read_response_closes_its_connection() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut closed) = mpsc::channel(1);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let seen = seen.clone();
        async move {
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
            let _ = seen.send(peer.closed().await).await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let mut body = send(&cluster, get("/")).await.expect("a response").into_body();
    within(body.frame()).await.expect("a frame").expect("data");
    assert_eq!(bench.outstanding(), 1);
    drop(body);
    within(closed.recv()).await.expect("closed");
    assert_eq!(bench.outstanding(), 0);
    let figures = bench.upstreams.figures();
    assert_eq!((figures[0].connections, figures[0].idle), (0, 0));
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_origin() {
    const OFFERED: usize = 64 * 1024 * 1024;
    const HELD_MAX: usize = 8 * 1024 * 1024; // Almost all of it in the two sockets.
    let bench = Bench::new(UpstreamLimits::default());
    let (report, mut written) = mpsc::channel(1);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let report = report.clone();
        async move {
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n").await;
            let chunk = vec![b'x'; 64 * 1024];
            let mut count = 0;
            let stalled = Duration::from_millis(300);
            while count < OFFERED {
                let write = peer.stream.write(&chunk[..chunk.len().min(OFFERED - count)]);
                match tokio::time::timeout(stalled, write).await {
                    Ok(Ok(some)) => count += some,
                    Ok(Err(_)) => return,
                    Err(_) => {
                        let _ = report.try_send(count);
                    }
                }
            }
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let response = send(&cluster, get("/")).await.expect("a response");
    let held = within(written.recv()).await.expect("a stall");
    assert!(held < HELD_MAX, "{held} bytes were taken from the origin");
    let (bytes, end) = read(response.into_body()).await;
    assert_eq!((bytes.len(), end), (OFFERED, Ok(())));
}

#[tokio::test]
async fn a_silent_body_ends_after_its_idle_time_and_at_the_deadline() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello";
    let short = Duration::from_millis(60);
    let long = Duration::from_secs(60);
    for wanted in [BodyError::UpstreamIdle, BodyError::Deadline] {
        let idle = Deadlines { body_idle: short, ..Deadlines::default() };
        let late = Some(Instant::now() + short);
        let late = Deadlines { request: late, body_idle: long, ..Deadlines::default() };
        let deadlines = if wanted == BodyError::Deadline { late } else { idle };
        let bench = Bench::new(UpstreamLimits::default());
        let origin = Origin::answering(&bench, answer).await;
        let cluster = bench.http1(&[origin.address]);
        let (response, _) = within(cluster.send(Permitted::callout(get("/")), deadlines))
            .await
            .expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        let (bytes, end) = read(response.into_body()).await;
        assert_eq!((bytes.as_slice(), end), (b"hello".as_slice(), Err(wanted)));
        assert_eq!(bench.outstanding(), 0);
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_taken_for_a_silent_origin() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n").await;
        for part in ["a", "b", "c", "d", "e", "f"] {
            tokio::time::sleep(Duration::from_millis(30)).await;
            peer.write(part).await;
        }
        peer.closed().await;
    })
    .await;
    let deadlines = Deadlines { body_idle: Duration::from_millis(120), ..Deadlines::default() };
    let cluster = bench.http1(&[origin.address]);
    let mut body = within(cluster.send(Permitted::callout(get("/")), deadlines))
        .await
        .expect("a head")
        .0
        .into_body();
    within(body.frame()).await.expect("a frame").expect("data");
    tokio::time::sleep(Duration::from_millis(100)).await; // The reader takes its time.
    assert_eq!(text(body).await, Ok("bcdef".to_owned()));
}
