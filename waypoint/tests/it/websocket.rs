//! WebSocket: the upgrade passes, and what follows goes both ways.

use std::net::SocketAddr;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, exchange, read_head, request_with, serve_raw};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An origin that switches, says hello in the same packet, and then gives back every byte.
async fn echo() -> String {
    let address = serve_raw(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n"), "{head}");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
        stream.write_all(switch).await.expect("written");
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    gateway_to("origin") + &service("origin", "http", address)
}

/// Upgrades, sending `early` in the same packet, and reads the origin's hello.
async fn upgraded(waypoint: &Waypoint, early: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(waypoint.http()).await.expect("a connection");
    stream.write_all(&[UPGRADE.as_bytes(), early].concat()).await.expect("written");
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("connection: upgrade\r\n"), "{head}");
    assert!(lower.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(read(&mut stream, 5).await, b"hello");
    stream
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").expect("bytes");
    bytes
}

#[tokio::test]
async fn bytes_go_both_ways_after_an_upgrade() {
    let waypoint = Waypoint::start(&echo().await).await;
    let mut stream = upgraded(&waypoint, b"early").await;

    assert_eq!(read(&mut stream, 5).await, b"early");
    let long = b"0123456789abcdef".repeat(16 << 10);
    let (mut from, mut to) = stream.split();
    let (wrote, got) = tokio::join!(to.write_all(&long), async {
        let mut got = vec![0; long.len()];
        timeout(PATIENCE, from.read_exact(&mut got)).await.expect("in time").expect("bytes");
        got
    });
    wrote.expect("written");
    assert!(got == long);

    stream.shutdown().await.expect("shut down");
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time");
    assert_eq!((closed.expect("closed"), &rest[..]), (0, &b""[..]));
    let record = waypoint.record(|record| record["path"] == "/chat").await;
    assert_eq!(record["response_code"], 101);
}

#[tokio::test]
async fn an_upgrade_passes_a_filter_chain() {
    let redact = filter("redact", "builtin://pii-redact", "  config: {entities: [email]}");
    let waypoint = Waypoint::start(&(echo().await + &redact)).await;
    let mut stream = upgraded(&waypoint, b"").await;
    stream.write_all(b"ping").await.expect("written");
    assert_eq!(read(&mut stream, 4).await, b"ping");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_any_other() {
    let origin = Origin::start(Speaks::Http1, |_| {
        let mut answer = http::Response::new("not here".into());
        *answer.status_mut() = StatusCode::FORBIDDEN;
        answer
    })
    .await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    let second = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = exchange(waypoint.http(), (UPGRADE.to_owned() + second).as_bytes()).await;
    let answers = String::from_utf8(answers).expect("text");
    assert_eq!(answers.matches("HTTP/1.1 403").count(), 2, "{answers}");
    assert_eq!(answers.matches("not here").count(), 2, "{answers}");
}

/// A service of HTTP/2 that takes WebSockets, and gives back every byte.
async fn echo_over_http2() -> String {
    let address = serve_raw(|stream| async move {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let mut connection = builder.handshake::<_, Bytes>(stream).await.expect("HTTP/2");
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.method(), Method::CONNECT);
            tokio::spawn(async move {
                let mut down =
                    respond.send_response(http::Response::new(()), false).expect("a head");
                let mut up = request.into_body();
                while let Some(Ok(data)) = up.data().await {
                    up.flow_control().release_capacity(data.len()).expect("released");
                    let _ = down.send_data(data, false);
                }
                let _ = down.send_data(Bytes::new(), true);
            });
        }
    })
    .await;
    gateway_to("origin") + &service("origin", "kubernetes.io/h2c", address)
}

