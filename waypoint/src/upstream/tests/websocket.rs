//! Upgrades of HTTP/1 connections.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::origin::Origin;
use super::*;
use crate::codec::{Tunnel, Upgrade};

fn upgrade() -> Request<Body> {
    let mut request = get("/chat");
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

#[tokio::test]
async fn an_upgrade_cannot_go_to_an_http2_endpoint() {
    let bench = Bench::new(UpstreamLimits::default());
    let cluster = bench.http2(&[super::origin::refusing()]);
    let error = send(&cluster, upgrade()).await.expect_err("an error");
    assert!(matches!(error, UpstreamError::UpgradeUnsupported), "{error:?}");
}
