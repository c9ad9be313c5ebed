//! WebSocket: the connection after a 101.

use std::time::Duration;

use http::{Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::oneshot,
};

use super::ask;
use crate::codec::{
    Body, Refusal, Tunnel, Upgrade,
    testing::{Client, Once, Rig, Setup, patiently},
};

const ASKED: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n\
                        connection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// A server that switches when it is told to, and the tunnel's far end.
fn switching() -> (Rig, oneshot::Sender<()>, DuplexStream) {
    let (near, far) = duplex(1024);
    let (go, wait) = oneshot::channel::<()>();
    let held = Once::new((near, wait));
    let rig = Rig::start(Setup::default(), move |request, _| {
        assert_eq!(request.extensions().get(), Some(&Upgrade::WebSocket));
        assert!(request.headers().contains_key("sec-websocket-version"));
        assert!(!request.headers().contains_key("upgrade"));
        let (near, wait) = held.take();
        async move {
            wait.await.expect("the test is there");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let accept = http::HeaderValue::from_static("x");
            response.headers_mut().insert("sec-websocket-accept", accept);
            response.extensions_mut().insert(Tunnel::new(near));
            response
        }
    });
    (rig, go, far)
}

async fn switched() -> (Rig, Client, DuplexStream) {
    let (rig, go, far) = switching();
    let mut client = rig.client().await;
    ask(&mut client, "GET /chat", ASKED).await;
    go.send(()).expect("the journey waits");
    assert_eq!(client.until("\r\n\r\n").await, SWITCHED);
    (rig, client, far)
}

async fn read(far: &mut DuplexStream, bytes: usize) -> String {
    let mut seen = vec![0; bytes];
    patiently(far.read_exact(&mut seen)).await.expect("the tunnel is open");
    String::from_utf8(seen).expect("ASCII")
}

#[tokio::test]
async fn no_byte_passes_before_the_101_and_the_early_ones_come_first() {
    let (rig, go, mut far) = switching();
    let mut client = rig.client().await;
    ask(&mut client, "GET /chat", &format!("{ASKED}\r\nearly")).await;
    let mut seen = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(20), far.read(&mut seen)).await;
    assert!(early.is_err(), "a byte passed before the answer");
    go.send(()).expect("the journey waits");
    assert_eq!(client.until("\r\n\r\n").await, SWITCHED);
    client.send("later").await;
    // `ask` ends the head's fields with an empty line, which is early too.
    assert_eq!(read(&mut far, 12).await, "early\r\nlater");
    far.write_all(b"answer").await.expect("the tunnel is open");
    assert_eq!(client.until("answer").await, "answer");
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open() {
    let (_rig, mut client, mut far) = switched().await;
    client.send("bye").await;
    client.stream.shutdown().await.expect("still open");
    let mut seen = Vec::new();
    patiently(far.read_to_end(&mut seen)).await.expect("a clean end");
    assert_eq!(seen, b"bye");
    far.write_all(b"still here").await.expect("this direction is open");
    drop(far);
    assert_eq!(client.rest().await, "still here");
}

#[tokio::test]
async fn a_drain_leaves_a_tunnel_open_until_its_limit() {
    let (rig, mut client, mut far) = switched().await;
    rig.drain.close();
    client.send("on").await;
    assert_eq!(read(&mut far, 2).await, "on");
    assert!(!rig.drain.drain(Duration::from_millis(20)).await);
    assert_eq!(client.rest().await, "");
    assert_eq!(patiently(far.read(&mut [0; 1])).await.ok(), Some(0));
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_502() {
    let rig = Rig::start(Setup::default(), |_, _| async {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.extensions_mut().insert(Tunnel::new(duplex(1).0));
        response
    });
    let mut client = rig.client().await;
    ask(&mut client, "GET /", "").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    assert!(answer.ends_with(Refusal::SwitchUnasked.name()), "{answer}");
}

#[tokio::test]
async fn an_upgrade_that_is_refused_leaves_the_connection_as_it_was() {
    let rig = Rig::start(Setup::default(), |_, _| async { Response::new(Body::full("no")) });
    let mut client = rig.client().await;
    for _ in 0..2 {
        ask(&mut client, "GET /chat", ASKED).await;
        assert_eq!(client.until("no").await, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
    }
}
