//! N5–N9: answers that end before their end must never look whole, over both protocols on both
//! sides; and a client's FIN behind its request is no departure.
//!
//! N9, an answer before the upload has ended, is shown by
//! `many_uploads_whose_answers_come_first_never_stand_still_before_their_vms` here and by
//! `an_answer_before_the_body_ends_is_passed_on_and_ends_the_upload` beside both clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Length, row};
use crate::client::Raw;
use crate::harness::{Kept, PATIENCE, Waypoint, gateway_to, request, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{read_head, serve_raw};
use crate::upstream_tls::{issued, policy};

/// How an origin ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
}

/// What a client must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// 502, whole.
    BadGateway,
    /// A head, and an error behind it.
    Cut,
}

/// What an origin writes before the end.
type Case = (&'static str, &'static [u8], End, Seen);

const HTTP1: [Case; 10] = [
    ("before the head", b"", End::Reset, Seen::BadGateway),
    ("before the head", b"", End::Fin, Seen::BadGateway),
    ("in the head", b"HTTP/1.1 200 OK\r\ncontent-le", End::Reset, Seen::BadGateway),
    ("in the head", b"HTTP/1.1 200 OK\r\ncontent-le", End::Fin, Seen::BadGateway),
    ("after the head", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", End::Reset, Seen::Cut),
    ("in a length", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", End::Fin, Seen::Cut),
    ("in a length", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", End::Reset, Seen::Cut),
    (
        "before the last chunk",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        End::Fin,
        Seen::Cut,
    ),
    (
        "in the last chunk",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        End::Fin,
        Seen::Cut,
    ),
    ("in a body until the end", b"HTTP/1.1 200 OK\r\n\r\nhalf", End::Reset, Seen::Cut),
];

/// SETTINGS; HEADERS of stream 1 with `:status: 200`; DATA that does not end it.
const HEAD: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88";
const HALF: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x04\0\0\0\0\0\x01half";
/// The same, and RST_STREAM with INTERNAL_ERROR.
const RESET: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x04\0\0\0\0\0\x01half\
                       \0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";

const HTTP2: [Case; 6] = [
    ("before the head", b"\0\0\0\x04\0\0\0\0\0", End::Reset, Seen::BadGateway),
    ("after the head", HEAD, End::Fin, Seen::Cut),
    ("after the head", HEAD, End::Reset, Seen::Cut),
    ("in the body", HALF, End::Fin, Seen::Cut),
    ("in the body", HALF, End::Reset, Seen::Cut),
    ("a stream's reset", RESET, End::Fin, Seen::Cut),
];

/// Reads a request of HTTP/1, or all that a client of HTTP/2 sends at first.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), speaks: Speaks) {
    match speaks {
        Speaks::Http1 => drop(read_head(stream).await),
        Speaks::Http2 => {
            // Until a HEADERS frame, which is the last of them: type 1, stream 1.
            let mut read = Vec::new();
            while !read.windows(6).any(|part| part[0] == 1 && part[2..] == [0, 0, 0, 1]) {
                if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                    return;
                }
            }
        }
    }
}

/// An origin that writes this and ends.
async fn ending(speaks: Speaks, bytes: &'static [u8], end: End) -> SocketAddr {
    serve_raw(move |mut stream: TcpStream| async move {
        let _ = stream.set_nodelay(true);
        read_request(&mut stream, speaks).await;
        write_and_settle(&mut stream, bytes).await;
        match end {
            End::Reset => {
                let socket = socket2::SockRef::from(&stream);
                socket.set_linger(Some(Duration::ZERO)).expect("a socket");
            }
            End::Fin => {
                let _ = stream.shutdown().await;
                let _ =
                    timeout(PATIENCE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
            }
        }
    })
    .await
}

/// Bytes before a reset get lost with it unless they were read before.
async fn write_and_settle(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// What a client of one protocol sees.
async fn seen(client: &mut Kept) -> Result<Seen, String> {
    let answer = timeout(PATIENCE, client.begin(request(Method::GET, "/", ""))).await;
    let answer = answer.expect("an answer or an end in time").map_err(|error| error.to_string());
    // A head that meets its own reset on the way: an error that nobody takes for an answer.
    let Ok(answer) = answer else { return Ok(Seen::Cut) };
    let status = answer.status().as_u16();
    match (status, timeout(PATIENCE, answer.into_body().collect()).await.expect("an end")) {
        (502, Ok(_)) => Ok(Seen::BadGateway),
        (200, Err(_)) => Ok(Seen::Cut),
        (status, Ok(body)) => Err(format!("{status}, whole: {:?}", body.to_bytes())),
        (status, Err(error)) => Err(format!("{status}, {error}")),
    }
}

row!(answers_end_early:
    an_answer_that_ends_early_never_looks_whole,
    a_thousand_answers_that_end_early_never_look_whole);

/// N5 and N6.
async fn answers_end_early(length: Length) {
    let protocols: [(Speaks, &str, &[Case]); 2] =
        [(Speaks::Http1, "http", &HTTP1), (Speaks::Http2, "kubernetes.io/h2c", &HTTP2)];
    for (speaks, protocol, cases) in protocols {
        for (name, bytes, end, wanted) in cases {
            let origin = ending(speaks, bytes, *end).await;
            let resources = gateway_to("origin") + &service("origin", protocol, origin);
            let waypoint = Waypoint::start(&resources).await;
            for _ in 0..length.either(2, 35) {
                for mut client in
                    [Kept::http1(waypoint.http()).await, Kept::http2(waypoint.http()).await]
                {
                    let seen = seen(&mut client).await;
                    assert_eq!(seen, Ok(*wanted), "{protocol}: {end:?} {name}");
                }
                until_the_end(&waypoint, *wanted).await;
            }
        }
    }
}

/// A client of HTTP/1.0 reads until the connection ends: it must be a reset that ends it.
async fn until_the_end(waypoint: &Waypoint, wanted: Seen) {
    let mut stream = TcpStream::connect(waypoint.http()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nhost: example.test\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("an end");
    let text = String::from_utf8_lossy(&read);
    let has_length = text.contains("content-length: 9");
    match wanted {
        Seen::BadGateway => assert!(text.starts_with("HTTP/1.1 502 ") && end.is_ok(), "{text}"),
        Seen::Cut if has_length => assert!(!text.contains("\r\n\r\nhalf....."), "{text}"),
        Seen::Cut => assert!(end.is_err(), "it looks whole: {text}"),
    }
}

#[tokio::test]
async fn tls_that_ends_without_close_notify_cuts_a_body_that_only_the_end_ends() {
    // N7.
    let issued = issued("origin.test");
    let acceptor = TlsAcceptor::from(Arc::clone(&issued.server));
    let origin = serve_raw(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read_head(&mut stream).await;
            write_and_settle(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nhalf").await;
            // The socket's end, not that of TLS.
            let (stream, _) = stream.get_mut();
            let _ = stream.shutdown().await;
            let _ = timeout(PATIENCE, tokio::io::copy(stream, &mut tokio::io::sink())).await;
        }
    })
    .await;
    let resources = gateway_to("origin")
        + &service("origin", "http", origin)
        + &policy("origin.test", &issued.ca_pem);
    let waypoint = Waypoint::start(&resources).await;
    for mut client in [Kept::http1(waypoint.http()).await, Kept::http2(waypoint.http()).await] {
        assert_eq!(seen(&mut client).await, Ok(Seen::Cut));
    }
    until_the_end(&waypoint, Seen::Cut).await;
}

#[tokio::test]
async fn clients_that_half_close_behind_their_requests_get_their_answers_whole() {
    // N8. More than any socket's buffer takes, so that the FIN is there long before the end.
    const LONG: usize = 8 << 20;
    let origin =
        Origin::start(Speaks::Http1, |_| http::Response::new(vec![b'x'; LONG].into())).await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    for _ in 0..5 {
        let mut client = Raw::connect(waypoint.http()).await;
        client.shut("GET / HTTP/1.1\r\nhost: example.test\r\n\r\n").await;
        let answer = client.end().await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body.len(), LONG);
    }
}
