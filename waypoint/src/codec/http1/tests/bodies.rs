//! Bodies in both directions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame};
use tokio::sync::oneshot;

use super::{ask, open, with};
use crate::codec::{
    Body, BodyError, Refusal,
    testing::{DropBell, Endless, Once, Rig, Setup, patiently},
};

/// More than any kernel holds for a client that does not read, in bytes.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

#[tokio::test]
async fn a_body_of_known_length_streams_through() {
    let rig = Rig::echo(Setup::default());
    let mut client = rig.client().await;
    ask(&mut client, "POST /", "Content-Length: 6\r\n").await;
    // The answer's head comes while the body is still under way.
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n");
    for part in ["ab", "cd", "ef"] {
        client.send(part).await;
        assert_eq!(client.until(part).await, part);
    }
    ask(&mut client, "POST /", "Content-Length: 0\r\n").await;
    assert!(client.until("\r\n\r\n").await.contains("content-length: 0\r\n"));
}

#[tokio::test]
async fn a_chunked_body_streams_through_with_its_trailers() {
    let mut client = Rig::echo(Setup::default()).client().await;
    ask(&mut client, "POST /", "Transfer-Encoding: chunked\r\n").await;
    client.send("3;ext=1\r\nabc\r\n").await;
    let begin = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    assert_eq!(client.until("abc\r\n").await, begin);
    client.send("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n");
    assert!(client.until("\r\n\r\n").await.contains("content-length: 0\r\n"));
}

#[tokio::test]
async fn large_frames_arrive_whole_and_in_order() {
    let frames = [5_000, 3, 100_000, 4_096, 70_000].map(|size| Bytes::from(vec![b'x'; size]));
    let rig = Rig::start(Setup::default(), move |_, _| {
        let frames = frames.clone();
        async move { Response::new(Body::from_frames(stream::iter(frames.map(|f| Ok(Frame::data(f)))))) }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "Connection: close\r\n").await;
    let answer = client.rest().await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let want = [5_000, 3, 100_000, 4_096, 70_000]
        .map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(size)))
        .concat();
    assert!(body == want + "0\r\n\r\n", "{} bytes", body.len());
}

