//! C1, C2, C5, C6: clients that are slow, restless or gone, beside others that must not notice.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::scene::{Holds, Scene};
use super::witness::Manner;
use super::{Length, Seeded, row, seed};
use crate::client::{becomes, route};
use crate::guests::signing;
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, request, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, full, serve};

/// What a process may grow by under load, and for each connection that is held open.
const GROWN_KIB: u64 = 64 << 10;
const HELD_KIB: u64 = 1 << 10;

row!(heads_drip:
    connections_whose_heads_drip_are_closed_in_time_and_slow_nobody,
    thousands_of_connections_whose_heads_drip_are_closed_in_time_and_slow_nobody);

/// C1: a byte now and then; a head has 10 s, however its bytes come.
async fn heads_drip(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let waypoint = Waypoint::start(&scene.resources([&[one.address], &[two.address]], "")).await;
    let before = Holds::of(&waypoint).await;
    let mut dripping = JoinSet::new();
    for _ in 0..length.either(200, 8_000) {
        dripping.spawn(drip(waypoint.http()));
    }

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(0);
    while let Some(end) = timeout(PATIENCE, dripping.join_next()).await.expect("all are closed") {
        let (answer, took) = end.expect("no panic");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(Duration::from_secs(9) < took, "closed after {took:?}");
    }
    before.again(&waypoint, GROWN_KIB).await;
}

