//! Suites of others, run by `make test-suites`.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint, filter, gateway_to, service};
use crate::origin::{Origin, Speaks};
use crate::tls::{gateway, made};

/// Over TLS, where ALPN says that the client speaks HTTP/2. In plain text a client whose preface is
/// none is one of HTTP/1, and is answered in its words where h2spec expects a close.
#[tokio::test]
#[ignore = "needs h2spec: make test-suites"]
async fn h2spec_passes() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let certificate = made("local", "localhost");
    let resources = gateway(&[("local", "localhost")], &origin) + &certificate.secret;
    let waypoint = Waypoint::start(&resources).await;
    let port = waypoint.address("gateway/default/8443").port().to_string();

    let arguments = ["--tls", "--insecure", "--host", "localhost", "--port", &port];
    let said = run("h2spec", &arguments).await;

    assert!(said.contains(" 0 failed"), "{said}");
}

/// The cases of gRPC's interop client that need neither credentials nor a server of many replicas.
const INTEROP: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

#[tokio::test]
#[ignore = "needs gRPC's interop client and server: make test-suites"]
async fn grpc_interop_passes_with_and_without_filters() {
    let server = free_address();
    let port = server.port().to_string();
    let _server = suite("server").args(["-port", &port]).spawn().expect("the server");
    let listening = async { while TcpStream::connect(server).await.is_err() {} };
    timeout(PATIENCE, listening).await.expect("the server listens");
    let plain = gateway_to("interop") + &service("interop", "grpc", server);
    let filtered = plain.clone() + &filter("redact", "builtin://pii-redact", "");

    for resources in [plain, filtered] {
        let waypoint = Waypoint::start(&resources).await;
        let port = waypoint.http().port().to_string();
        for case in INTEROP {
            let to = ["-server_host", "127.0.0.1", "-server_port", &port, "-test_case", case];
            run("client", &to).await;
        }
    }
}

/// A port that nobody listens on.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn suite(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/suites");
    let mut command = Command::new(folder.join(name));
    command.kill_on_drop(true);
    command
}

/// Runs a suite to its end, which must be a good one; gives what it printed.
async fn run(name: &str, arguments: &[&str]) -> String {
    let run = suite(name).args(arguments).output();
    let run = timeout(PATIENCE, run).await.expect("in time").expect("it is built");
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(run.status.success(), "{name} {arguments:?}: {said}");
    said
}
