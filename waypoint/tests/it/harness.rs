//! A waypoint process under test, and small clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::origin::{AnyBody, BoxError, Speaks};

/// How long anything that is awaited may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running `waypoint run`, ended with the test.
pub(crate) struct Waypoint {
    pub(crate) child: Child,
    pub(crate) dir: tempfile::TempDir,
    addresses_file: PathBuf,
    stdout: Lines,
    stderr: Lines,
}

/// Lines that a process has printed, with a way to wait for one.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    more: Arc<Notify>,
}

impl Lines {
    fn follow(out: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let all = Self::default();
        let lines = all.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(out).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                lines.lines.lock().push(line);
                lines.more.notify_waiters();
            }
        });
        all
    }

    /// Waits until a line satisfies `wanted`; `None` when the patience ends.
    async fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        timeout(PATIENCE, async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if let Some(line) = self.lines.lock().iter().find(|line| wanted(line)) {
                    return line.clone();
                }
                more.await;
            }
        })
        .await
        .ok()
    }

    fn text(&self) -> String {
        self.lines.lock().join("\n")
    }
}

impl Waypoint {
    /// Starts a waypoint that serves `resources`, and waits until it does.
    pub(crate) async fn start(resources: &str) -> Self {
        Self::start_with(resources, &[]).await
    }

    /// As [`Waypoint::start`], with more arguments.
    pub(crate) async fn start_with(resources: &str, arguments: &[&str]) -> Self {
        let waypoint = Self::spawn(resources, arguments);
        let serving = |line: &str| line.contains("serving");
        let started = waypoint.stderr.find(serving).await;
        assert!(started.is_some(), "the waypoint did not start:\n{}", waypoint.stderr.text());
        waypoint
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(resources: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("resources");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("all.yaml"), resources).expect("a file");
        Self::spawn_in(dir, &folder, arguments)
    }

    /// Starts the process over a folder that the test has laid out in `dir`.
    pub(crate) fn spawn_in(dir: tempfile::TempDir, resources: &Path, arguments: &[&str]) -> Self {
        let addresses_file = dir.path().join("addresses.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypoint"));
        command
            .arg("run")
            .arg("-f")
            .arg(resources)
            .arg("--addresses-file")
            .arg(&addresses_file)
            .args(["--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0", "--health", "127.0.0.1:0"])
            .args(["--address", "127.0.0.1", "--workers", "2"])
            // Compiled once for all tests.
            .arg("--cache-dir")
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules"))
            .args(["--bind", "gateway/default/8080=127.0.0.1:0"])
            .args(["--bind", "gateway/default/8443=127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the waypoint binary");
        let stdout = Lines::follow(child.stdout.take().expect("piped"));
        let stderr = Lines::follow(child.stderr.take().expect("piped"));
        Self { child, dir, addresses_file, stdout, stderr }
    }

    /// Where an entrance listens, by name.
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let text = std::fs::read_to_string(&self.addresses_file).expect("the addresses file");
        let all: BTreeMap<String, SocketAddr> = serde_json::from_str(&text).expect("addresses");
        *all.get(name).unwrap_or_else(|| panic!("{name} does not listen: {all:?}"))
    }

    /// The Gateway's HTTP entrance.
    pub(crate) fn http(&self) -> SocketAddr {
        self.address("gateway/default/8080")
    }

    /// Writes the resources anew, in one step.
    pub(crate) fn write(&self, resources: &str) {
        let folder = self.dir.path().join("resources");
        let aside = self.dir.path().join("aside");
        std::fs::write(&aside, resources).expect("a file");
        std::fs::rename(aside, folder.join("all.yaml")).expect("a file");
    }

    /// Writes the resources anew and waits for the reload's report.
    pub(crate) async fn reload(&self, resources: &str) -> Value {
        self.write(resources);
        let answer = self.admin(Method::POST, "/reload").await;
        serde_json::from_slice(answer.body()).expect("a report")
    }

    /// Asks the admin port.
    pub(crate) async fn admin(&self, method: Method, path: &str) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "localhost").body(Full::default()).expect("a request");
        send_http1(self.address("admin"), request).await
    }

    /// The metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        let request = Request::get("/stats/prometheus").header("host", "localhost");
        let request = request.body(Full::default()).expect("a request");
        let answer = send_http1(self.address("stats"), request).await;
        String::from_utf8(answer.into_body().to_vec()).expect("text")
    }

    /// Waits for the access log's record that satisfies `wanted`.
    pub(crate) async fn record(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        let found = self.stdout.find(|line| parse(line).is_some_and(|record| wanted(&record)));
        let found = found.await;
        let line = found.unwrap_or_else(|| panic!("no such record:\n{}", self.stdout.text()));
        parse(&line).expect("JSON")
    }

    /// Waits for a line of the log.
    pub(crate) async fn logged(&self, text: &str) -> String {
        let found = self.stderr.find(|line| line.contains(text)).await;
        found.unwrap_or_else(|| panic!("{text:?} was not logged:\n{}", self.stderr.text()))
    }

    /// Everything printed so far: access log and log.
    pub(crate) fn printed(&self) -> String {
        format!("{}\n{}", self.stdout.text(), self.stderr.text())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().expect("the process runs");
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the process runs");
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let pid = self.child.id().expect("the process runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

/// Sends one request over a new HTTP/1.1 connection and reads the whole answer.
pub(crate) async fn send_http1(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    let driver = tokio::spawn(connection);
    let answer = whole(sender.send_request(request).await.expect("an answer")).await;
    driver.abort();
    answer
}

/// Sends one request over a new HTTP/2 connection (prior knowledge) and reads the whole answer.
pub(crate) async fn send_http2(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a handshake");
    let driver = tokio::spawn(connection);
    let answer = whole(sender.send_request(request).await.expect("an answer")).await;
    driver.abort();
    answer
}

async fn whole(answer: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("in time").expect("a whole body");
    Response::from_parts(parts, body.to_bytes())
}

/// A request to the Gateway: origin-form with a Host, as HTTP/1.1 wants it.
pub(crate) fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "example.test")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a request")
}

