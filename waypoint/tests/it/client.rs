//! Clients for the tests of filters: raw sockets, kept connections, and more resources.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint, request, send_http1};

/// A connection on which the test writes and reads bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("a connection"))
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the peer reads");
    }

    /// One chunk of a chunked body.
    pub(crate) async fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let head = format!("{:x}\r\n", bytes.len());
        self.send([head.as_bytes(), bytes, b"\r\n"].concat()).await;
    }

    /// Reads until `wanted` has been read, and gives all that was read so far.
    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        let read = self.until_or_end(wanted).await;
        assert!(read.contains(wanted), "{wanted:?} did not come: {read}");
        read
    }

    /// As [`Raw::until`], but the peer may close without having written it.
    pub(crate) async fn until_or_end(&mut self, wanted: &str) -> String {
        timeout(PATIENCE, async {
            while !self.text().contains(wanted) {
                if !matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)) {
                    break;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{wanted:?} did not come in time: {}", self.text()));
        self.text()
    }

    /// Reads until the peer closes.
    pub(crate) async fn end(&mut self) -> String {
        let all = timeout(PATIENCE, self.stream.read_to_end(&mut self.read));
        // A reset is an end, too.
        let _ = all.await.expect("the peer closes in time");
        self.text()
    }

    /// Writes what is last; the peer may have gone already.
    pub(crate) async fn shut(&mut self, last: &str) {
        let _ = self.stream.write_all(last.as_bytes()).await;
        let _ = self.stream.shutdown().await;
    }

    /// Forgets what was read.
    pub(crate) fn forget(&mut self) {
        self.read.clear();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Closes at once, with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

/// A kept HTTP/1.1 connection.
pub(crate) struct Kept(SendRequest<Full<Bytes>>);

impl Kept {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.0.ready().await.expect("a connection");
        let answer = self.0.send_request(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        Response::from_parts(parts, body.collect().await.expect("a body").to_bytes())
    }

    /// How long each of `count` GETs takes, the shortest first.
    pub(crate) async fn times(&mut self, path: &str, count: usize) -> Vec<Duration> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            assert_eq!(self.send(request(Method::GET, path, "")).await.status(), 200);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        times
    }
}

/// A GET with headers.
pub(crate) fn get_with(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    with(request(Method::GET, path, ""), headers)
}

/// A POST with headers.
pub(crate) fn post_with(path: &str, body: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    with(request(Method::POST, path, body), headers)
}

fn with(mut request: Request<Full<Bytes>>, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    request
}

/// The status that a request gets.
pub(crate) async fn status(address: SocketAddr, request: Request<Full<Bytes>>) -> u16 {
    send_http1(address, request).await.status().as_u16()
}

/// An HTTPRoute `name` on the Gateway `web` that sends what is below `path` to `service`.
pub(crate) fn route(name: &str, path: &str, service: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
    - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]
      backendRefs: [{{name: {service}, port: 80}}]
"
    )
}

/// A filter on `target`, for example `kind: HTTPRoute, name: all`; on nothing: on its namespace.
pub(crate) fn filter_on(name: &str, target: &str, module: &str, spec: &str) -> String {
    let targets = match target {
        "" => String::new(),
        target => format!("\n  targetRefs: [{{{target}}}]"),
    };
    format!(
        "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: {name}}}
spec:{targets}
  module: {{url: \"{module}\"}}
{spec}
"
    )
}

/// The value of a series, by the beginning of its line; 0 when there is none.
pub(crate) async fn series_of(waypoint: &Waypoint, beginning: &str) -> f64 {
    let metrics = waypoint.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with(beginning));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// The value of a series that counts.
pub(crate) async fn series(waypoint: &Waypoint, beginning: &str) -> u64 {
    series_of(waypoint, beginning).await as u64
}

/// Failures of a filter of the namespace `default`.
pub(crate) async fn failures(waypoint: &Waypoint, filter: &str, reason: &str) -> u64 {
    let name = "waypoint_filter_failures_total";
    series(waypoint, &format!("{name}{{filter=\"default/{filter}\",reason=\"{reason}\"}}")).await
}

/// Waits until a series has a value; each look is a request of its own.
pub(crate) async fn becomes(waypoint: &Waypoint, beginning: &str, wanted: u64) {
    let reached = timeout(PATIENCE, async {
        while series(waypoint, beginning).await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(reached.await.is_ok(), "{beginning} never became {wanted}");
}

/// The values of `name`, in order.
pub(crate) fn values(headers: &http::HeaderMap, name: &str) -> Vec<String> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.get_all(name).iter().map(text).collect()
}
