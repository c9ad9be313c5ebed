//! Streams on shared HTTP/2 connections, against origins of the h2 crate.

use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, HeaderValue, Version};
use tokio::sync::mpsc;

use super::origin::Origin;
use super::*;

/// Runs `answer` for each stream of each connection.
pub(super) async fn serve<F>(
    bench: &Bench,
    builder: Builder,
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
) -> Origin
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = bench.tasks.clone();
    Origin::start(bench, move |peer, _| {
        let (builder, answer, tasks) = (builder.clone(), answer.clone(), tasks.clone());
        async move {
            let Ok(mut connection) = builder.handshake::<_, Bytes>(peer.stream).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tasks.spawn(answer(request, respond));
            }
        }
    })
    .await
}

pub(super) fn ok() -> Response<()> {
    Response::new(())
}

/// Answers with what was asked for, and reads nothing of the request's body.
pub(super) async fn say_hello(_: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut stream = respond.send_response(ok(), false).expect("a head");
    stream.send_data("hello".into(), true).expect("a body");
}

/// Sends each chunk back as it comes, then the trailers.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let mut stream = respond.send_response(ok(), false).expect("a head");
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        if stream.send_data(chunk, false).is_err() {
            return;
        }
    }
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    let _ = stream.send_trailers(trailers);
}

#[tokio::test]
async fn requests_share_a_connection() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, Builder::new(), say_hello).await;
    let cluster = bench.http2(&[origin.address]);
    let mut answers: Vec<_> = (0..20).map(|_| bench.start(&cluster, get("/"))).collect();
    for answer in &mut answers {
        let response = answer.answer().await.expect("a response");
        assert_eq!(text(response.into_body()).await, Ok("hello".to_owned()));
    }
    assert_eq!((origin.accepted(), bench.outstanding()), (1, 0));
}

#[tokio::test]
async fn a_request_is_sent_in_absolute_form_and_asks_for_trailers_if_it_is_grpc() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut requests) = mpsc::channel(1);
    let origin = serve(&bench, Builder::new(), move |request, respond| {
        let (parts, body) = request.into_parts();
        let _ = seen.try_send(Request::from_parts(parts.clone(), ()));
        say_hello(Request::from_parts(parts, body), respond)
    })
    .await;
    let mut request = post("/package.Service/Method", "body");
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
    headers.insert("connection", HeaderValue::from_static("keep-alive"));
    headers.insert("host", HeaderValue::from_static("other.example"));
    let response = send(&bench.http2(&[origin.address]), request).await.expect("a response");
    assert_eq!(response.version(), Version::HTTP_2);
    let request = requests.recv().await.expect("a request");
    assert_eq!(request.uri(), "http://service.example:8080/package.Service/Method");
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["content-length"], "4");
    assert!(!request.headers().contains_key("host"));
}

