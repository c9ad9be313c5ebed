//! Upgrades of HTTP/1 connections, and WebSockets on streams of HTTP/2.

use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, ext::Protocol as AskedProtocol};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::http2::{ok, serve};
use super::origin::Origin;
use super::*;
use crate::codec::{Tunnel, TunnelIo, Upgrade};

fn upgrade() -> Request<Body> {
    let mut request = get("/chat");
    let key = "dGhlIHNhbXBsZSBub25jZQ==".parse().expect("a value");
    request.headers_mut().insert("sec-websocket-key", key);
    request.extensions_mut().insert(Upgrade::WebSocket);
    request
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-accept: x\r\n\r\nearly";

#[tokio::test]
async fn an_accepted_upgrade_gives_a_tunnel_that_begins_with_the_leftover_bytes() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = Origin::start(&bench, |mut peer, _| async move {
        let head = peer.head().await.expect("a head");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        peer.write(SWITCHING).await;
        peer.until(b"ping").await;
        peer.write("pong").await;
        peer.closed().await;
    })
    .await;
    let cluster = bench.http1(&[origin.address]);
    let response = send(&cluster, upgrade()).await.expect("a response");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "x");
    let tunnel = response.extensions().get::<Tunnel>().and_then(Tunnel::take);
    let mut tunnel = tunnel.expect("a tunnel");
    drop(response);
    let mut early = [0; 5];
    within(tunnel.read_exact(&mut early)).await.expect("bytes");
    tunnel.write_all(b"ping").await.expect("written");
    let mut pong = [0; 4];
    within(tunnel.read_exact(&mut pong)).await.expect("bytes");
    assert_eq!((&early, &pong), (b"early", b"pong"));
    assert_eq!(bench.outstanding(), 1);
    drop(tunnel);
    assert_eq!(bench.outstanding(), 0);
    assert_eq!(bench.upstreams.figures()[0].connections, 0);
}

#[tokio::test]
async fn a_refused_upgrade_is_a_response_like_any_other() {
    let bench = Bench::new(UpstreamLimits::default());
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
    let origin = Origin::answering(&bench, refusal).await;
    let cluster = bench.http1(&[origin.address]);
    for _ in 0..2 {
        let response = send(&cluster, upgrade()).await.expect("a response");
        assert!(response.extensions().get::<Tunnel>().is_none());
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(text(response.into_body()).await, Ok("no".to_owned()));
    }
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_switch_that_was_not_asked_for_is_malformed() {
    let other = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n";
    for (request, answer) in [(get("/"), SWITCHING), (upgrade(), other)] {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = Origin::answering(&bench, answer).await;
        let error = send(&bench.http1(&[origin.address]), request).await.expect_err("an error");
        assert!(matches!(error, UpstreamError::MalformedResponse { .. }), "{error:?}");
        assert_eq!(bench.outstanding(), 0);
    }
}

/// An HTTP/2 origin that offers WebSockets.
fn offering() -> Builder {
    let mut builder = Builder::new();
    builder.enable_connect_protocol();
    builder
}

/// Takes the WebSocket that was asked for, and gives back every byte.
async fn accept(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    assert_eq!(request.method(), Method::CONNECT);
    assert_eq!(request.extensions().get(), Some(&AskedProtocol::from_static("websocket")));
    assert_eq!(request.uri().path(), "/chat");
    assert!(!request.headers().contains_key("sec-websocket-key"));
    let mut up = request.into_body();
    let mut down = respond.send_response(ok(), false).expect("a head");
    while let Some(Ok(data)) = up.data().await {
        up.flow_control().release_capacity(data.len()).expect("released");
        down.send_data(data, false).expect("sent");
    }
    let _ = down.send_data(Bytes::new(), true);
}

fn tunnel_of(response: &Response<Body>) -> Box<dyn TunnelIo> {
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    response.extensions().get::<Tunnel>().and_then(Tunnel::take).expect("a tunnel")
}

#[tokio::test]
async fn a_websocket_is_a_stream_of_an_http2_endpoint() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, offering(), accept).await;
    let cluster = bench.http2(&[origin.address]);
    let response = send(&cluster, upgrade()).await.expect("a response");
    let (mut from, mut to) = tokio::io::split(tunnel_of(&response));
    drop(response);
    // Far more than the windows of both ends.
    let long = b"0123456789abcdef".repeat(64 << 10);
    let (sent, got) = tokio::join!(
        async {
            to.write_all(&long).await?;
            to.shutdown().await
        },
        async {
            let mut got = Vec::new();
            within(from.read_to_end(&mut got)).await.expect("the end");
            got
        }
    );
    sent.expect("sent");
    assert!(got == long);
    assert_eq!((origin.accepted(), bench.outstanding()), (1, 1));
    drop((from, to));
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn a_refused_websocket_is_a_response_like_any_other_and_its_stream_ends() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, offering(), |request, mut respond| async move {
        let mut head = ok();
        *head.status_mut() = StatusCode::FORBIDDEN;
        let mut down = respond.send_response(head, false).expect("a head");
        let ended = request.into_body().data().await;
        assert!(ended.is_none_or(|data| data.expect("no reset").is_empty()));
        down.send_data("no".into(), true).expect("a body");
    })
    .await;
    let response = send(&bench.http2(&[origin.address]), upgrade()).await.expect("a response");
    assert!(response.extensions().get::<Tunnel>().is_none());
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(text(response.into_body()).await, Ok("no".to_owned()));
    assert_eq!(bench.outstanding(), 0);
}

#[tokio::test]
async fn an_http2_endpoint_that_offers_no_websockets_is_asked_for_none() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, Builder::new(), |_, _| async {
        unreachable!("nothing is asked of it");
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    let error = send(&cluster, upgrade()).await.expect_err("an error");
    assert!(matches!(error, UpstreamError::UpgradeUnsupported), "{error:?}");
    assert_eq!((origin.accepted(), bench.outstanding()), (1, 0));
}

#[tokio::test]
async fn a_websocket_that_its_endpoint_resets_fails_in_both_directions() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, offering(), |request, mut respond| async move {
        let mut down = respond.send_response(ok(), false).expect("a head");
        let _ = request.into_body().data().await;
        down.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let response = send(&bench.http2(&[origin.address]), upgrade()).await.expect("a response");
    let mut tunnel = tunnel_of(&response);
    tunnel.write_all(b"ping").await.expect("written");
    let mut got = Vec::new();
    within(tunnel.read_to_end(&mut got)).await.expect_err("a reset is no end");
    tunnel.write_all(&[0; 1 << 20]).await.expect_err("nobody takes it");
}

#[tokio::test]
async fn an_http2_endpoint_goes_on_with_other_requests_beside_a_websocket() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = serve(&bench, offering(), |request, mut respond| async move {
        if request.method() == Method::CONNECT {
            return accept(request, respond).await;
        }
        respond.send_response(ok(), true).expect("a head");
    })
    .await;
    let cluster = bench.http2(&[origin.address]);
    let response = send(&cluster, upgrade()).await.expect("a response");
    let mut tunnel = tunnel_of(&response);
    for _ in 0..3 {
        assert!(send(&cluster, get("/")).await.expect("a response").status().is_success());
        tunnel.write_all(b"ping").await.expect("written");
        let mut back = [0; 4];
        within(tunnel.read_exact(&mut back)).await.expect("bytes");
        assert_eq!(&back, b"ping");
    }
    assert_eq!(origin.accepted(), 1);
}
