//! One request, one HTTP/1 response: heads, framing, and what ends a connection.

use http::{HeaderValue, Method, Version, header};
use tokio::sync::mpsc;

use super::origin::Origin;
use super::*;
use crate::codec::Ahead;
use crate::upstream::UpstreamPeer;

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn responses_of_every_framing_leave_a_connection_that_is_reused() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        while let Some(head) = peer.head().await {
            peer.write(match head.split(' ').nth(1) {
                Some("/length") => HELLO,
                Some("/chunked") => {
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
                }
                Some("/none") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/cached") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            })
            .await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    for (path, status, body) in [
        ("/length", 200, "hello"),
        ("/chunked", 200, "hello"),
        ("/none", 204, ""),
        ("/cached", 304, ""),
        ("/empty", 200, ""),
        ("/length", 200, "hello"),
    ] {
        let (got, text) = fetch(&cluster, get(path)).await;
        assert_eq!((got.as_u16(), text.as_str()), (status, body), "{path}");
    }
    let (_, text) = fetch(&cluster, request(Method::HEAD, "/cached", Body::empty())).await;
    assert_eq!(text, "");
    assert_eq!((origin.accepted(), bench.outstanding()), (1, 0));
}

#[tokio::test]
async fn a_request_is_sent_in_origin_form_with_its_authority_as_host() {
    let bench = Bench::new(UpstreamLimits::default());
    let (heads, mut seen) = mpsc::channel(8);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let heads = heads.clone();
        async move {
            while let Some(head) = peer.head().await {
                let _ = heads.send(head).await;
                peer.write(HELLO).await;
            }
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let mut request = get("/a?b=c");
    request.headers_mut().insert("connection", HeaderValue::from_static("close, x-hop"));
    request.headers_mut().insert("keep-alive", HeaderValue::from_static("timeout=5"));
    request.headers_mut().insert("content-length", HeaderValue::from_static("7"));
    let response = send(&cluster, request).await.expect("a response");
    let peer = response.extensions().get::<UpstreamPeer>().copied();
    assert_eq!(peer, Some(UpstreamPeer { address: origin.address, attempts: 1 }));
    let head = seen.recv().await.expect("a head");
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: service.example:8080\r\n"), "{head}");
    assert!(head.contains("content-length: 0\r\n"), "{head}");
    for absent in ["connection", "keep-alive", "transfer-encoding"] {
        assert!(!head.contains(absent), "{absent} in {head}");
    }
}

#[tokio::test]
async fn a_request_body_keeps_its_length_or_is_chunked() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut requests) = mpsc::channel(8);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let seen = seen.clone();
        async move {
            while let Some(head) = peer.head().await {
                let end: &[u8] = if head.contains("chunked") { b"0\r\n\r\n" } else { b"known" };
                let body = peer.until(end).await.unwrap_or_default();
                let _ = seen.send((head, body)).await;
                peer.write(HELLO).await;
            }
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    fetch(&cluster, post("/", "known")).await;
    let (head, body) = requests.recv().await.expect("a request");
    assert!(head.contains("content-length: 5\r\n") && body == "known", "{head}{body}");

    for method in [Method::POST, Method::GET] {
        let (feed, body) = fed();
        let mut answer = bench.start(&cluster, request(method, "/", body));
        feed.send(data("un")).await.expect("taken");
        feed.send(data("known")).await.expect("taken");
        drop(feed);
        answer.answer().await.expect("a response");
        let (head, body) = requests.recv().await.expect("a request");
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        assert_eq!(body, "2\r\nun\r\n5\r\nknown\r\n0\r\n\r\n");
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn what_concerned_the_hop_is_gone_from_a_response() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::answering(
        &bench,
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\n\
         x-end: 2\r\ntransfer-encoding: chunked\r\nupgrade: h2c\r\n\
         proxy-connection: x\r\n\r\n0\r\n\r\n",
    )
    .await;
    let cluster = bench.http1(&[origin.address]);
    let response = send(&cluster, get("/")).await.expect("a response");
    let names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!((names, response.version()), (vec!["x-end"], Version::HTTP_11));
}

#[tokio::test]
async fn equal_lengths_become_one_and_different_ones_are_malformed() {
    for (lengths, kept) in [
        ("content-length: 2\r\ncontent-length: 2\r\n", Some("2")),
        ("content-length: 2, 2\r\n", Some("2")),
        ("content-length: 2\r\ncontent-length: 3\r\n", None),
        ("content-length: 2, 3\r\n", None),
        ("content-length: 2\r\ntransfer-encoding: chunked\r\n", None),
        ("content-length: +2\r\n", None),
        ("transfer-encoding: gzip\r\n", None),
        ("transfer-encoding: gzip, chunked\r\n", None),
        ("a b: c\r\n", None),
    ] {
        let bench = Bench::new(UpstreamLimits::default());
        let answer = format!("HTTP/1.1 200 OK\r\n{lengths}\r\nok").leak();
        let origin = Origin::answering(&bench, answer).await;
        match (send(&bench.http1(&[origin.address]), get("/")).await, kept) {
            (Ok(response), Some(kept)) => {
                let all = response.headers().get_all(header::CONTENT_LENGTH);
                assert_eq!(all.iter().collect::<Vec<_>>(), [kept]);
                assert_eq!(text(response.into_body()).await, Ok("ok".to_owned()));
            }
            (Err(UpstreamError::MalformedResponse { .. }), None) => {}
            (other, _) => panic!("{lengths:?} gave {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_http_1_0_connection_is_not_kept() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::answering(
        &bench,
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let cluster = bench.http1(&[origin.address]);
    fetch(&cluster, get("/")).await;
    fetch(&cluster, get("/")).await;
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn bytes_after_a_response_close_the_connection() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::answering(
        &bench,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nsmuggled",
    )
    .await;
    let cluster = bench.http1(&[origin.address]);
    for _ in 0..3 {
        assert_eq!(fetch(&cluster, get("/")).await.1, "ok");
    }
    assert_eq!(origin.accepted(), 3);
}

#[tokio::test]
async fn a_failed_request_body_is_named_and_leaves_the_message_unfinished() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut bytes) = mpsc::channel(1);
    let origin = Origin::start(&bench, move |peer, _| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(peer.closed().await).await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let (feed, body) = fed();
    let mut answer = bench.start(&cluster, request(Method::POST, "/", body));
    feed.send(data("part")).await.expect("taken");
    feed.send(Err(BodyError::DownstreamGone)).await.expect("taken");
    let error = answer.answer().await.expect_err("no response");
    assert!(matches!(error, UpstreamError::RequestBody(BodyError::DownstreamGone)), "{error:?}");
    let bytes = String::from_utf8(within(bytes.recv()).await.expect("bytes")).expect("text");
    assert!(!bytes.ends_with("0\r\n\r\n"), "{bytes}");
}

#[tokio::test]
async fn an_answer_before_the_body_ends_is_passed_on_and_ends_the_upload() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut closed) = mpsc::channel(1);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let seen = seen.clone();
        async move {
            peer.head().await;
            peer.write("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
            let _ = seen.send(peer.closed().await).await;
        }
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let (feed, body) = fed();
    feed.send(data("part")).await.expect("taken");
    let (status, text) = fetch(&cluster, request(Method::POST, "/", body)).await;
    assert_eq!((status.as_u16(), text.as_str()), (413, "big"));
    within(closed.recv()).await.expect("closed");
    assert!(feed.is_closed());
}

#[tokio::test]
async fn a_request_without_authority_is_not_sent() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::answering(&bench, HELLO).await;
    for cluster in [bench.http1(&[origin.address]), bench.http2(&[origin.address])] {
        let request = Request::builder().uri("/").body(Body::empty()).expect("a request");
        let error = send(&cluster, request).await.expect_err("no response");
        assert!(matches!(error, UpstreamError::InvalidRequest { .. }), "{error:?}");
    }
    let error = send(&bench.http1(&[]), get("/")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::NoEndpoints));
    assert_eq!(origin.accepted(), 0);
}

#[tokio::test]
async fn heads_of_1xx_are_passed_over_and_no_endpoint_sends_them_for_ever() {
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    for (hints, answered) in [(1, true), (16, true), (17, false)] {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = Origin::answering(&bench, (hint.repeat(hints) + HELLO).leak()).await;
        let cluster = bench.http1(&[origin.address]);
        for _ in 0..2 {
            match send(&cluster, get("/")).await {
                Ok(response) => assert_eq!(text(response.into_body()).await, Ok("hello".into())),
                Err(error) => {
                    assert!(!answered, "{hints}: {error:?}");
                    assert!(matches!(error, UpstreamError::MalformedResponse { .. }), "{error:?}");
                }
            }
        }
        assert_eq!(origin.accepted(), if answered { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_head_with_bare_line_feeds_or_past_its_bounds_is_malformed() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(257));
    for head in [
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rcontent-length: 0\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        &long,
        &many,
    ] {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = Origin::answering(&bench, head.to_owned().leak()).await;
        let error = send(&bench.http1(&[origin.address]), get("/")).await.expect_err("no response");
        assert!(matches!(error, UpstreamError::MalformedResponse { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_sent_before_the_endpoint_stopped_reading_is_passed_on() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        peer.head().await;
        peer.write("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
        // Closed with the upload unread: the endpoint's kernel answers what comes with RST.
    })
    .await;
    let body = Body::full(vec![b'x'; 8 * 1024 * 1024]);
    let (status, text) =
        fetch(&bench.http1(&[origin.address]), request(Method::POST, "/", body)).await;
    assert_eq!((status.as_u16(), text.as_str()), (413, "big"));
}

#[tokio::test]
async fn an_upload_that_fails_after_its_answer_has_begun_leaves_the_message_unfinished() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut bytes) = mpsc::channel(2);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let seen = seen.clone();
        async move {
            peer.head().await;
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            let _ = seen.send(peer.until(b"part\r\n").await.unwrap_or_default().into()).await;
            let _ = seen.send(peer.closed().await).await;
        }
    })
    .await;
    let (feed, body) = fed();
    let response = send(&bench.http1(&[origin.address]), request(Method::POST, "/", body)).await;
    let mut body = response.expect("a response").into_body();
    within(body.frame()).await.expect("a frame").expect("data");
    feed.send(data("part")).await.expect("taken");
    assert_eq!(within(bytes.recv()).await.expect("bytes"), b"4\r\npart\r\n");
    feed.send(Err(BodyError::DownstreamGone)).await.expect("taken");
    assert_eq!(within(bytes.recv()).await.expect("closed"), b"");
    let end = within(body.frame()).await.expect("an end");
    assert_eq!(end.err(), Some(BodyError::UpstreamTruncated));
}

#[tokio::test]
async fn what_only_a_head_may_say_is_taken_from_an_answers_trailers() {
    let bench = Bench::new(UpstreamLimits::default());
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                  0\r\nset-cookie: a=b\r\nx-sum: 7\r\ncontent-length: 9\r\n\r\n";
    let origin = Origin::answering(&bench, answer).await;
    let response = send(&bench.http1(&[origin.address]), get("/")).await.expect("a response");
    let frame = within(response.into_body().frame()).await.expect("a frame").expect("trailers");
    let trailers = frame.into_trailers().expect("trailers");
    assert_eq!(trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-sum"]);
}

#[tokio::test]
async fn little_of_a_body_is_read_with_the_head_where_the_client_may_hold_little() {
    const BODY_BYTES: usize = 3000;
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        while peer.head().await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
            peer.write(&(head + &"x".repeat(BODY_BYTES))).await;
        }
    })
    .await;
    let mut asked = get("/");
    asked.extensions_mut().insert(Ahead::new(&Arc::default(), 100));
    let response = send(&bench.http1(&[origin.address]), asked).await.expect("a response");
    let mut body = response.into_body();
    let first = within(body.frame()).await.expect("a frame").expect("data");
    let first = first.into_data().expect("data").len();
    assert!(first < 1024, "{first}");
    let (rest, end) = read(body).await;
    assert_eq!((first + rest.len(), end), (BODY_BYTES, Ok(())));
}
