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
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

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

/// A folder of resources in a folder of its own.
fn laid_out(resources: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path().join("resources");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("all.yaml"), resources).expect("a file");
    (dir, folder)
}

/// Lines that a process has printed, with a way to wait for one.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    printed: Arc<Mutex<Printed>>,
    more: Arc<Notify>,
}

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    /// The process has ended, or closed its output.
    ended: bool,
}

impl Lines {
    pub(crate) fn follow(out: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let all = Self::default();
        let lines = all.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(out).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                lines.printed.lock().lines.push(line);
                lines.more.notify_waiters();
            }
            lines.printed.lock().ended = true;
            lines.more.notify_waiters();
        });
        all
    }

    /// Waits until a line satisfies `wanted`; `None` when the process or the patience ends.
    pub(crate) async fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.look(|lines| lines.iter().find(|line| wanted(line)).cloned()).await
    }

    /// Waits until `found` finds something in what is printed; `None` when the process or the
    /// patience ends.
    async fn look<T>(&self, found: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let looking = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let (found, ended) = {
                    let printed = self.printed.lock();
                    (found(&printed.lines), printed.ended)
                };
                if found.is_some() || ended {
                    return found;
                }
                more.await;
            }
        };
        timeout(PATIENCE, looking).await.ok().flatten()
    }

    pub(crate) fn text(&self) -> String {
        self.printed.lock().lines.join("\n")
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
        waypoint.logged("serving").await;
        waypoint
    }

    /// As [`Waypoint::start`], with variables in its environment.
    pub(crate) async fn start_where(resources: &str, variables: &[(&str, &Path)]) -> Self {
        let (dir, folder) = laid_out(resources);
        let waypoint = Self::launch(&[], dir, &folder, &[], variables, true);
        waypoint.logged("serving").await;
        waypoint
    }

    /// As [`Waypoint::start`], by a command that becomes the process, such as `prlimit`.
    pub(crate) async fn start_through(through: &[&str], resources: &str) -> Self {
        let (dir, folder) = laid_out(resources);
        let waypoint = Self::launch(through, dir, &folder, &[], &[], true);
        waypoint.logged("serving").await;
        waypoint
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(resources: &str, arguments: &[&str]) -> Self {
        let (dir, folder) = laid_out(resources);
        Self::spawn_in(dir, &folder, arguments)
    }

    /// Starts the process over a folder that the test has laid out in `dir`.
    pub(crate) fn spawn_in(dir: tempfile::TempDir, resources: &Path, arguments: &[&str]) -> Self {
        Self::launch(&[], dir, resources, arguments, &[], true)
    }

    /// As [`Waypoint::spawn`], by a command that becomes the process.
    pub(crate) fn spawn_through(through: &[&str], resources: &str, arguments: &[&str]) -> Self {
        let (dir, folder) = laid_out(resources);
        Self::launch(through, dir, &folder, arguments, &[], true)
    }

    fn launch(
        through: &[&str],
        dir: tempfile::TempDir,
        resources: &Path,
        arguments: &[&str],
        variables: &[(&str, &Path)],
        read_access_log: bool,
    ) -> Self {
        let addresses_file = dir.path().join("addresses.json");
        let binary = env!("CARGO_BIN_EXE_waypoint");
        let mut words = through.iter().copied().chain([binary]);
        let mut command = Command::new(words.next().expect("the binary at least"));
        command
            .args(words)
            .arg("run")
            .arg("-f")
            .arg(resources)
            .arg("--addresses-file")
            .arg(&addresses_file)
            .args(["--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0", "--health", "127.0.0.1:0"])
            .args(["--workers", "2"])
            .args(if arguments.contains(&"--address") {
                &[][..]
            } else {
                &["--address", "127.0.0.1"]
            })
            // Compiled once for all tests.
            .arg("--cache-dir")
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules"))
            .args(["--bind", "gateway/default/8080=127.0.0.1:0"])
            .args(["--bind", "gateway/default/8443=127.0.0.1:0"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the waypoint binary");
        let stdout = match read_access_log {
            true => Lines::follow(child.stdout.take().expect("piped")),
            // The pipe stays open and fills up.
            false => Lines::default(),
        };
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

    /// CPU time of the process so far, in user and system mode.
    pub(crate) fn cpu_time(&self) -> Duration {
        cpu_time(self.child.id().expect("the process runs")).expect("procfs")
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let pid = self.child.id().expect("the process runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

/// CPU time of a process so far, in user and system mode; `None` once it is gone.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it begins with field 3.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let field = |number: usize| fields.split(' ').nth(number - 3).expect("a field");
    let ticks = |number| field(number).parse::<u64>().expect("a number");
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis((ticks(14) + ticks(15)) * 1_000 / per_second))
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

/// Reads the whole body of an answer.
pub(crate) async fn whole(answer: Response<hyper::body::Incoming>) -> Response<Bytes> {
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

/// A Gateway `web` on 8080.
pub(crate) const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: waypoint
  listeners: [{name: http, port: 8080, protocol: HTTP}]
";

/// [`GATEWAY`] and a route `all` that sends everything to `service`.
pub(crate) fn gateway_to(service: &str) -> String {
    gateway_with(&rule_to(service))
}

/// A rule that sends everything to `service`.
pub(crate) fn rule_to(service: &str) -> String {
    format!("{{backendRefs: [{{name: {service}, port: 80}}]}}")
}

/// [`GATEWAY`] and a route `all` of these rules, in flow form.
pub(crate) fn gateway_with(rules: &str) -> String {
    GATEWAY.to_owned() + &route_of(rules)
}

/// A route `all` of these rules, in flow form, on the Gateway `web`.
pub(crate) fn route_of(rules: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{rules}]
"
    )
}

/// A Service with one endpoint. `protocol` is an `appProtocol`: `http`, `kubernetes.io/h2c`, `grpc`.
pub(crate) fn service(name: &str, protocol: &str, endpoint: SocketAddr) -> String {
    service_at(name, protocol, &[endpoint])
}

/// A Service with any number of endpoints, each on a port of its own.
pub(crate) fn service_at(name: &str, protocol: &str, endpoints: &[SocketAddr]) -> String {
    let mut all = format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: main, port: 80, appProtocol: {protocol}}}]}}
