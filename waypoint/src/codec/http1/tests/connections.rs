//! Connections: their times, their ends, and clients that leave.

use std::{future::pending, time::Duration};

use futures_util::stream;
use http::Response;
use tokio::{io::AsyncWriteExt, sync::oneshot};

use super::{ask, paths, with};
use crate::codec::{
    Body, Refusal,
    testing::{DropBell, Once, Rig, Setup, patiently},
};

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_half_close_behind_a_request_keeps_its_answer() {
    let (go, wait) = oneshot::channel::<()>();
    let wait = Once::new(wait);
    let rig = Rig::start(Setup::default(), move |_, _| {
        let wait = wait.take();
        async move {
            wait.await.expect("the test is there");
            Response::new(Body::full("answer"))
        }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    client.stream.shutdown().await.expect("still open");
    go.send(()).expect("the journey was not dropped by the FIN");
    assert!(client.rest().await.ends_with("\r\n\r\nanswer"));
}

#[tokio::test]
async fn a_reset_drops_the_journey_before_its_answer() {
    let (bell, dropped) = DropBell::new();
    let (begun, wait) = oneshot::channel();
    let held = Once::new((bell, begun));
    let rig = Rig::start(Setup::default(), move |_, _| {
        let (bell, begun) = held.take();
        async move {
            let _bell = bell;
            begun.send(()).expect("the test waits");
            pending().await
        }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    patiently(wait).await.expect("it begins");
    client.reset();
    assert_eq!(patiently(dropped).await, Ok(()));
}

#[tokio::test]
async fn a_reset_drops_an_answer_that_waits() {
    let (bell, dropped) = DropBell::new();
    let bell = Once::new(bell);
    let rig = Rig::start(Setup::default(), move |_, _| {
        let bell = bell.take();
        let frames = stream::once(async move {
            let _bell = bell;
            pending().await
        });
        async { Response::new(Body::from_frames(frames)) }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    client.until("\r\n\r\n").await;
    client.reset();
    assert_eq!(patiently(dropped).await, Ok(()));
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_answered_with_408() {
    let rig = Rig::echo(with(|limits| limits.head_timeout = SOON));
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHo").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    assert_eq!(rig.refused(), [Refusal::HeadTimeout]);
}

#[tokio::test]
async fn a_head_that_drips_gains_no_time() {
    let rig = Rig::echo(with(|limits| limits.head_timeout = 4 * SOON));
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\n").await;
    let mut drip = tokio::time::interval(SOON / 5);
    let mut drops = 0;
    while client.stream.try_write(b"a: b\r\n").is_ok() && drops < 1_000 {
        drip.tick().await;
        drops += 1;
        if rig.refused() == [Refusal::HeadTimeout] {
            return;
        }
    }
    panic!("{drops} drops");
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let rig = Rig::echo(with(|limits| limits.idle_timeout = SOON));
    let mut fresh = rig.client().await;
    assert_eq!(fresh.rest().await, "");
    let mut used = rig.client().await;
    ask(&mut used, "GET /", "").await;
    used.until("\r\n\r\n").await;
    assert_eq!(used.rest().await, "");
    assert_eq!(rig.refused(), []);
}

#[tokio::test]
async fn a_connection_that_has_given_its_buffers_back_serves_on_and_is_closed_in_time() {
    let rig = Rig::echo(with(|limits| limits.idle_timeout = Duration::from_secs(3)));
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    client.until("\r\n\r\n").await;
    // Longer than the time after which it rests.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    ask(&mut client, "GET /", "").await;
    client.until("\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_finishes_what_is_in_flight() {
    let (go, wait) = oneshot::channel::<()>();
    let (begun, begins) = oneshot::channel();
    let held = Once::new((begun, wait));
    let rig = Rig::start(Setup::default(), move |request, _| {
        let held = (request.uri().path() == "/slow").then(|| held.take());
        async move {
            if let Some((begun, wait)) = held {
                begun.send(()).expect("the test waits");
                wait.await.expect("the test is there");
            }
            Response::new(Body::full("done"))
        }
    });
    let mut idle = rig.client().await;
    ask(&mut idle, "GET /", "").await;
    idle.until("done").await;
    let mut busy = rig.client().await;
    ask(&mut busy, "GET /", "").await;
    busy.until("done").await;
    ask(&mut busy, "GET /slow", "").await;
    patiently(begins).await.expect("it begins");
    rig.drain.close();
    assert_eq!(idle.rest().await, "");
    go.send(()).expect("the journey goes on");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone";
    assert_eq!(busy.rest().await, answer);
    drop((idle, busy));
    assert!(rig.drain.drain(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn a_drain_waits_a_moment_for_the_first_request_of_a_new_connection() {
    let rig = paths();
    let mut client = rig.client().await;
    let mut other = rig.client().await;
    // Both were accepted once the second one is answered.
    ask(&mut other, "GET /other", "").await;
    other.until("/other").await;
    rig.drain.close();
    ask(&mut client, "GET /first", "").await;
    assert!(client.rest().await.ends_with("connection: close\r\n\r\n/first"));
}

#[tokio::test]
async fn past_its_limit_a_drain_cuts_the_journey() {
    let (bell, dropped) = DropBell::new();
    let (begun, wait) = oneshot::channel();
    let held = Once::new((bell, begun));
    let rig = Rig::start(Setup::default(), move |_, _| {
        let (bell, begun) = held.take();
        async move {
            let _bell = bell;
            begun.send(()).expect("the test waits");
            pending().await
        }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    patiently(wait).await.expect("it begins");
    assert!(!rig.drain.drain(SOON).await);
    assert_eq!(patiently(dropped).await, Ok(()));
    assert_eq!(client.rest().await, "");
}
