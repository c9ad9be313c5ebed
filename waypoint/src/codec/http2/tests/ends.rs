//! How streams and connections end.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, sync::oneshot};

use super::*;
use crate::codec::{
    HTTP2_PREFACE,
    testing::{DropBell, Endless, Once},
};

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

#[tokio::test]
async fn a_stream_whose_head_is_too_much_beside_those_that_run_is_refused() {
    let rig = Rig::start(Setup::default(), |_, _| pending());
    let mut client = connect(&rig).await;
    let long = || {
        let request = Request::get("http://test/").header("x-long", "x".repeat(15 * 1024));
        request.body(()).expect("a request")
    };
    let fit = Setup::default().limits.live_heads_bytes / (15 * 1024 + 38);
    let mut held = Vec::new();
    for _ in 0..fit {
        held.push(send(&mut client, long(), true).await);
    }

    let (refused, _) = send(&mut client, long(), true).await;

    let error = patiently(refused).await.expect_err("it is refused");
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    assert_eq!(rig.refused(), [Refusal::LiveHeadsTooLong]);
    for (mut held, _) in held {
        assert!((&mut held).now_or_never().is_none(), "the others go on");
    }
}

/// A client that allows everything, asks often, and never reads.
async fn never_reading(rig: &Rig, streams: u8) -> TcpStream {
    let frame = |kind, flags, stream, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut bytes = HTTP2_PREFACE.to_vec();
    // SETTINGS with the largest initial window; WINDOW_UPDATE of the connection by as much.
    bytes.extend(frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    bytes.extend(frame(8, 0, 0, &[0x7f, 0xff, 0, 0]));
    for stream in (1..).step_by(2).take(usize::from(streams)) {
        // HEADERS with its end and the stream's: GET / of http://test.
        bytes.extend(frame(1, 5, stream, b"\x82\x84\x86\x41\x04test"));
    }
    let mut client = TcpStream::connect(rig.address).await.expect("the server listens");
    socket2::SockRef::from(&client).set_recv_buffer_size(16 * 1024).expect("a socket");
    client.write_all(&bytes).await.expect("the server reads");
    client
}

#[tokio::test]
async fn all_streams_of_a_connection_together_queue_no_more_than_its_bound() {
    const FRAME_BYTES: usize = 1024;
    /// What the two kernels may hold besides.
    const SOCKET_BYTES: usize = 1024 * 1024;
    let taken: Arc<Mutex<usize>> = Arc::default();
    let counted = Arc::clone(&taken);
    let rig = Rig::start(Setup::default(), move |_, _| {
        let (taken, (bell, _)) = (Arc::clone(&counted), DropBell::new());
        let frame = Bytes::from(vec![0; FRAME_BYTES]);
        let body = Body::from_frames(Endless { frame, taken, _bell: bell });
        async { Response::new(body) }
    });
    let limits = Setup::default().limits;
    let streams = u8::try_from(limits.h2_streams_max).expect("few");
    let _client = never_reading(&rig, streams).await;

    // Nothing tells that a body is not asked for any more: it has not been for a while.
    let mut before = 0;
    while before == 0 || before != *taken.lock() {
        before = *taken.lock();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let in_hand = usize::from(streams) * FRAME_BYTES;
    assert!(before <= limits.send_buffer_bytes + in_hand + SOCKET_BYTES, "{before}");
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
