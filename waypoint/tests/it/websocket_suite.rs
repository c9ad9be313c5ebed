//! WebSocket by the categories of the Autobahn test suite (which runs on Python 2 only): framing,
//! pings, reserved bits, opcodes, fragments, UTF-8, closing, sizes, compression.
//!
//! Each case is sent by a client of bytes to a server of `tungstenite`, once directly, once through
//! a waypoint over HTTP/1.1, and once over HTTP/2 (RFC 8441). The server must have read the same
//! bytes and the client have got the same bytes each time, and the direct run must show what the
//! case is about.

mod cases;
mod server;

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use self::cases::Case;
use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::streams::read_head;
use crate::websocket::OverHttp2;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPTED: &str = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";

/// Both ends of one run.
#[derive(PartialEq)]
struct Ends {
    /// What the client got.
    got: Vec<u8>,
    /// What the server read.
    read: Vec<u8>,
    /// The extension that both have agreed on.
    compressed: bool,
}

/// A server, and what it says it has read.
struct Bench {
    server: SocketAddr,
    reads: UnboundedReceiver<Vec<u8>>,
}

impl Bench {
    fn start() -> Self {
        let (server, reads) = server::start();
        Self { server, reads }
    }

    async fn read(&mut self) -> Vec<u8> {
        timeout(PATIENCE, self.reads.recv()).await.expect("in time").expect("the server runs")
    }

    async fn over_http1(&mut self, address: SocketAddr, case: &Case) -> Ends {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let extension = match case.compressed {
            true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            false => "",
        };
        let asked = format!(
            "GET /suite HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extension}\r\n"
        );
        stream.write_all(asked.as_bytes()).await.expect("written");
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && head.contains(ACCEPTED), "{head}");
        let compressed = head.contains("sec-websocket-extensions: permessage-deflate\r\n");
        let (mut from, mut to) = stream.split();
        let sending = async {
            for piece in &case.pieces {
                to.write_all(piece).await.expect("the peer reads");
            }
            to.shutdown().await.expect("the peer reads");
        };
        let mut got = Vec::new();
        let both = async { tokio::join!(sending, from.read_to_end(&mut got)) };
        timeout(PATIENCE, both).await.expect("in time").1.expect("no reset");
        Ends { got, read: self.read().await, compressed }
    }

    async fn over_http2(&mut self, address: SocketAddr, case: &Case) -> Ends {
        let compressing = [("sec-websocket-extensions", "permessage-deflate")];
        let fields = if case.compressed { &compressing[..] } else { &[] };
        let OverHttp2 { response, mut up } = OverHttp2::open(address, "/suite", fields).await;
        let extension = response.headers().get("sec-websocket-extensions");
        let compressed = extension.is_some_and(|value| value == "permessage-deflate");
        for piece in &case.pieces {
            up.send_data(Bytes::copy_from_slice(piece), false).expect("sent");
        }
        up.send_data(Bytes::new(), true).expect("sent");
        let (mut down, mut got) = (response.into_body(), Vec::new());
        while let Some(data) = timeout(PATIENCE, down.data()).await.expect("in time") {
            let data = data.expect("no reset");
            down.flow_control().release_capacity(data.len()).expect("released");
            got.extend_from_slice(&data);
        }
        Ends { got, read: self.read().await, compressed }
    }
}

#[tokio::test]
async fn every_case_is_the_same_at_both_ends_with_and_without_the_waypoint() {
    let mut bench = Bench::start();
    let plain = gateway_to("server") + &service("server", "http", bench.server);
    let redact = filter("redact", "builtin://pii-redact", "  config: {entities: [email]}");
    let waypoint = Waypoint::start(&plain).await;
    let filtered = Waypoint::start(&(plain + &redact)).await;
    let cases = cases::all();
    assert!(250 < cases.len(), "{}", cases.len());
    for case in &cases {
        let direct = bench.over_http1(bench.server, case).await;
        assert_eq!(direct.read, case.pieces.concat(), "{}", case.name);
        assert_eq!(direct.compressed, case.compressed, "{}", case.name);
        let got = direct.got.escape_ascii().to_string();
        let got: String = got.chars().take(200).collect();
        assert!(direct.got.ends_with(&case.ends), "{}: {got}", case.name);
        let runs = [
            ("HTTP/1.1", bench.over_http1(waypoint.http(), case).await),
            ("HTTP/2", bench.over_http2(waypoint.http(), case).await),
            ("HTTP/1.1 with a filter", bench.over_http1(filtered.http(), case).await),
        ];
        for (over, ends) in runs {
            assert!(ends == direct, "{} over {over}", case.name);
        }
    }
}
