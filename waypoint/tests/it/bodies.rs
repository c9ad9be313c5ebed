//! Bodies of every framing, streamed; slow and broken peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::origin::Speaks;
use crate::streams::{
    AnyBody, Client, body_of, exchange, full, read_head, request_with, serve, serve_raw,
};

const MIB: usize = 1 << 20;
/// What a peer may have to give before nobody takes it any more: the buffers of four sockets, which
/// the kernel bounds, and ours. Where both sides have the windows of HTTP/2, less than a mebibyte.
const TAKEN_MAX: u64 = 24 << 20;
/// How much the process may grow while a peer stands still.
const GROWTH_KIB_MAX: u64 = 8 << 10;
/// What a filter scans; of a stream of it only little fits into its share of CPU.
const SCANNED: &str = "text/plain";
/// What a filter is shown and lets pass.
const SHOWN: &str = "image/png";
/// A stream that has not moved for so long stands still.
const STILL: Duration = Duration::from_millis(400);

const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

async fn waypoint(speaks: Speaks, origin: SocketAddr, filters: &str) -> Waypoint {
    let protocol = if speaks == Speaks::Http1 { "http" } else { "kubernetes.io/h2c" };
    Waypoint::start(&(gateway_to("origin") + &service("origin", protocol, origin) + filters)).await
}

fn redact() -> String {
    filter("redact", "builtin://pii-redact", "  config: {entities: [email]}")
}

/// A body of unknown length: chunks of 10 000 bytes, then trailers if there are any.
fn chunked(bytes: &Bytes, trailers: Option<HeaderMap>) -> AnyBody {
    let chunks: Vec<Bytes> = bytes.chunks(10_000).map(Bytes::copy_from_slice).collect();
    let frames = chunks.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers));
    body_of(stream::iter(frames.map(Ok)))
}

fn checksum() -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("x-checksum"),
        http::HeaderValue::from_static("1"),
    )])
}

/// A POST whose trailers are announced and asked for.
fn post(body: AnyBody) -> Request<AnyBody> {
    let headers = [("te", "trailers"), ("trailer", "x-checksum"), ("content-type", "text/plain")];
    request_with(Method::POST, "/", &headers).map(|_| body)
}

#[tokio::test]
async fn a_mebibyte_goes_both_ways_in_every_framing_and_version() {
    let text = Bytes::from(b"0123456789abcdef".repeat(MIB / 16));
    for upstream in BOTH {
        // It answers in the framing that it was sent.
        let origin = serve(upstream, async |request| {
            let length = request.headers().contains_key("content-length");
            let body = request.into_body().collect().await.expect("a whole body").to_bytes();
            Response::new(if length { full(body) } else { chunked(&body, None) })
        })
        .await;
        let waypoint = waypoint(upstream, origin, "").await;
        for downstream in BOTH {
            let client = Client::connect(waypoint.http(), downstream).await;
            for body in
                [full(text.clone()), chunked(&text, None), full(""), chunked(&Bytes::new(), None)]
            {
                let length = http_body::Body::size_hint(&body).exact();
                let answer = client.send(post(body)).await;
                assert_eq!(answer.status(), 200);
                let told = http_body::Body::size_hint(answer.body()).exact();
                let got = answer.into_body().collect().await.expect("a whole body").to_bytes();
                if length == Some(0) || got.is_empty() {
                    assert!(got.is_empty(), "{} bytes came", got.len());
                } else {
                    assert_eq!(told, length);
                    assert!(got == text, "{} bytes came", got.len());
                }
            }
        }
    }
}

#[tokio::test]
async fn trailers_go_both_ways_in_every_version() {
    for upstream in BOTH {
        let origin = serve(upstream, async |request| {
            let body = request.into_body().collect().await.expect("a whole body");
            let trailers = body.trailers().cloned();
            let answer = Response::builder().header("trailer", "x-checksum");
            answer.body(chunked(&body.to_bytes(), trailers)).expect("an answer")
        })
        .await;
        for filters in ["", &redact()] {
            let waypoint = waypoint(upstream, origin, filters).await;
            for downstream in BOTH {
                let client = Client::connect(waypoint.http(), downstream).await;
                let text = Bytes::from_static(b"some text.\n");
                let answer = client.send(post(chunked(&text, Some(checksum())))).await;
                let body = answer.into_body().collect().await.expect("a whole body");
                assert_eq!(body.trailers(), Some(&checksum()), "filters: {filters}");
                assert_eq!(body.to_bytes(), text);
            }
        }
    }
}

