//! What goes wrong on HTTP/2 connections: resets, GOAWAY, bodies that are cut.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use h2::Reason;
use h2::server::Builder;
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::http2::{ok, serve};
use super::origin::{Origin, Peer, refusing};
use super::*;
use crate::codec::{Source as _, WINDOW_BYTES_MAX};
use crate::upstream::UpstreamPeer;

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// `:status: 200`, not the end of the stream.
const HEAD: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];

fn goaway(last_stream: u8, reason: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, reason]
}

fn reset(reason: u8) -> [u8; 13] {
    [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, reason]
}

/// Reads the preface and frames until the head of the first request.
async fn first_head(peer: &mut Peer) {
    let mut preface = [0; 24];
    peer.stream.read_exact(&mut preface).await.expect("a preface");
    peer.stream.write_all(SETTINGS).await.expect("written");
    loop {
        let mut frame = [0; 9];
        peer.stream.read_exact(&mut frame).await.expect("a frame");
        let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
        peer.stream.read_exact(&mut vec![0; length]).await.expect("its payload");
        if frame[3] == 1 {
            return;
        }
    }
}

/// An origin of raw frames: it answers the first request of each connection with `frames`, then
/// closes or, when `hold`, waits for the proxy to close.
async fn framing(bench: &Bench, frames: Vec<u8>, hold: bool) -> Origin {
    Origin::start(bench, move |mut peer, _| {
        let frames = frames.clone();
        async move {
            first_head(&mut peer).await;
            let _ = peer.stream.write_all(&frames).await;
            if hold {
                peer.closed().await;
            }
        }
    })
    .await
}

fn attempts(response: &Response<Body>) -> u32 {
    response.extensions().get::<UpstreamPeer>().expect("a peer").attempts
}