/// Sends a head byte by byte until it is closed; gives the answer and how long it took.
async fn drip(address: SocketAddr) -> (String, Duration) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let began = std::time::Instant::now();
    let (mut read, mut write) = stream.into_split();
    let mut answer = Vec::new();
    let dripping = async {
        let mut head = b"GET / HTTP/1.1\r\nhost: example.test\r\nx-slow: ".to_vec();
        head.resize(1_000, b'x');
        for byte in head {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        _ = read.read_to_end(&mut answer) => {}
        () = dripping => {}
    }
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

row!(bodies_drip:
    bodies_that_drip_and_answers_that_nobody_reads_slow_nobody,
    bodies_that_drip_and_answers_that_nobody_reads_for_a_minute_slow_nobody);

/// C2: a third uploads a byte now and then, a third stops in its upload, a third asks for much and
/// reads nothing. Who stops in an upload is cut when the route's 15 s are over, long before the 300 s
/// for a byte of a body; who reads nothing after 30 s. The long version sees both; the same over
/// HTTP/2 is among the scripts of [`super::attacks`].
async fn bodies_drip(length: Length) {
    let scene = Scene::new(length);
    let [one, two] = scene.witnesses(Manner::Good).await;
    let much = serve(Speaks::Http1, |request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        http::Response::new(full(vec![b'x'; 16 << 20]))
    })
    .await;
    let resources = scene.resources([&[one.address], &[two.address]], "")
        + &service("much", "http", much)
        + &route("much", "/much", "much")
        + route("timed", "/timed", "much").trim_end()
        + "\n      timeouts: {request: 15s}\n";
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;
    let resident = waypoint.resident_kib();
    let each = length.either(20, 200);
    let mut dripping = JoinSet::new();
    let (mut stopped, mut deaf) = (Vec::new(), Vec::new());
    for _ in 0..each {
        dripping.spawn(drip_body(waypoint.http()));
        stopped.push(begin_body(waypoint.http(), "/timed").await);
        let mut stream = TcpStream::connect(waypoint.http()).await.expect("a connection");
        stream.write_all(b"GET /much HTTP/1.1\r\nhost: example.test\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }

    let report = scene.load(&waypoint, async |_| {}).await;

    report.all_but(0);
    let grown = waypoint.resident_kib().saturating_sub(resident);
    let most = 3 * each * HELD_KIB + GROWN_KIB;
    assert!(grown < most, "{} connections make the process grow by {grown} KiB", 3 * each);
    if length == Length::Long {
        for mut stream in stopped.drain(..) {
            let mut read = String::new();
            let _ = timeout(PATIENCE, stream.read_to_string(&mut read)).await.expect("it is cut");
            // Some find no connection within a second at the beginning, when all come at once.
            let is_over =
                ["HTTP/1.1 504 ", "HTTP/1.1 503 "].iter().any(|line| read.starts_with(line));
            assert!(is_over, "{read}");
        }
        for mut stream in deaf.drain(..) {
            let mut read = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("it is cut");
            assert!(read.len() < 16 << 20, "it was not held up");
        }
    }
    drop((stopped, deaf));
    dripping.shutdown().await;
    before.again(&waypoint, GROWN_KIB).await;
}

/// An upload of which nothing but its head and a byte is sent.
async fn begin_body(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: example.test\r\ncontent-length: 1000\r\n\r\nx");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

async fn drip_body(address: SocketAddr) {
    let mut stream = begin_body(address, "/much").await;
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

row!(connections_come_and_go:
    connections_that_come_and_go_leave_nothing_behind,
    fifty_thousand_connections_that_come_and_go_leave_nothing_behind);

/// C5: closed at once, after a part of a head, after a request, or within the TLS handshake.
async fn connections_come_and_go(length: Length) {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let secret = crate::tls::made("cert", "example.test").secret;
    let resources = crate::tls::gateway(&[("cert", "example.test")], &origin)
        .replace("listeners: [", "listeners: [{name: http, port: 8080, protocol: HTTP}, ")
        + &secret;
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;
    let (plain, tls) = (waypoint.http(), waypoint.address("gateway/default/8443"));
    let (seed, total) = (seed(), length.either(1_000, 50_000));
    let mut going = JoinSet::new();
    for number in 0..total {
        if going.len() > 100 {
            going.join_next().await;
        }
        going.spawn(come_and_go(plain, tls, Seeded::new(seed, number)));
    }
    going.join_all().await;
    before.again(&waypoint, GROWN_KIB).await;
    assert_eq!(crate::harness::get(plain, "/").await.status(), 200);
}

/// A TLS record that announces a handshake of 512 bytes, and the first of them.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

async fn come_and_go(plain: SocketAddr, tls: SocketAddr, mut random: Seeded) {
    let kind = random.below(5);
    let address = if kind == 4 { tls } else { plain };
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let bytes: &[u8] = match kind {
        0 => b"",
        1 => b"GET / HTTP/1.1\r\nho",
        2 => b"GET / HTTP/1.1\r\nhost: example.test\r\n\r\n",
        3 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        _ => HALF_A_HELLO,
    };
    let _ = stream.write_all(bytes).await;
    if random.below(2) == 0 {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
    tokio::time::sleep(Duration::from_micros(random.below(2_000))).await;
}

row!(requests_are_given_up:
    requests_given_up_at_any_moment_leave_nothing_behind,
    ten_thousand_requests_given_up_at_any_moment_leave_nothing_behind);

/// C6: behind a filter, towards an origin that takes its time.
async fn requests_are_given_up(length: Length) {
    let (seed, total) = (seed(), length.either(400, 10_000));
    let dir = TempDir::new().unwrap();
    let origin = serve(Speaks::Http1, move |request| async move {
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        http::Response::new(full(vec![b'x'; 256 << 10]))
    })
    .await;
    let resources = gateway_to("origin")
        + &service("origin", "http", origin)
        + &filter("sign", &signing("sign").write(dir.path(), "sign"), "  limits: {cpuShare: 1}");
    let waypoint = Waypoint::start(&resources).await;
    let before = Holds::of(&waypoint).await;
    let mut shared = Vec::new();
    for _ in 0..4 {
        shared.push(Client::connect(waypoint.http(), Speaks::Http2).await);
    }
    let mut given_up = JoinSet::new();
    for number in 0..total {
        if given_up.len() > 40 {
            given_up.join_next().await;
        }
        let (address, client) = (waypoint.http(), shared[number as usize % shared.len()].clone());
        given_up.spawn(give_up(address, client, Seeded::new(seed, number)));
    }
    given_up.join_all().await;
    drop(shared);
    becomes(&waypoint, "waypoint_filter_streams{filter=\"default/sign\"}", 0).await;
    before.again(&waypoint, GROWN_KIB).await;
    assert_eq!(waypoint.filter("default/sign").await["traps"], 0, "{}", waypoint.printed());
}

async fn give_up(address: SocketAddr, client: Client, mut random: Seeded) {
    let moment = Duration::from_micros(random.below(30_000));
    if random.below(2) == 0 {
        // RST_STREAM: the client's future is dropped. One whose connection was closed for too many
        // resets would be refused: half of the streams may end so.
        let work = client.try_send(request(Method::GET, "/", ""));
        let Ok(Ok(answer)) = timeout(moment, work).await else { return };
        let _ = timeout(moment, http_body_util::BodyExt::collect(answer.into_body())).await;
        return;
    }
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = "PUT / HTTP/1.1\r\nhost: example.test\r\ncontent-length: 5\r\n\r\nhello";
    let sent = random.below(head.len() as u64 + 1) as usize;
    let _ = stream.write_all(&head.as_bytes()[..sent]).await;
    let mut read = vec![0; 64 << 10];
    let _ = timeout(moment, async { while let Ok(1..) = stream.read(&mut read).await {} }).await;
    if random.below(2) == 0 {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}