#[tokio::test]
async fn answers_that_have_no_body_have_none_and_keep_the_connection() {
    for upstream in BOTH {
        let origin = serve(upstream, async |request| {
            let status = request.uri().path()[1..].parse::<u16>().expect("a status");
            let body =
                if request.method() == Method::HEAD { full("twelve bytes") } else { full("") };
            let mut answer = Response::new(body);
            *answer.status_mut() = status.try_into().expect("a status");
            answer
        })
        .await;
        for filters in ["", &redact()] {
            let waypoint = waypoint(upstream, origin, filters).await;
            let mut bytes = Vec::new();
            for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 304)] {
                bytes.extend(format!("{method} /{status} HTTP/1.1\r\nHost: a\r\n\r\n").bytes());
            }
            bytes.extend(b"GET /200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answers = String::from_utf8(exchange(waypoint.http(), &bytes).await).expect("text");
            let heads: Vec<&str> = answers.split("\r\n\r\n").collect();
            let statuses: Vec<&str> = heads.iter().filter_map(|head| head.get(..12)).collect();
            let want = ["200", "204", "304", "304", "200"].map(|code| format!("HTTP/1.1 {code}"));
            assert_eq!(statuses, want, "{answers}");
            let head = heads[0].to_ascii_lowercase();
            assert!(!filters.is_empty() || head.contains("content-length: 12"), "{answers}");
            assert!(!answers.contains("twelve"), "{answers}");
            assert!(!heads[1].contains("content-length"), "{answers}");
        }
    }
}

/// What a first body costs once is not what the next one costs.
async fn warm_up(waypoint: &Waypoint) {
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;
    for _ in 0..3 {
        let answer = client.send(post(full("some text. ".repeat(10_000)))).await;
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.expect("a whole body");
    }
}

/// Waits until a count stands still, and gives it.
async fn stands_still(count: &AtomicU64) -> u64 {
    let mut last = count.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(STILL).await;
        let now = count.load(Ordering::Relaxed);
        if now == last && now != 0 {
            return now;
        }
        last = now;
        assert!(now < 4 * TAKEN_MAX, "nothing holds it back");
    }
}

