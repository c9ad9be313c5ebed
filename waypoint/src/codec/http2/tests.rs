//! HTTP/2 over real sockets: with `h2` as the client, and as bytes.

mod ends;
mod frames;
mod websocket;

use std::{
    sync::{Arc, Condvar, Mutex},
    thread::{self, ThreadId},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use tokio::net::TcpStream;

use crate::codec::{
    Body, BodyError, Refusal,
    testing::{Rig, Setup, patiently},
};

/// A client of the rig; its connection is driven by a task.
async fn connect(rig: &Rig) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    client
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).expect("a request")
}

async fn send(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
    ends: bool,
) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let mut ready = patiently(client.clone().ready()).await.expect("the connection is open");
    ready.send_request(request, ends).expect("a good request")
}

async fn answer(client: &mut SendRequest<Bytes>, request: Request<()>) -> Response<RecvStream> {
    let (response, _) = send(client, request, true).await;
    patiently(response).await.expect("an answer")
}

/// All data of an answer, given back to the server's window as it comes.
async fn text(receive: &mut RecvStream) -> Result<String, h2::Error> {
    let mut seen = Vec::new();
    while let Some(data) = patiently(receive.data()).await {
        let data = data?;
        receive.flow_control().release_capacity(data.len())?;
        seen.extend_from_slice(&data);
    }
    Ok(String::from_utf8(seen).expect("ASCII"))
}

#[tokio::test]
async fn prior_knowledge_is_enough_and_the_journey_sees_one_uri() {
    let rig = Rig::start(Setup::default(), |request, _| async move {
        assert_eq!((request.version(), request.method()), (Version::HTTP_2, &Method::GET));
        Response::new(Body::full(request.uri().to_string()))
    });
    let mut client = connect(&rig).await;
    let request = Request::get("http://A.:80//x/../y?q").header("host", "a:80");
    let mut response = answer(&mut client, request.body(()).expect("a request")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().contains_key("date"));
    assert_eq!(response.headers().get("content-length"), Some(&HeaderValue::from(15)));
    assert_eq!(text(response.body_mut()).await.expect("no error"), "http://a:80/y?q");
}

