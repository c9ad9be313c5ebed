//! Running state over many reloads: generations end, and what did not change is kept.

use std::net::SocketAddr;

use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::harness::{
    Kept, PATIENCE, Waypoint, filter, gateway_to, get, post_json, redact_to, request, service,
};
use crate::origin::{Origin, Speaks, listener};

/// Generations of one filter that may live at a time.
const LIVE_MAX: u64 = 8;
const RELOADS: u32 = 30;
const REDACT: &str = "default/redact";

pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// An origin whose answers begin with `head` and then give back every byte that comes.
pub(crate) async fn never_ending(head: &'static str) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut stream).await;
                stream.write_all(head.as_bytes()).await.unwrap();
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n\
                      18\r\ndata: a@example.com hi\n\n\r\n";

/// Opens an endless response and reads its first event.
async fn open(client: &mut Kept) -> (Response<Incoming>, String) {
    let mut answer = client.begin(request(Method::GET, "/", "")).await.unwrap();
    let frame = timeout(PATIENCE, answer.body_mut().frame()).await.unwrap().unwrap().unwrap();
    (answer, String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

async fn started(origin: SocketAddr) -> (Waypoint, String) {
    let resources = gateway_to("origin") + &service("origin", "http", origin);
    let first = resources.clone() + &redact_to("<0>");
    (Waypoint::start_with(&first, &["--no-watch"]).await, resources)
}

#[tokio::test]
async fn streams_that_never_end_are_ended_when_too_many_generations_live() {
    let (waypoint, resources) = started(never_ending(EVENTS).await).await;
    let mut clients = Vec::new();
    let mut streams = Vec::new();
    for number in 1..=LIVE_MAX + 2 {
        // Every second one over HTTP/2.
        let mut client = match number % 2 {
            0 => Kept::http2(waypoint.http()).await,
            _ => Kept::http1(waypoint.http()).await,
        };
        let (stream, event) = open(&mut client).await;
        assert!(event.starts_with(&format!("data: <{}>", number - 1)), "{event}");
        streams.push(stream);
        clients.push(client);
        waypoint.reload(&(resources.clone() + &redact_to(&format!("<{number}>")))).await;
        let live = waypoint.filter(REDACT).await["liveGenerations"].as_u64();
        assert!(live <= Some(LIVE_MAX), "{live:?}");
    }

    // Eleven generations, of which eight live: the streams of the first three have ended.
    for (index, stream) in streams.iter_mut().enumerate().take(3) {
        let next = timeout(PATIENCE, stream.body_mut().frame()).await;
        let next = next.unwrap_or_else(|_| panic!("stream {index} goes on"));
        assert!(next.is_none_or(|frame| frame.is_err()), "stream {index}");
    }
    let last = streams.last_mut().unwrap();
    let goes_on = timeout(std::time::Duration::from_millis(50), last.body_mut().frame()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
}

/// An origin that never answers, and says when it has read a request's head.
pub(crate) async fn silent() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let (read, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let read = read.clone();
            tokio::spawn(async move {
                read_head(&mut stream).await;
                read.send(()).unwrap();
                let _ = stream.read_u8().await;
            });
        }
    });
    (address, heads)
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_ended_with_its_generation() {
    let (origin, mut heads) = silent().await;
    let (waypoint, resources) = started(origin).await;
    let mut answers = Vec::new();
    for number in 1..=LIVE_MAX {
        let address = waypoint.http();
        answers.push(tokio::spawn(async move { get(address, "/").await }));
        heads.recv().await.unwrap();
        waypoint.reload(&(resources.clone() + &redact_to(&format!("<{number}>")))).await;
    }

    let first = timeout(PATIENCE, answers.remove(0)).await.unwrap().unwrap();

    assert_eq!(
        (first.status().as_u16(), &first.body()[..]),
        (503, &b"filter_generation_retired\n"[..])
    );
    assert!(answers.iter().all(|answer| !answer.is_finished()));
}

#[tokio::test]
async fn one_endless_response_holds_one_generation_over_many_reloads() {
    let (waypoint, resources) = started(never_ending(EVENTS).await).await;
    let mut client = Kept::http1(waypoint.http()).await;
    let (mut stream, _) = open(&mut client).await;

    for number in 1..=RELOADS {
        waypoint.reload(&(resources.clone() + &redact_to(&format!("<{number}>")))).await;
    }

    let found = waypoint.filter(REDACT).await;
    assert_eq!(found["generation"], 1 + RELOADS);
    assert_eq!(found["liveGenerations"], 2, "{found:#}");
    let goes_on = timeout(std::time::Duration::from_millis(50), stream.body_mut().frame()).await;
    assert!(goes_on.is_err(), "{goes_on:?}");
}

/// The head with which an origin switches to WebSocket.
pub(crate) const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                                   upgrade: websocket\r\n\
                                   sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A connection that has switched.
pub(crate) async fn web_socket(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let upgrade = "GET /chat HTTP/1.1\r\nhost: example.test\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(upgrade.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

#[tokio::test]
async fn a_web_socket_held_open_pins_no_generation() {
    let (waypoint, resources) = started(never_ending(SWITCHED).await).await;
    let mut client = web_socket(waypoint.http()).await;

    for number in 1..=RELOADS {
        waypoint.reload(&(resources.clone() + &redact_to(&format!("<{number}>")))).await;
        let mut echoed = [0; 4];
        client.write_all(b"ping").await.unwrap();
        timeout(PATIENCE, client.read_exact(&mut echoed)).await.unwrap().unwrap();
        assert_eq!(&echoed, b"ping");
    }

    let found = waypoint.filter(REDACT).await;
    assert_eq!(found["generation"], 1 + RELOADS);
    assert_eq!(found["liveGenerations"], 1, "{found:#}");
    assert_eq!(found["vms"], 1, "{found:#}");
}

#[tokio::test]
async fn a_filter_that_did_not_change_keeps_its_generation_and_its_vm() {
    let origin = Origin::echo(Speaks::Http1).await;
    let (waypoint, resources) = started(origin.address).await;
    let kept = filter("kept", "builtin://pii-redact", "  config: {entities: [iban]}");
    for number in 1..=5 {
        let all = resources.clone() + &kept + &redact_to(&format!("<{number}>"));
        let report = waypoint.reload(&all).await;
        assert_eq!(report["result"], "applied", "{report:#}");
    }

    assert_eq!(waypoint.filter(REDACT).await["generation"], 6);
    let found = waypoint.filter("default/kept").await;
    assert_eq!((found["generation"].as_u64(), found["vmStarts"].as_u64()), (Some(1), Some(1)));

    // Where it is applied is not what it is: another order keeps the VM too.
    let moved = kept.replace("  config:", "  priority: 7\n  config:");
    waypoint.reload(&(resources + &moved + &redact_to("<6>"))).await;
    let found = waypoint.filter("default/kept").await;
    assert_eq!((found["generation"].as_u64(), found["vmStarts"].as_u64()), (Some(1), Some(1)));
}

#[tokio::test]
async fn counters_of_a_guest_and_of_a_filter_outlive_its_generations() {
    let origin = Origin::echo(Speaks::Http1).await;
    let (waypoint, resources) = started(origin.address).await;
    let matches = format!("wasmcustom_pii_redact_matches_email_total{{filter=\"{REDACT}\"}}");
    let mut calls = 0;
    for number in 1..=5 {
        let answer = post_json(waypoint.http(), "/", r#"{"mail":"a@example.com"}"#).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(waypoint.series(&matches).await, Some(number));
        waypoint.reload(&(resources.clone() + &redact_to(&format!("<{number}>")))).await;

        let found = waypoint.filter(REDACT).await;
        assert_eq!(found["generation"], number + 1);
        let now = found["calls"].as_u64().unwrap();
        assert!(now > calls, "{now} after {calls}");
        calls = now;
    }
    assert_eq!(waypoint.series(&matches).await, Some(5));
}