/// An origin that produces a body of this type without an end, and counts it.
async fn endless(speaks: Speaks, kind: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let origin = serve(speaks, move |request| {
        let counted = Arc::clone(&counted);
        async move {
            if request.uri().path() != "/endless" {
                request.into_body().collect().await.expect("a whole body");
                return Response::new(full("warm"));
            }
            let line = Bytes::from(b"all work and no play \n".repeat(750));
            let frames = stream::repeat_with(move || {
                counted.fetch_add(line.len() as u64, Ordering::Relaxed);
                Ok(Frame::data(line.clone()))
            });
            let answer = Response::builder().header("content-type", kind);
            answer.body(body_of(frames)).expect("an answer")
        }
    })
    .await;
    (origin, taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_holds_back_the_service_not_the_memory() {
    for (upstream, downstream, kind, filters) in [
        (Speaks::Http1, Speaks::Http1, SHOWN, String::new()),
        (Speaks::Http2, Speaks::Http2, SHOWN, String::new()),
        (Speaks::Http1, Speaks::Http1, SHOWN, redact()),
        (Speaks::Http2, Speaks::Http2, SCANNED, redact()),
    ] {
        let (origin, taken) = endless(upstream, kind).await;
        let waypoint = waypoint(upstream, origin, &filters).await;
        warm_up(&waypoint).await;
        let before = waypoint.resident_kib();

        let client = Client::connect(waypoint.http(), downstream).await;
        let mut answer = client.send(request_with(Method::GET, "/endless", &[])).await;
        let held = stands_still(&taken).await;
        let grown = waypoint.resident_kib().saturating_sub(before);
        let bound = if downstream == Speaks::Http2 { MIB as u64 } else { TAKEN_MAX };
        assert!(held <= bound, "{held} bytes were taken");
        assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for a reader that stands still");
        // It goes on when the reader does.
        let mut read = 0;
        while read < held + MIB as u64 {
            let frame = timeout(PATIENCE, answer.body_mut().frame()).await.expect("in time");
            read += frame.expect("more").expect("data").data_ref().map_or(0, Bytes::len) as u64;
        }
    }
}

/// Sends an endless body until nobody takes it; gives how many bytes were taken.
async fn upload_until_still(address: SocketAddr, kind: &str) -> (u64, TcpStream) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(64 << 10).expect("a size");
    let mut stream = socket.connect(address).await.expect("a connection");
    let head = format!(
        "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n\
         Content-Length: 1000000000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("a head");
    let line = b"all work and no play \n".repeat(750);
    let mut sent = 0;
    while let Ok(wrote) = timeout(STILL, stream.write(&line)).await {
        sent += wrote.expect("the connection lives") as u64;
        assert!(sent < 4 * TAKEN_MAX, "nothing holds it back");
    }
    (sent, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_stands_still_holds_back_the_client_not_the_memory() {
    for (upstream, kind, filters) in [
        (Speaks::Http1, SHOWN, String::new()),
        (Speaks::Http2, SHOWN, String::new()),
        (Speaks::Http1, SHOWN, redact()),
        (Speaks::Http2, SCANNED, redact()),
    ] {
        let origin = serve(upstream, async |request| {
            if request.uri().path() == "/slow" {
                // Held, and never read.
                let _body = request.into_body();
                std::future::pending::<()>().await;
            } else {
                request.into_body().collect().await.expect("a whole body");
            }
            Response::new(full("warm"))
        })
        .await;
        let waypoint = waypoint(upstream, origin, &filters).await;
        warm_up(&waypoint).await;
        let before = waypoint.resident_kib();

        let (sent, _stream) = upload_until_still(waypoint.http(), kind).await;
        let grown = waypoint.resident_kib().saturating_sub(before);
        assert!(sent <= TAKEN_MAX, "{sent} bytes were taken");
        assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for a service that stands still");
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_is_never_whole_to_the_client() {
    let cut: [&'static [u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ];
    for bytes in cut {
        let origin = serve_raw(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(bytes).await.expect("written");
        })
        .await;
        for filters in ["", &redact()] {
            let waypoint = waypoint(Speaks::Http1, origin, filters).await;
            let answer = exchange(waypoint.http(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = String::from_utf8(answer).expect("text");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let declared = head.to_ascii_lowercase().contains("content-length: 100");
            assert!(
                answer.is_empty() || declared || head.to_ascii_lowercase().contains("chunked"),
                "{answer}"
            );
            assert!(!body.ends_with("0\r\n\r\n"), "{answer}");

            let client = Client::connect(waypoint.http(), Speaks::Http2).await;
            let whole = match client.try_send(request_with(Method::GET, "/", &[])).await {
                Ok(answer) => answer.into_body().collect().await.is_ok(),
                Err(_) => false,
            };
            assert!(!whole, "a cut answer is an RST_STREAM");
            let record = waypoint.record(|record| record["protocol"] == "HTTP/2").await;
            assert_ne!(record["response_flags"], "-", "{record}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_http2_that_was_reset_is_cut_without_a_last_chunk() {
    let came = Arc::new(Notify::new());
    let told = Arc::clone(&came);
    let origin = serve(Speaks::Http2, move |_| {
        let told = Arc::clone(&told);
        async move {
            let half = stream::iter([Ok(Frame::data(Bytes::from("half")))]);
            let cut = stream::once(async move {
                told.notified().await;
                Err(std::io::Error::other("cut"))
            });
            Response::new(body_of(half.chain(cut)))
        }
    })
    .await;
    let waypoint = waypoint(Speaks::Http2, origin, "").await;
    let mut stream = TcpStream::connect(waypoint.http()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"half\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("read"), 0);
    }
    came.notify_one();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed").expect("read");
    assert_eq!(rest, b"", "no last chunk");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let origin = serve_raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nall of it").await.expect("written");
    })
    .await;
    let waypoint = waypoint(Speaks::Http1, origin, "").await;
    for downstream in BOTH {
        let client = Client::connect(waypoint.http(), downstream).await;
        let answer = client.fetch(request_with(Method::GET, "/", &[])).await;
        assert_eq!(&answer.body()[..], b"all of it");
    }
}

/// Tells when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Sends a request, and resets it once the origin has it. (A FIN alone would only say that no
/// further request follows.)
async fn ask_and_leave(address: SocketAddr, speaks: Speaks, path: &'static str, begun: &Notify) {
    match speaks {
        Speaks::Http1 => {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("written");
            begun.notified().await;
            let socket = socket2::SockRef::from(&stream);
            socket.set_linger(Some(Duration::ZERO)).expect("an option");
        }
        Speaks::Http2 => {
            let client = Client::connect(address, speaks).await;
            let asked = client.try_send(request_with(Method::GET, path, &[]));
            let read = async { asked.await.expect("an answer").into_body().collect().await };
            tokio::select! {
                answer = read => panic!("an endless answer ended: {answer:?}"),
                () = begun.notified() => {}
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_upstream() {
    for upstream in BOTH {
        let (begun, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell_begun, tell_ended) = (Arc::clone(&begun), Arc::clone(&ended));
        let origin = serve(upstream, move |request| {
            let guard = Dropped(Arc::clone(&tell_ended));
            tell_begun.notify_one();
            async move {
                if request.uri().path() == "/head" {
                    std::future::pending::<()>().await;
                }
                let frames = stream::unfold(guard, async |guard| {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Some((Ok(Frame::data(Bytes::from_static(b"tick"))), guard))
                });
                Response::new(body_of(frames))
            }
        })
        .await;
        for filters in ["", &redact()] {
            let waypoint = waypoint(upstream, origin, filters).await;
            for downstream in BOTH {
                for path in ["/head", "/body"] {
                    let leaves = ask_and_leave(waypoint.http(), downstream, path, &begun);
                    timeout(PATIENCE, leaves).await.expect("the request arrives");
                    let gone = timeout(PATIENCE, ended.notified()).await;
                    gone.unwrap_or_else(|_| panic!("{path}: the service goes on for nobody"));
                }
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_its_body_leaves_the_service_half_a_request() {
    let origin = crate::origin::Origin::echo(Speaks::Http1).await;
    let waypoint = waypoint(Speaks::Http1, origin.address, "").await;
    let mut stream = TcpStream::connect(waypoint.http()).await.expect("a connection");
    let half = b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf";
    stream.write_all(half).await.expect("written");
    stream.shutdown().await.expect("shut down");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("closed");

    let record = waypoint.record(|record| record["path"] == "/half").await;
    assert_ne!(record["response_code"], 200, "{record}");
    assert!(origin.seen().is_empty(), "half a request is none");
}
