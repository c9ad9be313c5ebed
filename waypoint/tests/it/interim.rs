//! Heads of 1xx that an endpoint sends before its answer, in every combination of versions.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::client::Raw;
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::origin::{Speaks, listener};

/// An origin that answers with 103, and with 200 once the test permits it.
struct Hinting {
    address: SocketAddr,
    permits: Arc<Semaphore>,
}

impl Hinting {
    async fn start(speaks: Speaks) -> Self {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let permits = Arc::new(Semaphore::new(0));
        let permitted = Arc::clone(&permits);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let permits = Arc::clone(&permitted);
                tokio::spawn(async move {
                    match speaks {
                        Speaks::Http1 => http1(stream, &permits).await,
                        Speaks::Http2 => http2(stream, &permits).await,
                    }
                });
            }
        });
        Self { address, permits }
    }
}

async fn http1(stream: TcpStream, permits: &Semaphore) {
    let mut peer = Raw::over(stream);
    while peer.until_or_end("\r\n\r\n").await.contains("\r\n\r\n") {
        peer.forget();
        peer.send(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\
             connection: x-hop\r\nx-hop: 1\r\ncontent-length: 7\r\n\r\n",
        )
        .await;
        permits.acquire().await.unwrap().forget();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
}

async fn http2(stream: TcpStream, permits: &Semaphore) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut exchange = None;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            permit = permits.acquire(), if exchange.is_some() => {
                permit.unwrap().forget();
                let mut respond: h2::server::SendResponse<bytes::Bytes> = exchange.take().unwrap();
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data("ok".into(), true).unwrap();
                continue;
            }
        };
        let Some(Ok((_, mut respond))) = accepted else { return };
        let mut hint = Response::new(());
        *hint.status_mut() = StatusCode::EARLY_HINTS;
        hint.headers_mut().insert("link", "</a.css>".parse().unwrap());
        respond.send_informational(hint).unwrap();
        exchange = Some(respond);
    }
}

fn resources(speaks: Speaks, origin: SocketAddr) -> String {
    let protocol = if speaks == Speaks::Http1 { "http" } else { "kubernetes.io/h2c" };
    gateway_to("origin") + &service("origin", protocol, origin)
}

#[tokio::test]
async fn a_head_of_1xx_reaches_the_client_before_the_answer_does() {
    for upstream in [Speaks::Http1, Speaks::Http2] {
        let origin = Hinting::start(upstream).await;
        let waypoint = Waypoint::start(&resources(upstream, origin.address)).await;

        let mut client = Raw::connect(waypoint.http()).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let hint = client.until("\r\n\r\n").await;
        assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
        origin.permits.add_permits(1);
        assert!(client.end().await[hint.len()..].starts_with("HTTP/1.1 200 OK\r\n"));

        let stream = TcpStream::connect(waypoint.http()).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://a/").body(()).unwrap();
        let (mut response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
        let hint = timeout(PATIENCE, poll_fn(|cx| response.poll_informational(cx))).await.unwrap();
        let hint = hint.unwrap().unwrap();
        assert_eq!(
            (hint.status().as_u16(), &hint.headers()["link"]),
            (103, &"</a.css>".parse().unwrap())
        );
        assert_eq!(hint.headers().len(), 1, "{hint:?}");
        origin.permits.add_permits(1);
        assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_and_one_behind_filters_gets_the_answer_only() {
    let origin = Hinting::start(Speaks::Http1).await;
    let plain = resources(Speaks::Http1, origin.address);
    let filtered = plain.clone() + &filter("redact", "builtin://pii-redact", "");
    for (resources, version) in [(plain, "1.0"), (filtered, "1.1")] {
        let waypoint = Waypoint::start(&resources).await;
        origin.permits.add_permits(1);
        let mut client = Raw::connect(waypoint.http()).await;
        client.send(format!("GET / HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        let answer = client.end().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{version}: {answer}");
    }
}
