//! Idle connections, and the lanes that use them.

use std::sync::Arc;

use tokio::sync::{Barrier, mpsc, oneshot};

use super::origin::Origin;
use super::*;
use crate::lanes::{Home, Lanes};

/// Sends a request in a lane and gives the answer's body: the number of the connection.
async fn fetch_in(lanes: &Lanes, lane: usize, bench: &Bench, cluster: &Cluster) -> String {
    let (sender, answer) = oneshot::channel();
    let cluster = cluster.clone();
    lanes.serve_in(lane, &bench.tasks, async move {
        let (_, text) = fetch(&cluster, get("/")).await;
        sender.send(text).expect("the test waits");
    });
    within(answer).await.expect("an answer")
}

fn numbered(connection: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{connection}")
}

#[tokio::test]
async fn a_lane_uses_the_idle_connection_that_it_used_last() {
    let ((lanes, _end), bench) = (Lanes::of(2), Bench::new(UpstreamLimits::default()));
    let both = Arc::new(Barrier::new(2));
    let origin = Origin::start(&bench, move |mut peer, connection| {
        let both = both.clone();
        async move {
            peer.head().await;
            both.wait().await; // So that there are two.
            peer.write(&numbered(connection)).await;
            while peer.head().await.is_some() {
                peer.write(&numbered(connection)).await;
            }
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let own =
        tokio::join!(fetch_in(&lanes, 0, &bench, &cluster), fetch_in(&lanes, 1, &bench, &cluster));
    for _ in 0..4 {
        let again = tokio::join!(
            fetch_in(&lanes, 0, &bench, &cluster),
            fetch_in(&lanes, 1, &bench, &cluster)
        );
        assert_eq!(again, own);
    }
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_lane_without_an_idle_connection_takes_that_of_another() {
    let ((lanes, _end), bench) = (Lanes::of(2), Bench::new(UpstreamLimits::default()));
    let origin = Origin::start(&bench, |mut peer, connection| async move {
        while peer.head().await.is_some() {
            peer.write(&numbered(connection)).await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    for lane in [0, 1, 1, 0, 1] {
        fetch_in(&lanes, lane, &bench, &cluster).await;
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn what_came_to_an_idle_connection_of_another_lane_answers_nobody() {
    let ((lanes, _end), bench) = (Lanes::of(2), Bench::new(UpstreamLimits::default()));
    let (say, mut said) = mpsc::unbounded_channel();
    let origin = Origin::start(&bench, move |mut peer, connection| {
        let say = say.clone();
        async move {
            peer.head().await;
            peer.write(&numbered(connection)).await;
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
            say.send(()).expect("the test listens");
            peer.closed().await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    for round in 0..10 {
        let answer = fetch_in(&lanes, round % 2, &bench, &cluster).await;
        assert_eq!(answer, round.to_string());
        within(said.recv()).await.expect("it was said");
    }
}

#[tokio::test]
async fn a_request_to_an_endpoint_of_http2_goes_on_on_the_workers() {
    let ((lanes, _end), bench) = (Lanes::of(2), Bench::new(UpstreamLimits::default()));
    let origin = http2::serve(&bench, h2::server::Builder::new(), http2::say_hello).await;
    let cluster = bench.http2(&[origin.address]);
    let (sender, answer) = oneshot::channel();
    lanes.serve_in(1, &bench.tasks, async move {
        let begun = Home::here();
        let (_, text) = fetch(&cluster, get("/")).await;
        sender.send((begun, text, Home::here())).expect("the test waits");
    });
    let wanted = (Home::Lane(1), "hello".to_owned(), Home::Workers);
    assert_eq!(within(answer).await.expect("an answer"), wanted);
}
