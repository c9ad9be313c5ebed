//! How streams and connections end.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::*;
use crate::codec::testing::{DropBell, Endless, Once};

/// A server whose journey waits for ever, and what tells of its begin and of its end.
fn waiting() -> (Rig, oneshot::Receiver<()>, oneshot::Receiver<()>) {
    let (bell, dropped) = DropBell::new();
    let (begun, begins) = oneshot::channel();
    let held = Once::new((bell, begun));
    let rig = Rig::start(Setup::default(), move |_, _| {
        let (bell, begun) = held.take();
        async move {
            let _bell = bell;
            begun.send(()).expect("the test waits");
            pending().await
        }
    });
    (rig, begins, dropped)
}

#[tokio::test]
async fn a_reset_stream_drops_its_journey() {
    let (rig, begins, dropped) = waiting();
    let mut client = connect(&rig).await;
    let (_response, mut sending) = send(&mut client, get("/"), true).await;
    patiently(begins).await.expect("it begins");
    sending.send_reset(Reason::CANCEL);
    assert_eq!(patiently(dropped).await, Ok(()));
}

#[tokio::test]
async fn a_client_that_is_gone_drops_its_journeys() {
    let (rig, begins, dropped) = waiting();
    let stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(async move { drop(connection.await) });
    let (_response, _) = send(&mut client, get("/"), true).await;
    patiently(begins).await.expect("it begins");
    connection.abort();
    assert_eq!(patiently(dropped).await, Ok(()));
}

#[tokio::test]
async fn a_reset_stream_drops_an_answer_that_waits() {
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
    let mut client = connect(&rig).await;
    let (response, mut sending) = send(&mut client, get("/"), true).await;
    let _response = patiently(response).await.expect("an answer");
    sending.send_reset(Reason::CANCEL);
    assert_eq!(patiently(dropped).await, Ok(()));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_the_body_and_its_stream_is_reset() {
    let taken = Arc::default();
    let (bell, dropped) = DropBell::new();
    let frame = Bytes::from(vec![0; 16 * 1024]);
    let body = Once::new(Endless { frame, taken: Arc::clone(&taken), _bell: bell });
    let mut setup = Setup::default();
    setup.limits.write_stall = Duration::from_millis(100);
    let rig = Rig::start(setup, move |_, _| {
        let body = body.take();
        async move { Response::new(Body::from_frames(body)) }
    });
    let mut response = answer(&mut connect(&rig).await, get("/")).await;
    assert_eq!(patiently(dropped).await, Ok(()));
    // The client's window, what a stream may queue, and one frame.
    let limit = 64 * 1024 + setup_send_share() + 16 * 1024;
    assert!(*taken.lock() <= limit, "{}", taken.lock());
    let error = text(response.body_mut()).await.expect_err("it is cut");
    assert_eq!(error.reason(), Some(Reason::CANCEL));
}

fn setup_send_share() -> usize {
    Setup::default().limits.send_buffer_bytes / 4
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_the_streams_that_there_are() {
    let (go, wait) = oneshot::channel::<()>();
    let (begun, begins) = oneshot::channel();
    let held = Once::new((begun, wait));
    let rig = Rig::start(Setup::default(), move |_, _| {
        let (begun, wait) = held.take();
        async move {
            begun.send(()).expect("the test waits");
            wait.await.expect("the test is there");
            Response::new(Body::full("done"))
        }
    });
    let stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let (response, _) = send(&mut client, get("/"), true).await;
    patiently(begins).await.expect("it begins");
    rig.drain.close();
    go.send(()).expect("the journey goes on");
    let mut response = patiently(response).await.expect("an answer");
    assert_eq!(text(response.body_mut()).await.expect("no error"), "done");
    drop(response);
    // The server closes by itself, though the client holds on to the connection.
    patiently(connection).await.expect("no panic").expect("a clean end");
    assert!(client.ready().await.is_err());
    assert!(rig.drain.drain(Duration::from_secs(20)).await);
}

#[tokio::test]
async fn past_its_limit_a_drain_cuts_the_streams() {
    let (rig, begins, dropped) = waiting();
    let mut client = connect(&rig).await;
    let (response, _) = send(&mut client, get("/"), true).await;
    patiently(begins).await.expect("it begins");
    assert!(!rig.drain.drain(Duration::from_millis(50)).await);
    assert_eq!(patiently(dropped).await, Ok(()));
    assert!(patiently(response).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_goaway() {
    let mut setup = Setup::default();
    setup.limits.idle_timeout = Duration::from_millis(50);
    let rig = Rig::echo(setup);
    let stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    assert_eq!(answer(&mut client, get("/")).await.status(), StatusCode::OK);
    patiently(connection).await.expect("no panic").expect("a clean end");
}
