//! The process's end: what is in flight finishes, nothing new begins, and the exit code is 0.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::generations::{SWITCHED, never_ending, web_socket};
use crate::harness::{Kept, PATIENCE, Waypoint, gateway_to, request, send_http1, service};
use crate::origin::Holding;

async fn with_held_origin(arguments: &[&str]) -> (Holding, Waypoint) {
    let origin = Holding::start("{}").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start_with(&resources, arguments).await;
    (origin, waypoint)
}

/// Readiness on the health port.
async fn readiness(waypoint: &Waypoint) -> u16 {
    let request = Request::get("/healthz/ready").header("host", "localhost");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    send_http1(waypoint.address("health"), request).await.status().as_u16()
}

/// Asks until the answer is 503: the log's line is written a moment before.
async fn unready(waypoint: &Waypoint) {
    let asked = async {
        while readiness(waypoint).await != 503 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap();
}

#[tokio::test]
async fn a_terminated_process_is_unready_first_and_finishes_its_http1_requests() {
    let (origin, mut waypoint) = with_held_origin(&[]).await;
    let mut client = Kept::http1(waypoint.http()).await;
    let asked = tokio::spawn(async move { client.send(request(Method::GET, "/", "")).await });
    origin.arrived().await;
    assert_eq!(readiness(&waypoint).await, 200);

    waypoint.signal(Signal::TERM);
    waypoint.logged("draining").await;
    unready(&waypoint).await;
    assert_eq!(waypoint.admin(Method::GET, "/ready").await.status(), 503);
    assert!(!asked.is_finished());
    let refused = TcpStream::connect(waypoint.http()).await;
    assert!(refused.is_err(), "new connections are refused");
    origin.release(1);

    let answer = asked.await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"{}"[..]));
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(waypoint.exit_code().await, Some(0));
    waypoint.logged("drained").await;
    waypoint.record(|record| record["path"] == "/" && record["response_code"] == 200).await;
}

#[tokio::test]
async fn a_terminated_process_says_goaway_and_finishes_its_http2_streams() {
    let (origin, mut waypoint) = with_held_origin(&[]).await;
    let stream = TcpStream::connect(waypoint.http()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let one = Request::get("http://example.test/").body(()).unwrap();
    let (answer, _) = client.send_request(one, true).unwrap();
    origin.arrived().await;

    waypoint.signal(Signal::TERM);
    let goaway = async {
        loop {
            match client.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    };
    let error = timeout(PATIENCE, goaway).await.unwrap();
    assert!(error.is_go_away() && error.is_remote(), "{error:?}");
    assert_eq!(error.reason(), Some(h2::Reason::NO_ERROR));
    origin.release(1);

    let mut answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "{}");
    drop((client, answer));
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    assert_eq!(waypoint.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let (origin, mut waypoint) = with_held_origin(&[]).await;
    origin.release(2);
    let mut one = Kept::http1(waypoint.http()).await;
    let mut two = Kept::http2(waypoint.http()).await;
    assert_eq!(one.send(request(Method::GET, "/", "")).await.status(), 200);
    assert_eq!(two.send(request(Method::GET, "/", "")).await.status(), 200);
    let started = std::time::Instant::now();

    waypoint.signal(Signal::TERM);

    assert_eq!(waypoint.exit_code().await, Some(0));
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_that_does_not_finish_within_the_drain_is_cut() {
    let (origin, mut waypoint) = with_held_origin(&["--drain-seconds", "1"]).await;
    let mut client = Kept::http1(waypoint.http()).await;
    let asked = tokio::spawn(async move { client.begin(request(Method::GET, "/", "")).await });
    origin.arrived().await;

    waypoint.signal(Signal::TERM);

    assert_eq!(waypoint.exit_code().await, Some(0));
    waypoint.logged("limit has passed").await;
    // Cut, or refused with a word: never a whole answer.
    if let Ok(answer) = asked.await.unwrap() {
        assert_eq!(answer.status(), 503);
        let _ = answer.into_body().collect().await;
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let (origin, mut waypoint) = with_held_origin(&["--drain-seconds", "600"]).await;
    let mut client = Kept::http1(waypoint.http()).await;
    let asked = tokio::spawn(async move { client.begin(request(Method::GET, "/", "")).await });
    origin.arrived().await;

    waypoint.signal(Signal::TERM);
    waypoint.logged("draining").await;
    waypoint.signal(Signal::INT);

    assert_eq!(waypoint.exit_code().await, Some(0));
    waypoint.logged("second signal").await;
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test]
async fn a_signal_that_comes_as_soon_as_it_serves_drains_too() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_origin, mut waypoint) = with_held_origin(&[]).await;

        waypoint.signal(signal);

        assert_eq!(waypoint.exit_code().await, Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn a_web_socket_and_an_open_admin_connection_are_cut_at_the_limit() {
    let origin = never_ending(SWITCHED).await;
    let resources = gateway_to("origin") + &service("origin", "http", origin);
    let mut waypoint = Waypoint::start_with(&resources, &["--drain-seconds", "1"]).await;
    let mut socket = web_socket(waypoint.http()).await;
    let mut admin = Kept::http1(waypoint.address("admin")).await;
    let mut ready = request(Method::GET, "/ready", "");
    ready.headers_mut().insert("host", "localhost".parse().unwrap());
    assert_eq!(admin.send(ready).await.status(), 200);

    waypoint.signal(Signal::TERM);

    assert_eq!(waypoint.exit_code().await, Some(0));
    let end = timeout(PATIENCE, socket.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    waypoint.record(|record| record["path"] == "/chat").await;
}
