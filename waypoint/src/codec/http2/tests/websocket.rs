//! WebSocket on a stream, by extended CONNECT.

use h2::ext::Protocol;
use http::{Method, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{answer, connect, get, send, text};
use crate::codec::{
    Body, Tunnel, Upgrade,
    testing::{Once, Rig, Setup, patiently},
    websocket::{ACCEPT, KEY, accept_of},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};

fn extended(protocol: &'static str) -> Request<()> {
    let mut request = Request::builder().method(Method::CONNECT).uri("http://a/chat").body(());
    let extensions = request.as_mut().expect("a request").extensions_mut();
    extensions.insert(Protocol::from_static(protocol));
    request.expect("a request")
}

/// A server that switches, with what `accept` makes of the key, and the tunnel's far end.
fn switching(accept: fn(&HeaderValue) -> String) -> (Rig, DuplexStream) {
    let (near, far) = duplex(1024);
    let held = Once::new(near);
    let rig = Rig::start(Setup::default(), move |request, _| {
        let mut response = Response::new(Body::empty());
        if request.uri().path() == "/chat" {
            assert_eq!(request.method(), Method::GET);
            assert_eq!(request.extensions().get(), Some(&Upgrade::WebSocket));
            let accept = HeaderValue::try_from(accept(&request.headers()[KEY])).expect("a value");
            response.headers_mut().insert(ACCEPT, accept);
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.extensions_mut().insert(Tunnel::new(held.take()));
        }
        async move { response }
    });
    (rig, far)
}

#[tokio::test]
async fn an_extended_connect_is_a_websocket_whose_bytes_go_both_ways() {
    let (rig, mut far) = switching(accept_of);
    let mut client = connect(&rig).await;
    // The server's settings have come with the first answer.
    answer(&mut client, get("/")).await;
    assert!(client.is_extended_connect_protocol_enabled());

    let (response, mut up) = send(&mut client, extended("websocket"), false).await;
    let response = patiently(response).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key(ACCEPT));
    assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
    let mut down = response.into_body();

    up.send_data(Bytes::from_static(b"ping"), false).expect("sent");
    let mut seen = [0; 4];
    patiently(far.read_exact(&mut seen)).await.expect("bytes");
    assert_eq!(&seen, b"ping");
    far.write_all(b"pong").await.expect("taken");
    let data = patiently(down.data()).await.expect("data").expect("no reset");
    assert_eq!(data, "pong");

    // The end of one direction leaves the other one open.
    up.send_data(Bytes::new(), true).expect("sent");
    assert_eq!(patiently(far.read(&mut seen)).await.expect("an end"), 0);
    far.write_all(&[b'x'; 5000]).await.expect("taken");
    drop(far);
    assert_eq!(text(&mut down).await.expect("no reset"), "x".repeat(5000));
}

#[tokio::test]
async fn a_client_that_resets_ends_the_tunnel() {
    let (rig, mut far) = switching(accept_of);
    let mut client = connect(&rig).await;
    answer(&mut client, get("/")).await;
    let (response, mut up) = send(&mut client, extended("websocket"), false).await;
    patiently(response).await.expect("an answer");
    up.send_reset(h2::Reason::CANCEL);
    let mut rest = Vec::new();
    patiently(far.read_to_end(&mut rest)).await.expect("an end");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let wrong = |_: &HeaderValue| "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
    let (rig, _far) = switching(wrong);
    let mut client = connect(&rig).await;
    answer(&mut client, get("/")).await;
    let mut with_length = extended("websocket");
    with_length.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("4"));
    for (request, status, name) in [
        (extended("websocket"), 502, "switch_unasked"),
        (extended("connect-udp"), 501, "connect_refused"),
        (with_length, 400, "upgrade_with_body"),
    ] {
        let (response, _up) = send(&mut client, request, false).await;
        let response = patiently(response).await.expect("an answer");
        assert_eq!(response.status(), status, "{name}");
        assert_eq!(text(&mut response.into_body()).await.expect("no reset"), name);
    }
}