#[tokio::test]
async fn bodies_stream_both_ways_with_trailers() {
    let rig = Rig::echo(Setup::default());
    let mut client = connect(&rig).await;
    let request = Request::post("http://a/").body(()).expect("a request");
    let (response, mut sending) = send(&mut client, request, false).await;
    let mut response = patiently(response).await.expect("the head comes before the body's end");
    for part in ["one", "two"] {
        sending.send_data(Bytes::from_static(part.as_bytes()), false).expect("open");
        let data = patiently(response.body_mut().data()).await.expect("data").expect("no error");
        assert_eq!(data, part);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sending.send_trailers(trailers.clone()).expect("open");
    assert_eq!(text(response.body_mut()).await.expect("no error"), "");
    let echoed = patiently(response.body_mut().trailers()).await.expect("no error");
    assert_eq!(echoed, Some(trailers));
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let size = 3_000_000;
    let rig = Rig::start(Setup::default(), move |_, _| async move {
        Response::new(Body::full("x".repeat(size)))
    });
    let mut response = answer(&mut connect(&rig).await, get("/")).await;
    assert!(text(response.body_mut()).await.expect("no error") == "x".repeat(size));
}

#[tokio::test]
async fn an_answer_to_head_is_its_head() {
    let rig = Rig::start(Setup::default(), |_, _| async { Response::new(Body::full("abc")) });
    let request = Request::head("http://a/").body(()).expect("a request");
    let mut response = answer(&mut connect(&rig).await, request).await;
    assert!(response.body().is_end_stream());
    assert_eq!(text(response.body_mut()).await.expect("no error"), "");
}

#[tokio::test]
async fn a_refused_stream_is_answered_and_leaves_the_others_alone() {
    let rig = Rig::start(Setup::default(), |_, _| async { Response::new(Body::full("ok")) });
    let mut client = connect(&rig).await;
    let cases = [
        (get("/").map(|()| ("host", "b")), Refusal::HostMismatch),
        (get("/%2f").map(|()| ("x", "y")), Refusal::PathEncodedSlash),
        (get("/").map(|()| ("x_y", "z")), Refusal::FieldNameUnderscore),
    ];
    for (request, refusal) in cases {
        let (mut parts, (name, value)) = request.into_parts();
        parts.headers.insert(name, HeaderValue::from_static(value));
        let mut response = answer(&mut client, Request::from_parts(parts, ())).await;
        assert_eq!(response.status(), refusal.status());
        assert_eq!(text(response.body_mut()).await.expect("no error"), refusal.name());
        assert_eq!(rig.refused().last(), Some(&refusal));
    }
    assert_eq!(answer(&mut client, get("/")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_first() {
    let rig = Rig::echo(Setup::default());
    let mut client = connect(&rig).await;
    let request = Request::post("http://a/").header("expect", "100-continue");
    let (mut response, mut sending) =
        send(&mut client, request.body(()).expect("a request"), false).await;
    let interim = patiently(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    assert_eq!(interim.expect("one").expect("no error").status(), StatusCode::CONTINUE);
    sending.send_data(Bytes::from_static(b"abc"), true).expect("open");
    let mut response = patiently(response).await.expect("an answer");
    assert_eq!(text(response.body_mut()).await.expect("no error"), "abc");
}

#[tokio::test]
async fn an_answer_whose_body_fails_or_has_another_length_is_reset() {
    let rig = Rig::start(Setup::default(), |request, _| async move {
        let data = Ok(Frame::data(Bytes::from_static(b"abc")));
        if request.uri().path() == "/fails" {
            let frames = [data, Err(BodyError::UpstreamReset)];
            return Response::new(Body::from_frames(stream::iter(frames)));
        }
        let mut response = Response::new(Body::from_frames(stream::iter([data])));
        response.headers_mut().insert("content-length", 4.into());
        response
    });
    let mut client = connect(&rig).await;
    for path in ["/fails", "/short"] {
        let (response, _) = send(&mut client, get(path), true).await;
        // A reset may overtake the head.
        let error = match patiently(response).await {
            Ok(mut response) => text(response.body_mut()).await.expect_err("it is cut"),
            Err(error) => error,
        };
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
    }
}

#[tokio::test]
async fn a_journey_that_does_not_read_holds_the_client_back() {
    let rig = Rig::start(Setup::default(), |request, _| async move {
        let _held = request;
        std::future::pending().await
    });
    let mut client = connect(&rig).await;
    let request = Request::post("http://a/").body(()).expect("a request");
    let (_response, mut sending) = send(&mut client, request, false).await;
    let window = crate::codec::CodecLimits::default().receive_window_bytes as usize;
    sending.reserve_capacity(10 * window);
    let mut capacity = 0;
    while capacity < window {
        let grown = patiently(std::future::poll_fn(|cx| sending.poll_capacity(cx))).await;
        capacity = grown.expect("open").expect("no error");
    }
    assert_eq!(capacity, window);
}

/// Lets two threads meet; `false` if the other one does not come.
#[derive(Default)]
struct Meeting {
    arrived: Mutex<Vec<ThreadId>>,
    changed: Condvar,
}

impl Meeting {
    fn of_two(&self) -> bool {
        let mut arrived = self.arrived.lock().expect("nobody panics");
        arrived.push(thread::current().id());
        self.changed.notify_all();
        let limit = Duration::from_secs(10);
        let wait = self.changed.wait_timeout_while(arrived, limit, |arrived| arrived.len() < 2);
        !wait.expect("nobody panics").1.timed_out()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_of_one_connection_run_on_different_threads_at_the_same_time() {
    let meeting = Arc::<Meeting>::default();
    let met = meeting.clone();
    let rig = Rig::start(Setup::default(), move |_, info| {
        let meeting = met.clone();
        async move { Response::new(Body::full(format!("{} {}", meeting.of_two(), info.id))) }
    });
    let mut client = connect(&rig).await;
    let (first, _) = send(&mut client, get("/1"), true).await;
    let (second, _) = send(&mut client, get("/2"), true).await;
    let mut texts = Vec::new();
    for response in [first, second] {
        let mut response = patiently(response).await.expect("an answer");
        texts.push(text(response.body_mut()).await.expect("no error"));
    }
    assert_eq!(texts[0], texts[1], "one connection");
    assert!(texts[0].starts_with("true"), "they ran one after the other");
    let threads = meeting.arrived.lock().expect("nobody panics");
    assert_ne!(threads[0], threads[1]);
}
