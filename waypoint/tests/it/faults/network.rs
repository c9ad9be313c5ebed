//! N1–N4, N13, N17: endpoints that are not there, or are there and silent.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::oracle::{Fate, Kind};
use super::relay::{Relay, Shape};
use super::scene::{BOTH, Holds, Scene};
use super::witness::Manner;
use super::{Length, row};
use crate::harness::{Waypoint, service};

/// What a process may grow by under load: caches, arenas of its threads, buffers of the log.
const GROWN_KIB: u64 = 64 << 10;

/// An address that nobody listens on, and that nobody else is given.
struct Refusing {
    address: SocketAddr,
    _bound: socket2::Socket,
}

fn refusing() -> Refusing {
    let socket = bound();
    Refusing { address: address_of(&socket), _bound: socket }
}

fn bound() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket
}

fn address_of(socket: &socket2::Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// An address that answers no SYN: nobody accepts, and the backlog is full.
pub(super) struct BlackHole {
    pub(super) address: SocketAddr,
    _socket: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

pub(super) async fn black_hole() -> BlackHole {
    let socket = bound();
    socket.listen(0).unwrap();
    let address = address_of(&socket);
    let mut waiting = Vec::new();
    let limit = Duration::from_millis(200);
    while let Ok(Ok(stream)) = timeout(limit, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    BlackHole { address, _socket: socket, _waiting: waiting }
}

row!(one_of_two_refuses:
    an_endpoint_that_refuses_loses_no_request,
    an_endpoint_that_refuses_for_a_minute_loses_no_request);

/// N1.
async fn one_of_two_refuses(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let (gone, gone_too) = (refusing(), refusing());
    let resources =
        scene.resources([&[one.address, gone.address], &[two.address, gone_too.address]], "");
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(0);
    before.again(&waypoint, GROWN_KIB).await;
}

row!(all_refuse:
    a_service_whose_endpoints_all_refuse_answers_503,
    a_service_whose_endpoints_all_refuse_for_a_minute_answers_503);

async fn all_refuse(length: Length) {
    let scene = Scene::new(length);
    let (one, two) = (refusing(), refusing());
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(usize::MAX);
    assert_eq!(report.whole(), 0);
    // Nobody waits for what is refused at once: far less than the second that a connection may take.
    assert!(report.quantile(50) < Duration::from_millis(500), "{:?}", report.quantile(50));
}

row!(one_of_two_answers_no_syn:
    an_endpoint_that_answers_no_syn_loses_no_request,
    an_endpoint_that_answers_no_syn_for_a_minute_loses_no_request);

/// N2.
async fn one_of_two_answers_no_syn(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let (hole, hole_too) = (black_hole().await, black_hole().await);
    let resources =
        scene.resources([&[one.address, hole.address], &[two.address, hole_too.address]], "");
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    // Those that wait for a connection at the same time find their retries in a budget.
    report.all_but(report.all.len() / 5);
    before.again(&waypoint, GROWN_KIB).await;
}

row!(nobody_answers:
    requests_that_nobody_answers_are_answered_504_at_their_timeout,
    requests_that_nobody_answers_for_a_minute_are_answered_504_at_their_timeout);

/// N3.
async fn nobody_answers(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Silent).await;
    let timeouts = "\n      timeouts: {request: 1s}";
    let resources = scene.resources([&[one.address], &[two.address]], timeouts);
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(usize::MAX);
    assert_eq!(report.whole(), 0);
    let early = report.all.iter().filter(|sealed| {
        sealed.request.kind != Kind::Denied && sealed.after < Duration::from_millis(950)
    });
    // Past 1024 connections an endpoint's queue is what answers.
    let early = early.filter(|sealed| sealed.fate != Fate::Shed(503)).count();
    assert_eq!(early, 0, "a timeout came before its time");
    before.again(&waypoint, GROWN_KIB).await;
}

row!(one_service_is_slow:
    an_endpoint_that_sends_a_byte_now_and_then_slows_no_other,
    an_endpoint_that_sends_a_byte_now_and_then_for_a_minute_slows_no_other);

/// N4: the slow one holds 50 requests, whose answers crawl, while the load goes to others.
async fn one_service_is_slow(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let slow = crate::streams::serve_raw(|mut stream| async move {
        use tokio::io::AsyncWriteExt as _;
        crate::streams::read_head(&mut stream).await;
        let mut rest: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        while stream.write_all(&rest[..1]).await.is_ok() {
            rest = if rest.len() > 1 { &rest[1..] } else { b".." };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let resources = scene.resources([&[one.address], &[two.address]], "")
        + &service("slow", "http", slow)
        + &crate::client::route("slow", "/slow", "slow");
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;
    let crawling: Vec<_> =
        (0..50).map(|_| tokio::spawn(crate::harness::get(waypoint.http(), "/slow"))).collect();

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(0);
    for crawl in crawling {
        assert!(!crawl.is_finished(), "a million bytes have not come yet");
        crawl.abort();
    }
    before.again(&waypoint, GROWN_KIB).await;
}

row!(one_of_three_is_cut_off:
    an_endpoint_of_three_that_is_cut_off_takes_few_requests_with_it,
    an_endpoint_of_three_that_is_cut_off_for_long_takes_few_requests_with_it);

/// N13.
async fn one_of_three_is_cut_off(length: Length) {
    let scene = Scene::new(length);
    let mut endpoints = [Vec::new(), Vec::new()];
    let mut relays = Vec::new();
    for (index, speaks) in BOTH.into_iter().enumerate() {
        for _ in 0..3 {
            let witness = scene.witness(speaks, Manner::Good).await;
            endpoints[index].push(witness.address);
        }
        let relay = Relay::start(endpoints[index][2], Shape::default(), scene.seed).await;
        endpoints[index][2] = relay.address;
        relays.push(relay);
    }
    let timeouts = "\n      timeouts: {request: 300ms}";
    let resources = scene.resources([&endpoints[0], &endpoints[1]], timeouts);
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;

    let report = scene
        .load(&waypoint, async |progress| {
            progress.at(20).await;
            relays.iter().for_each(Relay::cut);
            progress.at(70).await;
            relays.iter().for_each(Relay::mend);
        })
        .await;

    // What was sent to it before its fifth failure, 300 ms each, is what the cut costs; a slow
    // machine takes longer than that over some that nobody cut. An answer of which a part had passed
    // is cut when its time is over, and does not look whole.
    report.is_sound();
    report.failed_only(|sealed| matches!(sealed.fate, Fate::Cut(_)));
    let cost = report.shed() + report.failed().len();
    let kinds = report.shed_kinds();
    assert!(cost <= report.all.len() / 10, "the cut cost {cost}: {kinds:#?}; {}", report.summary());
    if length == Length::Long {
        for service in ["one", "two"] {
            let ejected = format!(
                "waypoint_upstream_ejections_total{{service=\"default/{service}:80\",reason=\"timeout\"}}"
            );
            assert!(waypoint.series(&ejected).await >= Some(1), "{service}");
        }
    }
    before.again(&waypoint, GROWN_KIB).await;
}

row!(endpoints_go_and_come:
    a_service_that_loses_its_endpoints_answers_503_until_they_are_back,
    a_service_that_loses_its_endpoints_for_long_answers_503_until_they_are_back);

/// N17.
async fn endpoints_go_and_come(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let there = scene.resources([&[one.address], &[two.address]], "");
    let gone = scene.resources([&[], &[]], "");
    let waypoint = Waypoint::start_with(&there, &["--no-watch"]).await;
    let before = Holds::of(&waypoint).await;

    let report = scene
        .load(&waypoint, async |progress| {
            progress.at(30).await;
            assert_eq!(waypoint.reload(&gone).await["result"], "applied");
            progress.at(60).await;
            assert_eq!(waypoint.reload(&there).await["result"], "applied");
        })
        .await;

    report.all_but(report.all.len() / 2);
    let record = waypoint.record(|record| record["response_flags"] == "UH").await;
    assert_eq!(record["response_code_details"], "no_healthy_upstream");
    let last = report.all.iter().max_by_key(|sealed| sealed.request.id).unwrap();
    assert!(last.fate == Fate::Whole || last.request.kind == Kind::Denied, "{:?}", last.fate);
    before.again(&waypoint, GROWN_KIB).await;
}