/// A GET of the Gateway over HTTP/1.1.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Response<Bytes> {
    send_http1(address, request(Method::GET, path, "")).await
}

/// A JSON POST to the Gateway over HTTP/1.1.
pub(crate) async fn post_json(address: SocketAddr, path: &str, body: &str) -> Response<Bytes> {
    let mut request = request(Method::POST, path, body);
    request.headers_mut().insert("content-type", "application/json".parse().expect("a value"));
    send_http1(address, request).await
}

/// A Gateway `web` on 8080 and a route `all` that sends everything to `service`.
pub(crate) fn gateway_to(service: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec:
  gatewayClassName: waypoint
  listeners: [{{name: http, port: 8080, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]
"
    )
}

/// A Service with one endpoint. `protocol` is an `appProtocol`: `http`, `kubernetes.io/h2c`, `grpc`.
pub(crate) fn service(name: &str, protocol: &str, endpoint: SocketAddr) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: main, port: 80, appProtocol: {protocol}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: main, port: {}}}]
endpoints: [{{addresses: [{}]}}]
",
        endpoint.port(),
        endpoint.ip()
    )
}

/// A filter on the Gateway `web`: `spec` is further YAML of its spec, in flow form.
pub(crate) fn filter(name: &str, module: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: web}}]
  module: {{url: \"{module}\"}}
{spec}
"
    )
}

/// A request to the Gateway with these headers; a `host` among them replaces the default.
pub(crate) fn request_with(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = request(method, path, "");
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    request
}

/// Writes bytes to a new connection and reads what comes until the other side closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A refusal may close the connection before all is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.is_ok();
    assert!(read, "the connection is not closed after {}", String::from_utf8_lossy(&answer));
    answer
}

/// A connection that takes any body and gives the answer as it comes.
#[derive(Clone)]
pub(crate) enum Client {
    Http1(Arc<tokio::sync::Mutex<hyper::client::conn::http1::SendRequest<AnyBody>>>),
    Http2(hyper::client::conn::http2::SendRequest<AnyBody>),
}

impl Client {
    /// Connects in this protocol; HTTP/2 by prior knowledge.
    pub(crate) async fn connect(address: SocketAddr, speaks: Speaks) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.expect("a connection"));
        match speaks {
            Speaks::Http1 => {
                let made = hyper::client::conn::http1::handshake(io).await;
                let (sender, connection) = made.expect("a handshake");
                tokio::spawn(connection);
                Self::Http1(Arc::new(tokio::sync::Mutex::new(sender)))
            }
            Speaks::Http2 => {
                let executor = TokioExecutor::new();
                let mut client = hyper::client::conn::http2::Builder::new(executor);
                // A reader that stands still is told from a fast one soon.
                client.initial_stream_window_size(64 << 10);
                let (sender, connection) = client.handshake(io).await.expect("a handshake");
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        }
    }

    /// Sends a request in origin-form with a `host`; gives the answer's head with its body unread.
    pub(crate) async fn send<B>(&self, request: Request<B>) -> Response<hyper::body::Incoming>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.try_send(request).await.expect("an answer")
    }

    /// As [`Client::send`], where no answer is an answer.
    pub(crate) async fn try_send<B>(
        &self,
        request: Request<B>,
    ) -> hyper::Result<Response<hyper::body::Incoming>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
        let answer = match self {
            Self::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.expect("a connection");
                let answer = sender.send_request(request);
                timeout(PATIENCE, answer).await
            }
            Self::Http2(sender) => {
                let host = request.headers_mut().remove("host").expect("a host");
                let authority = host.to_str().expect("a host");
                let target = format!("http://{authority}{}", request.uri());
                *request.uri_mut() = target.parse().expect("a target");
                timeout(PATIENCE, sender.clone().send_request(request)).await
            }
        };
        answer.expect("in time")
    }

    /// As [`Client::send`], and reads the whole body.
    pub(crate) async fn fetch(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        whole(self.send(request).await).await
    }
}