#[tokio::test]
async fn a_websocket_over_http1_reaches_an_endpoint_of_http2() {
    let redact = filter("redact", "builtin://pii-redact", "  config: {entities: [email]}");
    let waypoint = Waypoint::start(&(echo_over_http2().await + &redact)).await;
    let mut stream = TcpStream::connect(waypoint.http()).await.expect("a connection");
    stream.write_all(&[UPGRADE.as_bytes(), b"early"].concat()).await.expect("written");
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(read(&mut stream, 5).await, b"early");
    stream.write_all(b"later").await.expect("written");
    assert_eq!(read(&mut stream, 5).await, b"later");
    stream.shutdown().await.expect("shut down");
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time");
    assert_eq!((closed.expect("closed"), &rest[..]), (0, &b""[..]));
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_endpoint_of_http2() {
    let waypoint = Waypoint::start(&echo_over_http2().await).await;
    echoes_over_http2(&waypoint, None).await;
}

#[tokio::test]
async fn a_service_of_http2_that_takes_no_websockets_has_no_upgrade() {
    let origin = Origin::named(Speaks::Http2, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "kubernetes.io/h2c", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    let mut stream = TcpStream::connect(waypoint.http()).await.expect("a connection");
    stream.write_all(UPGRADE.as_bytes()).await.expect("written");
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 501 "));
}

#[tokio::test]
async fn a_websocket_stays_open_across_reloads() {
    let resources = echo().await;
    let waypoint = Waypoint::start(&resources).await;
    let mut stream = upgraded(&waypoint, b"").await;
    let other = Origin::named(Speaks::Http1, "other").await;
    let elsewhere = gateway_to("other") + &service("other", "http", other.address);
    for (reload, resources) in [&elsewhere, &resources, &elsewhere].into_iter().enumerate() {
        waypoint.reload(resources).await;
        let text = format!("after {reload}");
        stream.write_all(text.as_bytes()).await.expect("written");
        assert_eq!(read(&mut stream, text.len()).await, text.as_bytes());
    }
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;
    let answer = client.fetch(request_with(Method::GET, "/", &[])).await;
    assert_eq!(&answer.body()[..], b"other", "new requests see the new resources");
}

/// An origin that accepts whatever key it is given, and then gives back every byte.
async fn accepting() -> String {
    let address = serve_raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key.expect("a key").as_bytes());
        hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            STANDARD.encode(hash.finish())
        );
        stream.write_all(switch.as_bytes()).await.expect("written");
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    gateway_to("origin") + &service("origin", "http", address)
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_endpoint_of_http1() {
    let redact = filter("redact", "builtin://pii-redact", "  config: {entities: [email]}");
    let waypoint = Waypoint::start(&(accepting().await + &redact)).await;
    echoes_over_http2(&waypoint, Some("chat")).await;
    let record = waypoint.record(|record| record["path"] == "/chat").await;
    assert_eq!((&record["response_code"], &record["protocol"]), (&101.into(), &"HTTP/2".into()));
}

/// A WebSocket over HTTP/2: what was answered, and where to write.
pub(crate) struct OverHttp2 {
    pub(crate) response: http::Response<h2::RecvStream>,
    pub(crate) up: h2::SendStream<Bytes>,
}

impl OverHttp2 {
    /// Opens one on a connection of its own, with these fields beyond the version.
    pub(crate) async fn open(
        address: SocketAddr,
        path: &str,
        fields: &[(&'static str, &'static str)],
    ) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut client = client.ready().await.expect("a connection");
        let enabled = async {
            while !client.is_extended_connect_protocol_enabled() {
                tokio::task::yield_now().await; // The server's settings are under way.
            }
        };
        timeout(PATIENCE, enabled).await.expect("it is offered");
        let request = http::Request::connect(format!("http://a{path}")).body(());
        let mut request = request.expect("a request");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        for (name, value) in [("sec-websocket-version", "13")].iter().chain(fields) {
            request.headers_mut().insert(*name, http::HeaderValue::from_static(value));
        }
        let (response, up) = client.send_request(request, false).expect("sent");
        let response = timeout(PATIENCE, response).await.expect("in time").expect("an answer");
        assert_eq!(response.status(), 200);
        Self { response, up }
    }
}

/// Opens a WebSocket over HTTP/2, and gets back all that it sends.
async fn echoes_over_http2(waypoint: &Waypoint, subprotocol: Option<&str>) {
    let OverHttp2 { response, mut up } = OverHttp2::open(waypoint.http(), "/chat", &[]).await;
    let chosen = response.headers().get("sec-websocket-protocol");
    assert_eq!(chosen.map(|value| value.to_str().expect("text")), subprotocol);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut down = response.into_body();
    let mut seen = Vec::new();
    for number in 0..100 {
        up.send_data(vec![number; 1000].into(), number == 99).expect("sent");
        while seen.len() < 1000 * (usize::from(number) + 1) {
            let data = timeout(PATIENCE, down.data()).await.expect("in time");
            let data = data.expect("data").expect("no reset");
            down.flow_control().release_capacity(data.len()).expect("released");
            seen.extend_from_slice(&data);
        }
    }
    while let Some(data) = timeout(PATIENCE, down.data()).await.expect("in time") {
        assert!(data.expect("no reset").is_empty());
    }
}
