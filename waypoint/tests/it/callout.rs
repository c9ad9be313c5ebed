//! Filters that ask another service before a request goes on.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::{Raw, becomes, failures, filter_on, get_with, series, status, values};
use crate::guests::{Guest, calling, signing};
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, get, service};
use crate::origin::{Origin, Speaks};

const STREAMS: &str = "waypoint_filter_streams{filter=\"default/ask\"}";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A service that answers when the test says so.
struct Gate(TcpListener);

impl Gate {
    async fn open() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next callout, its head read.
    async fn asked(&self) -> Raw {
        let (stream, _) = timeout(PATIENCE, self.0.accept()).await.expect("a callout").unwrap();
        let mut raw = Raw::over(stream);
        let head = raw.until("\r\n\r\n").await;
        assert!(head.starts_with("GET /check HTTP/1.1\r\n"), "{head}");
        raw
    }
}

struct Scene {
    waypoint: Waypoint,
    origin: Origin,
    gate: Gate,
    dir: TempDir,
}

/// A waypoint whose only filter is `guest`, an origin, and the service `auth` that it may ask.
async fn scene(guest: Guest, spec: &str) -> Scene {
    let dir = TempDir::new().unwrap();
    let (origin, gate) = (Origin::named(Speaks::Http1, "origin").await, Gate::open().await);
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &service("auth", "http", gate.address())
        + &filter("ask", &guest.write(dir.path(), "ask"), spec);
    let waypoint = Waypoint::start(&resources).await;
    Scene { waypoint, origin, gate, dir }
}

#[tokio::test]
async fn a_request_goes_on_when_its_callout_is_answered() {
    let scene = scene(calling("auth.default:80", 5_000), "").await;
    let address = scene.waypoint.http();

    let request = tokio::spawn(async move { get(address, "/").await });
    let mut asked = scene.gate.asked().await;
    assert!(scene.origin.seen().is_empty());
    asked.send(OK).await;

    assert_eq!(request.await.unwrap().status(), 200);
    assert_eq!(values(scene.origin.seen()[0].headers(), "x-callout"), ["200"]);
    let callouts = "waypoint_filter_callouts_total{filter=\"default/ask\"}";
    assert_eq!(series(&scene.waypoint, callouts).await, 1);
}

/// What is left after a client went away during its callout: nothing, and the next one is served.
async fn is_clean(scene: &Scene, mut asked: Raw) {
    let record = scene.waypoint.record(|record| record["response_flags"] == "DC").await;
    assert_eq!(record["response_code"], 0);
    // The service's answer is still taken, and its guest called for a stream that is no more.
    asked.send(OK).await;
    asked.end().await;
    becomes(&scene.waypoint, STREAMS, 0).await;
    assert!(scene.origin.seen().is_empty());

    let address = scene.waypoint.http();
    let request = tokio::spawn(async move { get(address, "/next").await });
    scene.gate.asked().await.send(OK).await;
    assert_eq!(request.await.unwrap().status(), 200);
    assert_eq!(scene.origin.seen()[0].uri(), "/next");
    becomes(&scene.waypoint, STREAMS, 0).await;
}

#[tokio::test]
async fn a_request_whose_client_goes_away_during_its_callout_leaves_nothing_behind() {
    let scene = scene(calling("auth:80", 5_000), "").await;
    let mut client = Raw::connect(scene.waypoint.http()).await;
    client.send("GET /gone HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let asked = scene.gate.asked().await;
    assert_eq!(series(&scene.waypoint, STREAMS).await, 1);

    client.reset();

    is_clean(&scene, asked).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_reset_during_its_callout_leaves_nothing_behind() {
    let scene = scene(calling("auth:80", 5_000), "").await;
    let stream = TcpStream::connect(scene.waypoint.http()).await.unwrap();
    let http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = http2.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://h/gone").body(Full::<bytes::Bytes>::default()).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let asked = scene.gate.asked().await;

    answer.abort();

    is_clean(&scene, asked).await;
}

#[tokio::test]
async fn a_callout_that_is_not_answered_in_time_is_a_504_to_its_guest() {
    let scene = scene(calling("auth:80", 200), "").await;
    let address = scene.waypoint.http();

    let request = tokio::spawn(async move { get(address, "/").await });
    let asked = scene.gate.asked().await;

    assert_eq!(request.await.unwrap().status(), 200);
    assert_eq!(values(scene.origin.seen()[0].headers(), "x-callout"), ["504"]);
    drop(asked);
}

#[tokio::test]
async fn a_callout_that_nobody_accepts_is_a_503_to_its_guest() {
    let mut scene = scene(calling("auth:80", 5_000), "").await;
    scene.gate = Gate::open().await; // The service's own socket is closed by this.

    assert_eq!(get(scene.waypoint.http(), "/").await.status(), 200);

    assert_eq!(values(scene.origin.seen()[0].headers(), "x-callout"), ["503"]);
}

#[tokio::test]
async fn a_callout_to_an_unknown_service_is_refused_and_says_which_are_known() {
    let scene = scene(calling("aut.default:80", 5_000), "").await;

    assert_eq!(get(scene.waypoint.http(), "/").await.status(), 200);

    assert_eq!(values(scene.origin.seen()[0].headers(), "x-callout"), ["refused"]);
    let line = scene.waypoint.logged("aut.default:80 is unknown").await;
    assert!(line.contains("known: auth.default:80, origin.default:80"), "{line}");
    assert!(line.contains("default/ask"), "{line}");
}

#[tokio::test]
async fn a_callout_to_another_namespace_is_refused() {
    let dir = TempDir::new().unwrap();
    let (origin, other) =
        (Origin::named(Speaks::Http1, "origin").await, Origin::named(Speaks::Http1, "other").await);
    let elsewhere = service("auth", "http", other.address)
        .replace("metadata: {name: auth}", "metadata: {name: auth, namespace: other}")
        .replace("name: auth-1", "name: auth-1\n  namespace: other");
    for upstream in ["auth.other:80", "outbound|80||auth.other.svc.cluster.local"] {
        let resources = gateway_to("origin")
            + &service("origin", "http", origin.address)
            + &elsewhere
            + &filter("ask", &calling(upstream, 5_000).write(dir.path(), "ask"), "");
        let waypoint = Waypoint::start(&resources).await;

        assert_eq!(get(waypoint.http(), "/").await.status(), 200);

        waypoint.logged("may call services of default only").await;
    }
    assert!(origin.seen().iter().all(|seen| values(seen.headers(), "x-callout") == ["refused"]));
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn callouts_of_one_stream_are_bounded() {
    let many = "(loop $again
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.eqz (call $http_call {auth:80} PAIRS (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const 5000) (i32.const 16)))))
      (if (i32.eq (local.get $i) (i32.const 4)) (then (call $add (i32.const 0) {x-made} {three})))
      (i32.const 0)";
    let many = many.replace("PAIRS", &format!("{{{}}}", crate::guests::check_pairs()));
    let scene = scene(Guest::on_request(&many), "  limits: {calloutsPerStream: 3}").await;

    assert_eq!(get(scene.waypoint.http(), "/").await.status(), 200);

    assert_eq!(values(scene.origin.seen()[0].headers(), "x-made"), ["three"]);
}

