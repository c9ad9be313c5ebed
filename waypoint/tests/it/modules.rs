//! Where modules come from, and what serves while a new one cannot.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::generate_simple_self_signed;
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::client::values;
use crate::guests::{Guest, signing};
use crate::harness::{Waypoint, filter, gateway_to, get, service};
use crate::origin::{Origin, Speaks};
use crate::streams::serve_raw;

/// The bytes of a guest that signs with `name`.
fn bytes_of(name: &str) -> Bytes {
    let dir = TempDir::new().unwrap();
    signing(name).write(dir.path(), name);
    std::fs::read(dir.path().join(format!("{name}.wasm"))).unwrap().into()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server whose answer to anything can be replaced.
#[derive(Clone)]
struct Library {
    origin: Origin,
    answer: Arc<Mutex<(StatusCode, Bytes)>>,
}

impl Library {
    async fn open(bytes: Bytes) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, bytes)));
        let given = Arc::clone(&answer);
        let origin = Origin::start(Speaks::Http1, move |_| {
            let (status, bytes) = given.lock().clone();
            let answer = Response::builder().status(status).header("location", "/elsewhere");
            answer.body(bytes).unwrap()
        })
        .await;
        Self { origin, answer }
    }

    fn says(&self, status: StatusCode, bytes: Bytes) {
        *self.answer.lock() = (status, bytes);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.origin.address)
    }
}

/// A filter `signs` whose module is fetched.
fn fetched(url: &str) -> String {
    filter("signs", url, "")
}

/// The same with the digest that the module must have.
fn pinned(url: &str, sha256: &str) -> String {
    fetched(url).replace(&format!("\"{url}\""), &format!("\"{url}\", sha256: {sha256:?}"))
}

/// An origin, and the resources without a filter.
async fn base() -> (Origin, String) {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    (origin, resources)
}

/// Who signed a request: the guest that serves.
async fn signed_by(waypoint: &Waypoint) -> String {
    let answer = get(waypoint.http(), "/").await;
    assert_eq!(answer.status(), 200);
    values(answer.headers(), "x-order").join(" ")
}

fn refused_for(report: &Value, wanted: &str) {
    assert_eq!(report["result"], "refused", "{report:#}");
    let message = report["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains(wanted), "{wanted:?} is not in {message:?}");
}

#[tokio::test]
async fn a_module_is_fetched_over_http_and_with_its_digest_only_once() {
    let (_origin, resources) = base().await;
    let (module, library) = (bytes_of("one"), Library::open(bytes_of("one")).await);
    let wanted = sha256(&module);
    let with = resources.clone() + &pinned(&library.url("one.wasm"), &wanted);
    let waypoint = Waypoint::start_with(&with, &["--no-watch"]).await;

    assert_eq!(signed_by(&waypoint).await, "one");
    library.says(StatusCode::NOT_FOUND, Bytes::new());
    let moved = with + "  priority: 7\n";
    assert_eq!(waypoint.reload(&moved).await["result"], "applied");

    assert_eq!(signed_by(&waypoint).await, "one");
    let seen = library.origin.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].uri(), "/one.wasm");
    assert_eq!(values(seen[0].headers(), "host"), [library.origin.address.to_string()]);
}

#[tokio::test]
async fn a_fetched_module_with_another_digest_is_refused_until_the_right_one_is_there() {
    let (_origin, resources) = base().await;
    let (right, library) = (bytes_of("right"), Library::open(bytes_of("wrong")).await);
    let with = resources.clone() + &pinned(&library.url("m"), &sha256(&right));
    let waypoint = Waypoint::start_with(&resources, &["--no-watch"]).await;

    refused_for(&waypoint.reload(&with).await, "the module's sha256 is ");
    assert_eq!(get(waypoint.http(), "/").await.status(), 403, "its target is denied");
    library.says(StatusCode::OK, right);

    let report = waypoint.reload(&with).await;
    assert_eq!(report["result"], "applied", "{report:#}");
    assert_eq!(signed_by(&waypoint).await, "right");
}

#[tokio::test]
async fn a_module_that_cannot_be_had_is_refused_and_the_last_good_one_serves() {
    let (_origin, resources) = base().await;
    let library = Library::open(bytes_of("good")).await;
    let good = resources.clone() + &fetched(&library.url("good"));
    let waypoint = Waypoint::start_with(&good, &["--no-watch"]).await;
    assert_eq!(signed_by(&waypoint).await, "good");
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/m", listener.local_addr().unwrap())
    };
    // One byte more than a module may have.
    let large = Bytes::from(vec![0; (16 << 20) + 1]);
    let empty = Bytes::new();
    for (status, bytes, url, wanted) in [
        (StatusCode::NOT_FOUND, &empty, library.url("missing"), "answered 404 Not Found"),
        (StatusCode::FOUND, &empty, library.url("moved"), "answered 302 Found"),
        (StatusCode::OK, &large, library.url("large"), "larger than 16777216 bytes"),
        (StatusCode::OK, &empty, library.url("empty"), "does not compile"),
        (StatusCode::OK, &empty, nobody, "Connection refused"),
        (StatusCode::OK, &empty, "http://169.254.169.254/m".to_owned(), "is link-local"),
        (StatusCode::OK, &empty, "http://0.0.0.0/m".to_owned(), "is link-local or unspecified"),
    ] {
        library.says(status, bytes.clone());
        let report = waypoint.reload(&(resources.clone() + &fetched(&url))).await;
        refused_for(&report, wanted);
        assert_eq!(signed_by(&waypoint).await, "good", "{wanted}");
    }
    // A redirect is not followed.
    assert!(library.origin.seen().iter().all(|seen| seen.uri() != "/elsewhere"));
}