#[tokio::test]
async fn both_directions_stream_and_end_with_trailers() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, Builder::new(), echo).await;
    let (feed, body) = fed();
    let request = request(Method::POST, "/bidi", body);
    let response = send(&bench.http2(&[origin.address]), request).await.expect("a head");
    let mut body = response.into_body();
    for word in ["one", "two", "three"] {
        feed.send(data(word)).await.expect("taken");
        let frame = within(body.frame()).await.expect("a frame").expect("data");
        assert_eq!(frame.into_data().ok(), Some(Bytes::from(word)));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    feed.send(Ok(Frame::trailers(trailers.clone()))).await.expect("taken");
    let frame = within(body.frame()).await.expect("a frame").expect("trailers");
    assert_eq!(frame.into_trailers().ok(), Some(trailers));
    assert!(within(body.frame()).await.is_none());
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn a_large_body_passes_windows_of_any_size() {
    const LENGTH: usize = 3 * 1024 * 1024;
    let bench = Bench::new(UpstreamLimits::default());
    let mut builder = Builder::new();
    builder.initial_window_size(1000);
    let origin = serve(&bench, builder, echo).await;
    let request = post("/", vec![b'x'; LENGTH]);
    let response = send(&bench.http2(&[origin.address]), request).await.expect("a head");
    let (bytes, end) = read(response.into_body()).await;
    assert_eq!((bytes.len(), end), (LENGTH, Ok(())));
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_response() {
    const LENGTH: usize = 1024 * 1024;
    let bench = Bench::new(UpstreamLimits::default());
    let (report, mut uploaded) = mpsc::channel(1);
    let origin = serve(&bench, Builder::new(), move |request, mut respond| {
        let report = report.clone();
        async move {
            let mut stream = respond.send_response(ok(), false).expect("a head");
            stream.send_data("early".into(), false).expect("a part");
            let (mut body, mut length) = (request.into_body(), 0);
            while let Some(Ok(chunk)) = body.data().await {
                let _ = body.flow_control().release_capacity(chunk.len());
                length += chunk.len();
            }
            let _ = report.send(length).await;
            let _ = stream.send_data(Bytes::new(), true);
        }
    })
    .await;
    let request = post("/", vec![b'x'; LENGTH]);
    let response = send(&bench.http2(&[origin.address]), request).await.expect("a head");
    assert_eq!(within(uploaded.recv()).await, Some(LENGTH));
    assert_eq!(text(response.into_body()).await, Ok("early".to_owned()));
}

#[tokio::test]
async fn streams_beyond_the_peers_bound_get_another_connection() {
    let limits = UpstreamLimits { http2_connections_max: 2, queue_max: 1, ..Default::default() };
    let bench = Bench::new(limits);
    let mut builder = Builder::new();
    builder.max_concurrent_streams(1);
    let origin = serve(&bench, builder, echo).await;
    let cluster = bench.http2(&[origin.address]);
    fetch(&cluster, get("/")).await; // Now the peer's settings are known.

    let (feed_one, body) = fed();
    let one = send(&cluster, request(Method::POST, "/", body)).await.expect("a head");
    let (_feed_two, body) = fed();
    let two = bench.start(&cluster, request(Method::POST, "/", body)).answer().await;
    let two = two.expect("a head");
    assert_eq!(origin.accepted(), 2);

    let mut three = bench.start(&cluster, get("/"));
    until(|| bench.upstreams.figures()[0].waiting == 1).await;
    let four = send(&cluster, get("/")).await.expect_err("the queue is full");
    assert!(matches!(four, UpstreamError::QueueFull { .. }), "{four:?}");
    drop(feed_one);
    assert_eq!(text(one.into_body()).await, Ok(String::new()));
    assert!(three.answer().await.is_ok());
    drop(two);
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_stream_and_no_other() {
    const HELD_MAX: usize = 128 * 1024;
    let bench = Bench::new(UpstreamLimits::default());
    let (report, mut sent) = mpsc::channel(1);
    let origin = serve(&bench, Builder::new(), move |request, mut respond| {
        let report = report.clone();
        async move {
            let mut stream = respond.send_response(ok(), false).expect("a head");
            if request.uri().path() == "/small" {
                let _ = stream.send_data("hello".into(), true);
                return;
            }
            let mut count = 0;
            loop {
                stream.reserve_capacity(16 * 1024);
                let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
                match tokio::time::timeout(Duration::from_millis(300), room).await {
                    Ok(Some(Ok(room))) => {
                        count += room;
                        if stream.send_data(vec![b'x'; room].into(), false).is_err() {
                            return;
                        }
                    }
                    Ok(_) => return,
                    Err(_) => {
                        let _ = report.try_send(count);
                        return;
                    }
                }
            }
        }
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    let mut unread = Vec::new();
    for _ in 0..5 {
        unread.push(send(&cluster, get("/large")).await.expect("a head"));
        let held = within(sent.recv()).await.expect("a stall");
        assert!(held <= HELD_MAX, "{held} bytes were taken from the origin");
    }
    assert_eq!(fetch(&cluster, get("/small")).await.1, "hello");
    assert_eq!(origin.accepted(), 1);
}