#[tokio::test]
async fn after_goaway_new_streams_go_elsewhere_and_old_ones_end_where_they_are() {
    let bench = Bench::new(UpstreamLimits::default());
    let (go, gate) = mpsc::channel::<()>(1);
    let gate = Arc::new(tokio::sync::Mutex::new(gate));
    let tasks = bench.tasks.clone();
    let origin = Origin::start(&bench, move |peer, number| {
        let (gate, tasks) = (Arc::clone(&gate), tasks.clone());
        async move {
            let mut connection = h2::server::handshake(peer.stream).await.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let gate = Arc::clone(&gate);
                if number == 0 {
                    connection.graceful_shutdown();
                }
                tasks.spawn(async move {
                    let mut stream = respond.send_response(ok(), false).expect("a head");
                    if number == 0 {
                        gate.lock().await.recv().await;
                    }
                    stream.send_data(format!("{number}").into(), true).expect("a body");
                });
            }
        }
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    let old = send(&cluster, get("/")).await.expect("a head");
    until(|| bench.upstreams.figures()[0].connections == 1).await;
    within(async { while fetch_now(&cluster).await != "1" {} }).await;
    go.send(()).await.expect("open");
    assert_eq!(text(old.into_body()).await, Ok("0".to_owned()));
    until(|| bench.upstreams.figures()[0].connections == 1).await;
}

/// The body of a request's answer; the gate is closed, so only a new connection can give one.
async fn fetch_now(cluster: &Cluster) -> String {
    let response = send(cluster, get("/")).await.expect("a response");
    let body = tokio::time::timeout(Duration::from_millis(200), text(response.into_body()));
    body.await.map_or_else(|_| String::new(), |text| text.expect("a whole body"))
}

/// Sends requests to an endpoint that processes none of them, and to one that does.
async fn tries_elsewhere(bench: &Bench, unwilling: &Origin) {
    let serving = serve(bench, Builder::new(), |_, mut respond| async move {
        respond.send_response(ok(), true).expect("a head");
    })
    .await;
    let cluster = bench.http2(&[unwilling.address, serving.address]);
    for _ in 0..10 {
        // No body was begun, so this holds for a POST too.
        let request = request(Method::POST, "/", Body::empty());
        let response = send(&cluster, request).await.expect("a response");
        assert!(attempts(&response) <= 2);
    }
    let error = send(&bench.http2(&[unwilling.address]), get("/")).await.expect_err("an error");
    assert!(matches!(error, UpstreamError::ResetBeforeHead { .. }), "{error:?}");
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_is_tried_again() {
    let bench = Bench::new(UpstreamLimits::default());
    let leaving = framing(&bench, goaway(0, 0).to_vec(), true).await;
    tries_elsewhere(&bench, &leaving).await;
}

#[tokio::test]
async fn a_refused_stream_is_tried_again() {
    let bench = Bench::new(UpstreamLimits::default());
    let refusing = serve(&bench, Builder::new(), |_, mut respond| async move {
        respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    tries_elsewhere(&bench, &refusing).await;
}

#[tokio::test]
async fn a_request_whose_body_was_begun_is_never_sent_twice_unless_the_endpoint_vouches_for_it() {
    // A connection that is gone, with or without a word that says what became of the stream.
    for frames in [Vec::new(), reset(2).to_vec()] {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = framing(&bench, frames, false).await;
        let cluster = bench.http2(&[origin.address]);
        let error = send(&cluster, post("/", "body")).await.expect_err("an error");
        assert!(matches!(error, UpstreamError::ResetBeforeHead { .. }), "{error:?}");
        assert_eq!((origin.accepted(), bench.outstanding()), (1, 0));
    }
}

#[tokio::test]
async fn a_body_that_the_endpoint_has_not_taken_is_sent_again_whole_if_it_is_small() {
    for refuses in [false, true] {
        let bench = Bench::new(UpstreamLimits::default());
        let unwilling = match refuses {
            false => framing(&bench, goaway(0, 0).to_vec(), true).await,
            true => {
                serve(&bench, Builder::new(), |_, mut respond| async move {
                    respond.send_reset(Reason::REFUSED_STREAM);
                })
                .await
            }
        };
        let echoing = serve(&bench, Builder::new(), |request, mut respond| async move {
            let (mut parts, mut body) = (request.headers().clone(), request.into_body());
            let mut seen = Vec::new();
            while let Some(data) = body.data().await {
                seen.extend_from_slice(&data.expect("data"));
            }
            if let Some(trailers) = body.trailers().await.expect("a whole request") {
                parts.extend(trailers);
            }
            let last = parts.remove("x-last").unwrap_or_else(|| "none".parse().expect("a value"));
            let answer = http::Response::builder().header("x-last", last);
            let mut stream = respond.send_response(answer.body(()).unwrap(), false).unwrap();
            stream.send_data(seen.into(), true).unwrap();
        })
        .await;
        let cluster = bench.http2(&[unwilling.address, echoing.address]);
        let (mut again, small) = (0, "small ".repeat(1_000));
        for _ in 0..20 {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-last", "1".parse().expect("a value"));
            let halves = small.as_bytes().chunks(small.len() / 2);
            let frames = halves.map(|half| Frame::data(Bytes::copy_from_slice(half)));
            let frames = frames.chain([Frame::trailers(trailers)]).map(Ok).collect::<Vec<_>>();
            let body = Body::from_frames(futures_util::stream::iter(frames));
            let response = send(&cluster, request(Method::POST, "/", body)).await.expect("sent");
            again += attempts(&response) - 1;
            assert_eq!(response.headers()["x-last"], "1");
            assert_eq!(text(response.into_body()).await.expect("a body"), small);
        }
        assert!(0 < again, "nobody met the endpoint that takes nothing");

        // Too large to be kept: whoever meets the unwilling one has met it for good.
        let mut refused = 0;
        for _ in 0..20 {
            let large = Body::full(vec![b'x'; 9 * 1024]);
            match send(&cluster, request(Method::POST, "/", large)).await {
                Ok(response) => assert_eq!(attempts(&response), 1),
                Err(error) => {
                    refused += 1;
                    assert!(matches!(error, UpstreamError::ResetBeforeHead { .. }), "{error:?}");
                }
            }
        }
        assert!(0 < refused, "nobody met the endpoint that takes nothing");
        assert_eq!(bench.outstanding(), 0);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error_and_never_a_clean_end() {
    for (end, hold, wanted) in [
        (Vec::new(), false, BodyError::UpstreamTruncated),
        (reset(2).to_vec(), true, BodyError::UpstreamReset),
        // NO_ERROR before the end of the stream is no end either.
        (reset(0).to_vec(), true, BodyError::UpstreamReset),
        // More than was declared would be malformed; so is data on stream 0.
        (vec![0, 0, 1, 0, 0, 0, 0, 0, 0, 1], true, BodyError::UpstreamMalformed),
    ] {
        let bench = Bench::new(UpstreamLimits::default());
        let body = [0, 0, 5, 0, 0, 0, 0, 0, 1, b'h', b'e', b'l', b'l', b'o'];
        let frames = [HEAD, &body, &end].concat();
        let origin = framing(&bench, frames, hold).await;
        let response = send(&bench.http2(&[origin.address]), get("/")).await.expect("a head");
        let (bytes, got) = read(response.into_body()).await;
        assert!(bytes.is_empty() || bytes == b"hello", "{bytes:?}");
        assert_eq!((got, bench.outstanding()), (Err(wanted), 0), "{end:?}");
    }
}

#[tokio::test]
async fn a_peer_that_speaks_http1_is_malformed() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        peer.write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let error = send(&bench.http2(&[origin.address]), get("/")).await.expect_err("an error");
    assert!(matches!(error, UpstreamError::MalformedResponse { .. }), "{error:?}");
}

#[tokio::test]
async fn a_failed_request_body_resets_its_stream() {
    let bench = Bench::new(UpstreamLimits::default());
    for head_first in [false, true] {
        let (seen, mut resets) = mpsc::channel(1);
        let origin = serve(&bench, Builder::new(), move |request, mut respond| {
            let seen = seen.clone();
            async move {
                let head = head_first.then(|| respond.send_response(ok(), false));
                let mut body = request.into_body();
                while let Some(chunk) = body.data().await {
                    if let Err(error) = chunk {
                        let _ = seen.send(error.reason()).await;
                        break;
                    }
                }
                drop(head);
            }
        })
        .await;
        let cluster = bench.http2(&[origin.address]);
        let (feed, body) = fed();
        let mut answer = bench.start(&cluster, request(Method::POST, "/", body));
        feed.send(data("part")).await.expect("taken");
        if head_first {
            let response = answer.answer().await.expect("a head");
            feed.send(Err(BodyError::DownstreamGone)).await.expect("taken");
            assert!(text(response.into_body()).await.is_err());
        } else {
            feed.send(Err(BodyError::DownstreamGone)).await.expect("taken");
            let error = answer.answer().await.expect_err("no response");
            let gone = BodyError::DownstreamGone;
            assert!(matches!(error, UpstreamError::RequestBody(why) if why == gone), "{error:?}");
        }
        assert_eq!(within(resets.recv()).await, Some(Some(Reason::CANCEL)));
    }
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn a_dropped_response_resets_its_stream_and_ends_the_upload() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut resets) = mpsc::channel(1);
    let origin = serve(&bench, Builder::new(), move |request, mut respond| {
        let seen = seen.clone();
        async move {
            let stream = respond.send_response(ok(), false);
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.data().await {}
            let _ = seen.send(()).await;
            drop(stream);
        }
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    let (feed, body) = fed();
    let response = send(&cluster, request(Method::POST, "/", body)).await.expect("a head");
    assert_eq!(bench.outstanding(), 1);
    drop(response);
    within(resets.recv()).await.expect("a reset");
    within(feed.closed()).await;
    assert_eq!(bench.outstanding(), 0);
    assert_eq!(bench.upstreams.figures()[0].connections, 1);
}

#[tokio::test]
async fn an_answer_before_the_body_ends_is_passed_on_and_ends_the_upload() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, Builder::new(), |_, mut respond| async move {
        let mut stream = respond.send_response(ok(), false).expect("a head");
        stream.send_data("enough".into(), true).expect("a body");
    })
    .await;
    let (feed, body) = fed();
    feed.send(data("part")).await.expect("taken");
    let cluster = bench.http2(&[origin.address]);
    assert_eq!(fetch(&cluster, request(Method::POST, "/", body)).await.1, "enough");
    within(feed.closed()).await;
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn a_refused_connection_fails_all_who_wait_or_leads_elsewhere() {
    let bench = Bench::new(UpstreamLimits::default());
    let dead = bench.http2(&[refusing()]);
    let mut answers: Vec<_> = (0..5).map(|_| bench.start(&dead, post("/", "body"))).collect();
    for answer in &mut answers {
        let error = answer.answer().await.expect_err("no response");
        assert!(matches!(error, UpstreamError::ConnectRefused { .. }), "{error:?}");
    }
    assert_eq!(bench.upstreams.figures()[0].connections, 0);

    let origin = serve(&bench, Builder::new(), |_, mut respond| async move {
        respond.send_response(ok(), true).expect("a head");
    })
    .await;
    let cluster = bench.http2(&[refusing(), origin.address]);
    for _ in 0..10 {
        send(&cluster, post("/", "body")).await.expect("a response");
    }
}

#[tokio::test]
async fn a_get_whose_used_connection_died_is_sent_once_more() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |peer, number| async move {
        let mut connection = h2::server::handshake(peer.stream).await.expect("HTTP/2");
        let mut served = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            if number == 0 && served == 1 {
                return; // Without a word, and without an answer to the second request.
            }
            served += 1;
            respond.send_response(ok(), true).expect("a head");
        }
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    assert_eq!(attempts(&send(&cluster, get("/")).await.expect("a response")), 1);
    assert_eq!(attempts(&send(&cluster, get("/")).await.expect("a response")), 2);
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn an_endpoint_that_nobody_names_closes_its_connection() {
    let bench = Bench::new(UpstreamLimits::default());
    let (seen, mut closed) = mpsc::channel(1);
    let origin = Origin::start(&bench, move |peer, _| {
        let seen = seen.clone();
        async move {
            let mut connection = h2::server::handshake(peer.stream).await.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let _: Result<h2::SendStream<Bytes>, _> = respond.send_response(ok(), true);
            }
            let _ = seen.send(()).await;
        }
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    send(&cluster, get("/")).await.expect("a response");
    drop(cluster);
    within(closed.recv()).await.expect("closed");
    assert_eq!(bench.upstreams.figures(), []);
}

#[tokio::test]
async fn a_drain_waits_for_streams_and_for_no_idle_connection() {
    let bench = Bench::new(UpstreamLimits::default());
    let (drain, tasks, _) = Drain::new();
    let upstreams = Upstreams::new(UpstreamLimits::default(), tasks);
    let origin = serve(&bench, Builder::new(), |_, mut respond| async move {
        let mut stream = respond.send_response(ok(), false).expect("a head");
        stream.send_data("hello".into(), true).expect("a body");
    })
    .await;
    let cluster = upstreams.cluster(
        "ns/service".into(),
        Protocol::Http2,
        Security::Plain,
        &[vec![origin.address]],
    );
    let response = send(&cluster, get("/")).await.expect("a head");
    upstreams.close();
    assert_eq!(text(response.into_body()).await, Ok("hello".to_owned()));
    assert!(within(drain.drain(PATIENCE)).await);
}

/// Acknowledges the settings and answers the first request with a head, `pieces` of DATA of 16 KiB
/// and `end`. The reader takes one frame first if it is to have one `in_hand`. What comes is held until
/// the proxy's connection has read all of it: then it answers the PING behind it.
async fn held(in_hand: bool, pieces: u8, end: Vec<u8>) -> (Vec<u8>, Result<(), BodyError>) {
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let bench = Bench::new(UpstreamLimits::default());
    let (came, mut all_read) = mpsc::channel(1);
    let origin = Origin::start(&bench, move |mut peer, _| {
        let (came, end) = (came.clone(), end.clone());
        async move {
            first_head(&mut peer).await;
            let mut frames = [&[0, 0, 0, 4, 1, 0, 0, 0, 0], HEAD].concat();
            for piece in 0..pieces {
                frames.extend([0, 64, 0, 0, 0, 0, 0, 0, 1]);
                frames.extend([piece; 16 * 1024]);
            }
            peer.stream.write_all(&[frames, end, PING.to_vec()].concat()).await.expect("written");
            let mut answers = Vec::new();
            while !answers.windows(8).any(|bytes| bytes == &PING[9..]) {
                peer.stream.read_buf(&mut answers).await.expect("an answer");
            }
            let _ = came.send(()).await;
            peer.closed().await;
        }
    })
    .await;
    let response = send(&bench.http2(&[origin.address]), get("/")).await.expect("a head");
    let mut body = response.into_body();
    let mut taken = Vec::new();
    if in_hand {
        let frame = within(body.frame()).await.expect("a frame").expect("of data");
        taken.extend_from_slice(frame.data_ref().expect("data"));
    }
    let mut all_read = pin!(all_read.recv());
    let waited = poll_fn(|cx| {
        let all_read = all_read.as_mut().poll(cx);
        Pin::new(&mut body).hold(cx);
        all_read
    });
    within(waited).await.expect("all is read");
    let (rest, end) = within(read(body)).await;
    (taken.into_iter().chain(rest).collect(), end)
}

#[tokio::test]
async fn what_is_held_while_the_reader_waits_is_given_in_order_and_then_the_end() {
    let sent: Vec<u8> = (0..3).flat_map(|piece| [piece; 16 * 1024]).collect();
    let ended = vec![0, 0, 0, 0, 1, 0, 0, 0, 1];
    assert_eq!(held(false, 3, ended.clone()).await, (sent.clone(), Ok(())));
    assert_eq!(held(true, 3, ended).await, (sent.clone(), Ok(())));
    assert_eq!(held(false, 3, reset(8).to_vec()).await, (sent, Err(BodyError::UpstreamReset)));
}

#[tokio::test]
async fn an_answer_past_its_stream_s_window_is_malformed() {
    let pieces = WINDOW_BYTES_MAX / (16 * 1024);
    for in_hand in [false, true] {
        let (body, end) = held(in_hand, u8::try_from(pieces).expect("few") + 1, Vec::new()).await;
        assert_eq!((body.len(), end), (pieces * 16 * 1024, Err(BodyError::UpstreamMalformed)));
    }
}