#[tokio::test]
async fn a_module_that_cannot_be_fetched_at_the_start_ends_the_start() {
    let (_origin, resources) = base().await;
    let library = Library::open(Bytes::new()).await;
    library.says(StatusCode::NOT_FOUND, Bytes::new());

    let with = resources + &fetched(&library.url("m"));
    let mut waypoint = Waypoint::spawn(&with, &[]);

    assert_eq!(waypoint.exit_code().await, Some(1));
    waypoint.logged("answered 404 Not Found").await;
}

/// An HTTPS server of a module, and its certificate in a file.
async fn https(dir: &Path, module: Bytes) -> String {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve_raw(move |stream| {
        let (acceptor, module) = (acceptor.clone(), module.clone());
        async move {
            // A client that does not trust the certificate ends the handshake.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |_| {
                let body = http_body_util::Full::new(module.clone());
                async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    format!("https://localhost:{}/m", address.port())
}

#[tokio::test]
async fn a_module_over_https_is_taken_from_a_server_that_the_system_trusts_only() {
    let (_origin, resources) = base().await;
    let dir = TempDir::new().unwrap();
    let url = https(dir.path(), bytes_of("sealed")).await;
    let with = resources.clone() + &fetched(&url);

    let ca = dir.path().join("ca.pem");
    let waypoint = Waypoint::start_where(&with, &[("SSL_CERT_FILE", &ca)]).await;
    assert_eq!(signed_by(&waypoint).await, "sealed");

    let waypoint = Waypoint::start_with(&resources, &["--no-watch"]).await;
    refused_for(&waypoint.reload(&with).await, "certificate");
}

/// An Istio plugin on the Gateway.
fn plugin(url: &str, more: &str) -> String {
    format!(
        "
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: plugin}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: web}}]
  url: {url}
{more}
"
    )
}

#[tokio::test]
async fn a_wasm_plugin_whose_new_version_is_bad_goes_on_as_it_was() {
    let (_origin, resources) = base().await;
    let dir = TempDir::new().unwrap();
    let old = signing("old").write(dir.path(), "old");
    let new = signing("new").write(dir.path(), "new");
    let refuses = Guest::on_response("(i32.const 0)").on("configure", "(i32.const 0)");
    let refuses = refuses.write(dir.path(), "refuses");
    let good = resources.clone() + &plugin(&old, "");
    let waypoint = Waypoint::start_with(&good, &["--no-watch"]).await;

    for (bad, wanted) in [
        (plugin(&new, "  phaze: AUTHN"), "unknown field `phaze`"),
        (plugin(&new, &format!("  sha256: {:?}", "0".repeat(64))), "sha256"),
        (plugin("oci://example.test/m", ""), "oci://"),
        (plugin("file:///nowhere.wasm", ""), "No such file"),
        (plugin(&refuses, "  pluginConfig: {a: 1}"), "configur"),
    ] {
        let report = waypoint.reload(&(resources.clone() + &bad)).await;
        refused_for(&report, wanted);
        assert_eq!(report["problems"][0]["resource"]["kind"], "WasmPlugin");
        assert_eq!(signed_by(&waypoint).await, "old", "{wanted}");
    }

    let report = waypoint.reload(&(resources + &plugin(&new, ""))).await;
    assert_eq!(report["result"], "applied", "{report:#}");
    assert_eq!(signed_by(&waypoint).await, "new");
}

/// Says that it is not ready, and then does what `later` says at its next tick.
fn unready(name: &str, later: &str) -> Guest {
    let says = |ready: u8| {
        format!(
            "(i32.store8 (i32.const 40000) (i32.const {ready}))
             (drop (call $foreign {{waypoint_ready}} (i32.const 40000) (i32.const 1)
               (i32.const 40008) (i32.const 40012)))"
        )
    };
    let tick = "(drop (call $tick (i32.const 50))) (i32.const 1)";
    signing(name)
        .on("configure", &(says(0) + tick))
        .on("tick", &if later == "ready" { says(1) } else { String::new() })
}

#[tokio::test]
async fn a_filter_that_is_not_ready_in_time_keeps_the_old_one_and_one_that_is_late_is_waited_for() {
    let (_origin, resources) = base().await;
    let dir = TempDir::new().unwrap();
    let module = |guest: Guest, name| filter("signs", &guest.write(dir.path(), name), "");
    let old = resources.clone() + &module(signing("old"), "old");
    let waypoint = Waypoint::start_with(&old, &["--no-watch"]).await;

    let late = resources.clone() + &module(unready("late", "ready"), "late");
    let report = waypoint.reload(&late).await;
    assert_eq!(report["result"], "applied", "{report:#}");
    assert_eq!(signed_by(&waypoint).await, "late");

    let never = resources + &module(unready("never", ""), "never");
    let (report, meanwhile) = tokio::join!(waypoint.reload(&never), signed_by(&waypoint));
    refused_for(&report, "the filter was not ready within 10 s");
    assert_eq!((meanwhile.as_str(), signed_by(&waypoint).await.as_str()), ("late", "late"));
}