"
    );
    for (number, endpoint) in (1..).zip(endpoints) {
        all += &slice(name, number, *endpoint, "");
    }
    all
}

/// A slice of a service that has one endpoint; `rest` is what else stands there, in flow form.
pub(crate) fn slice(service: &str, number: usize, endpoint: SocketAddr, rest: &str) -> String {
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {service}-{number}
  labels: {{kubernetes.io/service-name: {service}}}
addressType: IPv4
ports: [{{name: main, port: {}}}]
endpoints: [{{addresses: [{}], {rest}}}]
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

impl Waypoint {
    /// As [`Waypoint::start`], but nobody reads the access log: its pipe fills up.
    pub(crate) async fn start_unread(resources: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("all.yaml");
        std::fs::write(&file, resources).expect("a file");
        let waypoint = Self::launch(&[], dir, &file, &[], &[], false);
        waypoint.logged("serving").await;
        waypoint
    }

    /// A JSON page of the admin port.
    pub(crate) async fn page(&self, path: &str) -> Value {
        let answer = self.admin(Method::GET, path).await;
        serde_json::from_slice(answer.body()).expect("JSON")
    }

    /// What `/filters` says of one filter.
    pub(crate) async fn filter(&self, name: &str) -> Value {
        let filters = self.page("/filters").await;
        let all = filters.as_array().expect("a list");
        let found = all.iter().find(|filter| filter["filter"] == name);
        found.unwrap_or_else(|| panic!("{name} does not run: {filters:#}")).clone()
    }

    /// The value of a series of the metrics, by its name and labels as they are printed.
    pub(crate) async fn series(&self, name: &str) -> Option<u64> {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    /// Waits for the process's end, and gives its exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let status = timeout(PATIENCE, self.child.wait()).await;
        status.unwrap_or_else(|_| panic!("still runs:\n{}", self.printed())).expect("waited").code()
    }
}

/// Runs a command of the binary to its end.
pub(crate) async fn run_to_end(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waypoint"));
    let output = command.args(arguments).kill_on_drop(true).output();
    timeout(PATIENCE, output).await.expect("in time").expect("the waypoint binary")
}

/// A connection that is kept for many requests.
pub(crate) enum Kept {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Kept {
    pub(crate) async fn http1(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("a handshake");
        drop(tokio::spawn(connection));
        Self::Http1(sender)
    }

    pub(crate) async fn http2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = handshake.await.expect("a handshake");
        drop(tokio::spawn(connection));
        Self::Http2(sender)
    }

    /// Sends a request as [`request`] makes it; the body of the answer is still to be read.
    pub(crate) async fn begin(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<hyper::body::Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                request.headers_mut().remove("host");
                let uri = format!("http://example.test{}", request.uri());
                *request.uri_mut() = uri.parse().expect("a URI");
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let begun = timeout(PATIENCE, self.begin(request)).await.expect("in time");
        whole(begun.expect("an answer")).await
    }
}

/// A `jwt-auth` that answers 401 to whoever has no token, under the name `gate`; `targets` is its
/// `targetRefs`, in flow form.
pub(crate) fn gate(targets: &str) -> String {
    format!(
        "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: gate}}
spec:
  targetRefs: {targets}
  module: {{url: 'builtin://jwt-auth'}}
  config:
    issuers:
    - issuer: one
      jwks: {{keys: [{{kty: OKP, crv: Ed25519, kid: a, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}}]}}
"
    )
}

/// `pii-redact` on the Gateway, under the name `redact`: e-mail addresses become `word`.
pub(crate) fn redact_to(word: &str) -> String {
    let config = format!("  config: {{entities: [{{type: email, with: \"{word}\"}}]}}");
    filter("redact", "builtin://pii-redact", &config)
}

impl Lines {
    /// Waits until everything printed so far satisfies `wanted`; `false` when the process or the
    /// patience ends.
    pub(crate) async fn until(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.look(|lines| wanted(&lines.join("\n")).then_some(())).await.is_some()
    }
}

impl Waypoint {
    /// Waits for a line of the access log, in whatever form it has.
    pub(crate) async fn access_log_line(&self, text: &str) -> String {
        let found = self.stdout.find(|line| line.contains(text)).await;
        found.unwrap_or_else(|| panic!("{text:?} was not recorded:\n{}", self.stdout.text()))
    }

    /// Waits until the log as a whole satisfies `wanted`.
    pub(crate) async fn logged_so(&self, wanted: impl Fn(&str) -> bool) {
        let logged = self.stderr.until(wanted).await;
        assert!(logged, "not logged so:\n{}", self.stderr.text());
    }
}