#[tokio::test]
async fn many_requests_wait_for_their_own_callouts() {
    let scene = scene(calling("auth:80", 20_000), "").await;
    let address = scene.waypoint.http();
    let all: Vec<_> = (0..20).map(|_| tokio::spawn(status(address, get_with("/", &[])))).collect();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(scene.gate.asked().await);
    }
    assert_eq!(series(&scene.waypoint, STREAMS).await, 20);

    for mut asked in waiting.into_iter().rev() {
        asked.send(OK).await;
    }

    for one in all {
        assert_eq!(one.await.unwrap(), 200);
    }
    becomes(&scene.waypoint, STREAMS, 0).await;
}

#[tokio::test]
async fn a_filter_that_waits_for_a_body_that_does_not_come_is_ended_by_its_bound() {
    let dir = TempDir::new().unwrap();
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let pause = Guest::on_request("(i32.const 1)").on("request_body", "(i32.const 1)");
    let spec = "  bodies: BeforeHeaders\n  limits: {bodyWait: 300ms}";
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter_on("ask", "kind: HTTPRoute, name: all", &pause.write(dir.path(), "p"), spec);
    let waypoint = Waypoint::start(&resources).await;
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhalf").await;

    let answer = client.until("\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let record = waypoint.record(|record| record["response_code"] == 408).await;
    assert_eq!(record["response_code_details"], "filter_body_wait");
    becomes(&waypoint, STREAMS, 0).await;
}

#[tokio::test]
async fn a_request_in_its_callout_finishes_on_the_chain_that_it_began_with() {
    let scene = scene(calling("auth:80", 20_000), "").await;
    let address = scene.waypoint.http();
    let request = tokio::spawn(async move { get(address, "/old").await });
    let mut asked = scene.gate.asked().await;
    let next = gateway_to("origin")
        + &service("origin", "http", scene.origin.address)
        + &filter("ask", &signing("new").write(scene.dir.path(), "new"), "");

    scene.waypoint.reload(&next).await;

    assert_eq!(get(address, "/new").await.status(), 200);
    asked.send(OK).await;
    assert_eq!(request.await.unwrap().status(), 200);
    let seen = scene.origin.seen();
    assert_eq!(values(seen[0].headers(), "x-order"), ["new"]);
    assert_eq!(values(seen[1].headers(), "x-callout"), ["200"]);
    assert!(!seen[1].headers().contains_key("x-order"));
    let generations = "waypoint_filter_live_generations{filter=\"default/ask\"}";
    becomes(&scene.waypoint, generations, 1).await;
}

#[tokio::test]
async fn a_drain_waits_for_a_request_in_its_callout() {
    let mut scene = scene(calling("auth:80", 20_000), "").await;
    let address = scene.waypoint.http();
    let request = tokio::spawn(async move { get(address, "/").await });
    let mut asked = scene.gate.asked().await;

    scene.waypoint.signal(rustix::process::Signal::TERM);
    scene.waypoint.logged("drain").await;
    asked.send(OK).await;

    assert_eq!(request.await.unwrap().status(), 200);
    let ended = timeout(PATIENCE, scene.waypoint.child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn a_request_that_a_filter_pauses_for_ever_is_ended_by_the_bound() {
    let scene = scene(Guest::on_request("(i32.const 1)"), "  limits: {bodyWait: 500ms}").await;
    let stuck = get_with("/", &[]);

    let answer = timeout(Duration::from_secs(90), status(scene.waypoint.http(), stuck)).await;

    assert_eq!(answer.expect("the bound ends it"), 503);
    becomes(&scene.waypoint, STREAMS, 0).await;
    assert_eq!(failures(&scene.waypoint, "ask", "trap").await, 0);
    assert_eq!(scene.waypoint.admin(Method::GET, "/ready").await.status(), 200);
}