#[tokio::test]
async fn the_journey_sees_a_length_only_if_there_is_one() {
    let rig = Rig::start(Setup::default(), |request, _| async move {
        let hint = request.body().size_hint().exact();
        Response::new(Body::full(format!("{hint:?}")))
    });
    let mut client = rig.client().await;
    ask(&mut client, "POST /", "Content-Length: 3\r\n").await;
    client.send("abc").await;
    client.until("Some(3)").await;
    ask(&mut client, "POST /", "Transfer-Encoding: chunked\r\n").await;
    client.send("0\r\n\r\n").await;
    client.until("None").await;
    ask(&mut client, "POST /", "").await;
    client.until("Some(0)").await;
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_when_the_body_is_asked_for() {
    let mut client = Rig::echo(Setup::default()).client().await;
    // The echo's answer begins at once; the journey below asks first.
    ask(&mut client, "POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n").await;
    client.send("abc").await;
    assert!(client.until("abc").await.starts_with("HTTP/1.1 200 OK\r\n"));

    let rig = Rig::start(Setup::default(), |request, _| async move {
        let mut body = request.into_body();
        let frame = body.frame().await.expect("a frame").expect("no error");
        Response::new(Body::full(frame.into_data().expect("data")))
    });
    let mut client = rig.client().await;
    for _ in 0..2 {
        ask(&mut client, "POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n").await;
        assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("abc").await;
        assert!(client.until("abc").await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn a_client_that_was_never_told_to_go_on_is_answered_and_closed() {
    let rig = Rig::start(Setup::default(), |_, _| async { Response::new(Body::full("no")) });
    let mut client = rig.client().await;
    ask(&mut client, "POST /", "Content-Length: 3\r\nExpect: 100-continue\r\n").await;
    assert_eq!(client.rest().await, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
}

#[tokio::test]
async fn a_small_body_that_nobody_read_is_skipped_and_a_large_one_ends_the_connection() {
    let rig = Rig::start(Setup::default(), |_, _| async { Response::new(Body::full("ok")) });
    let mut client = rig.client().await;
    for _ in 0..2 {
        ask(&mut client, "POST /", "Content-Length: 1000\r\n").await;
        client.send("x".repeat(1_000)).await;
        client.until("ok").await;
    }
    ask(&mut client, "POST /", "Content-Length: 10000000\r\n").await;
    client.send("x".repeat(100_000)).await;
    assert_eq!(client.rest().await, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
}

#[tokio::test]
async fn a_body_that_turns_out_malformed_is_answered_with_400_whatever_the_journey_says() {
    let (told, heard) = oneshot::channel();
    let told = Once::new(told);
    let rig = Rig::start(Setup::default(), move |request, _| {
        let told = told.take();
        async move {
            let mut body = request.into_body();
            let first = body.frame().await.map(|frame| frame.is_ok());
            let _ = told.send((first, body.frame().await.expect("an error").err()));
            Response::new(Body::full("fine"))
        }
    });
    let mut client = rig.client().await;
    ask(&mut client, "POST /", "Transfer-Encoding: chunked\r\n").await;
    client.send("3\r\nabcd\r\n0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.ends_with(Refusal::ChunkEndMalformed.name()), "{answer}");
    let reason = Refusal::ChunkEndMalformed.name();
    let error = BodyError::DownstreamMalformed { reason };
    assert_eq!(patiently(heard).await, Ok((Some(true), Some(error))));
}

#[tokio::test]
async fn a_body_that_stops_arriving_fails_in_time() {
    let limit = Duration::from_millis(50);
    let rig = Rig::start(with(|limits| limits.body_idle_timeout = limit), |request, _| async {
        let error = request.into_body().frame().await.expect("an error").err();
        Response::new(Body::full(format!("{error:?}")))
    });
    let mut client = rig.client().await;
    ask(&mut client, "POST /", "Content-Length: 3\r\n").await;
    assert!(client.rest().await.ends_with("connection: close\r\n\r\nSome(DownstreamIdle)"));
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_is_gone() {
    let (told, heard) = oneshot::channel();
    let told = Once::new(told);
    let rig = Rig::start(Setup::default(), move |request, _| {
        let told = told.take();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            let _ = told.send(body.is_end_stream());
            Response::new(Body::empty())
        }
    });
    let mut client = rig.client().await;
    ask(&mut client, "POST /", "Content-Length: 3\r\n").await;
    client.send("ab").await;
    drop(client);
    assert_eq!(patiently(heard).await, Ok(true));
}

#[tokio::test]
async fn an_answer_whose_body_fails_is_cut_and_cannot_look_complete() {
    let rig = Rig::start(Setup::default(), |_, _| async {
        let data = Ok(Frame::data(Bytes::from_static(b"abc")));
        let frames = stream::iter([data, Err(BodyError::UpstreamReset)]);
        Response::new(Body::from_frames(frames))
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    let cut = client.rest().await;
    assert!(!cut.contains("0\r\n\r\n"), "{cut}");
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let mut seen = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut seen);
    let error = patiently(read).await.expect_err("a FIN would look like the end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_declares_is_cut() {
    for length in [2, 4] {
        let rig = Rig::start(Setup::default(), move |_, _| async move {
            let mut response = Response::new(open("abc"));
            response.headers_mut().insert("content-length", length.into());
            response
        });
        let mut client = rig.client().await;
        ask(&mut client, "GET /", "").await;
        let answer = client.rest().await;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert_ne!(body.len(), length, "{answer}");
    }
}

#[tokio::test]
async fn trailers_of_an_answer_are_sent_and_forbidden_ones_are_not() {
    let rig = Rig::start(Setup::default(), |_, _| async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("content-length", HeaderValue::from_static("9"));
        let frames = [Ok(Frame::data(Bytes::from_static(b"abc"))), Ok(Frame::trailers(trailers))];
        Response::new(Body::from_frames(stream::iter(frames)))
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    client.until("\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "3\r\nabc\r\n0\r\ngrpc-status: 0\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_the_body_and_is_cut() {
    let taken = Arc::default();
    let (bell, dropped) = DropBell::new();
    let frame = Bytes::from(vec![0; 64 * 1024]);
    let body = Once::new(Endless { frame, taken: Arc::clone(&taken), _bell: bell });
    let limit = Duration::from_millis(200);
    let rig = Rig::start(with(|limits| limits.write_stall = limit), move |_, _| {
        let body = body.take();
        async move { Response::new(Body::from_frames(body)) }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    assert_eq!(patiently(dropped).await, Ok(()));
    let taken = *taken.lock();
    assert!((64 * 1024..HELD_BYTES_MAX).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_body_that_waits_lets_what_there_is_leave() {
    let (more, wait) = oneshot::channel::<()>();
    let wait = Once::new(wait);
    let rig = Rig::start(Setup::default(), move |_, _| {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
        let wait = wait.take();
        let second = stream::once(async move {
            wait.await.expect("the test is there");
            Ok(Frame::data(Bytes::from_static(b"second")))
        });
        async { Response::new(Body::from_frames(first.chain(second))) }
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    client.until("first").await;
    more.send(()).expect("the body waits");
    client.until("second\r\n0\r\n\r\n").await;
}
