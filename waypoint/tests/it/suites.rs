//! Suites of others, run by `make test-suites`.

use std::path::Path;

use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint};
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
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/suites/h2spec");

    let arguments = ["--tls", "--insecure", "--host", "localhost", "--port", &port];
    let run = Command::new(suite).args(arguments).kill_on_drop(true).output();
    let run = timeout(PATIENCE, run).await.expect("in time").expect("h2spec");

    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains(" 0 failed"), "{said}");
}
