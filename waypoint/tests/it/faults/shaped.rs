//! N14–N16: networks that are slow, uneven or narrow on both sides of the waypoint.

use std::time::Duration;

use futures_util::stream;
use http::{Method, Request};
use http_body::Frame;
use tokio::task::JoinSet;

use super::load::Load;
use super::oracle::Report;
use super::relay::{Relay, Shape};
use super::scene::{Holds, Scene};
use super::witness::Manner;
use super::{Length, row};
use crate::client::route;
use crate::harness::{Waypoint, service};
use crate::origin::Speaks;
use crate::streams::{Client, body_of, full, serve};

/// What a process may grow by under load.
const GROWN_KIB: u64 = 64 << 10;

/// Runs the load with the same shape before and behind the waypoint.
async fn through(length: Length, shape: Shape) -> Report {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let one = Relay::start(one.address, shape, scene.seed).await;
    let two = Relay::start(two.address, shape, scene.seed + 1).await;
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;
    let before = Holds::of(&waypoint).await;
    let entrance = Relay::start(waypoint.http(), shape, scene.seed + 2).await;
    let load = Load::new(entrance.address, scene.seed, &scene.ledger, length);
    let report = load.run(async |_| {}).await;
    before.again(&waypoint, GROWN_KIB).await;
    report
}

row!(segments_are_lost:
    lost_segments_make_requests_slower_and_nothing_else,
    lost_segments_for_a_minute_make_requests_slower_and_nothing_else);

/// N14.
async fn segments_are_lost(length: Length) {
    for lost_percent in [1, 5] {
        through(length, Shape { lost_percent, ..Shape::default() }).await.all_but(0);
    }
}

row!(latency:
    an_uneven_latency_makes_requests_slower_and_nothing_else,
    an_uneven_latency_for_a_minute_makes_requests_slower_and_nothing_else);

/// N15.
async fn latency(length: Length) {
    let (delay, jitter) = (Duration::from_millis(100), Duration::from_millis(50));
    let report = through(length, Shape { delay, jitter, ..Shape::default() }).await;
    report.all_but(0);
    assert!(Duration::from_millis(400) <= report.quantile(10), "nothing was delayed");
}

row!(a_link_is_narrow:
    uploads_over_a_narrow_link_hold_their_senders_back,
    uploads_over_a_narrow_link_for_a_minute_hold_their_senders_back);

/// Uploads at a time, half of each protocol, and what each of them would send.
const UPLOADS: usize = 40;
const UPLOAD_BYTES: usize = 8 << 20;
/// What one may make the waypoint hold, in KiB, and what the whole process may grow by besides.
const HELD_KIB: u64 = 64;
const BESIDES_KIB: u64 = 32 << 10;

/// N16: the link carries 125 kB/s, the uploads are 320 MiB.
async fn a_link_is_narrow(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let sink = serve(Speaks::Http1, |request: Request<hyper::body::Incoming>| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        http::Response::new(full("done"))
    })
    .await;
    let shape = Shape { bits_per_second: Some(1_000_000), ..Shape::default() };
    let narrow = Relay::start(sink, shape, scene.seed).await;
    let resources = scene.resources([&[one.address], &[two.address]], "")
        + &service("narrow", "http", narrow.address)
        + &route("narrow", "/narrow", "narrow");
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;
    let resident = waypoint.resident_kib();
    let mut uploads = JoinSet::new();
    for index in 0..UPLOADS {
        let speaks = [Speaks::Http1, Speaks::Http2][index % 2];
        let client = Client::connect(waypoint.http(), speaks).await;
        uploads.spawn(async move {
            let piece = bytes::Bytes::from_static(&[7; 64 << 10]);
            let pieces = UPLOAD_BYTES / piece.len();
            let body = body_of(stream::iter(
                std::iter::repeat_n(piece, pieces).map(|piece| Ok(Frame::data(piece))),
            ));
            let request = Request::builder().method(Method::PUT).uri("/narrow");
            let request = request.header("host", "example.test").body(body).expect("a request");
            let _ = client.try_send(request).await;
        });
    }

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(0);
    let grown = waypoint.resident_kib().saturating_sub(resident);
    let most = HELD_KIB * UPLOADS as u64 + BESIDES_KIB;
    assert!(grown <= most, "{UPLOADS} uploads make the process grow by {grown} KiB");
    uploads.shutdown().await;
    before.again(&waypoint, GROWN_KIB).await;
}
