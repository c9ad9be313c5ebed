//! Files change while requests run: nothing is lost, nothing bad is applied, what is refused is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use rustix::process::Signal;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::{
    Kept, Waypoint, filter, gateway_to, get, post_json, redact_to, request, service,
};
use crate::origin::{Holding, Origin, Speaks};

/// How long the load runs, and how many reloads it sees: ten a second. By hand: 30 s.
/// Ten a second.
const RELOAD_EVERY: Duration = Duration::from_millis(100);
/// Connections of each version.
const CONNECTIONS: usize = 4;

const MAIL: &str = r#"{"mail":"alice@example.com"}"#;

/// A service that echoes, and all but the filters of the resources.
async fn echo() -> (Origin, String) {
    let origin = Origin::echo(Speaks::Http1).await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    (origin, resources)
}

/// What becomes of an e-mail address on its way there and back.
async fn mail(waypoint: &Waypoint) -> String {
    let answer = post_json(waypoint.http(), "/", MAIL).await;
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    body["mail"].as_str().map_or_else(|| answer.status().to_string(), str::to_owned)
}

fn messages(report: &Value) -> String {
    let problems = report["problems"].as_array().expect("problems");
    problems.iter().map(|problem| problem["message"].as_str().unwrap().to_owned() + "\n").collect()
}

#[tokio::test]
async fn ten_reloads_a_second_under_load_fail_lose_and_double_no_request() {
    reload_under_load(30).await;
}

#[tokio::test]
#[ignore = "takes 30 s: make test-faults"]
async fn ten_reloads_a_second_for_30_s_fail_lose_and_double_no_request() {
    reload_under_load(300).await;
}

async fn reload_under_load(reloads: u32) {
    let (origin, resources) = echo().await;
    let first = resources.clone() + &redact_to("<0>");
    let waypoint = Waypoint::start_with(&first, &["--no-watch"]).await;
    let (over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for index in 0..2 * CONNECTIONS {
        let mut client = match index % 2 {
            0 => Kept::http1(waypoint.http()).await,
            _ => Kept::http2(waypoint.http()).await,
        };
        let (over, next) = (Arc::clone(&over), Arc::clone(&next));
        clients.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let mut post = request(Method::POST, &format!("/{number}"), MAIL);
                post.headers_mut().insert("content-type", "application/json".parse().unwrap());
                let answer = client.send(post).await;
                let body = String::from_utf8_lossy(answer.body());
                assert_eq!(answer.status(), 200, "{number}: {body}");
                assert!(body.starts_with("{\"mail\":\"<") && body.ends_with(">\"}"), "{body}");
            }
        }));
    }
    let mut pace = tokio::time::interval(RELOAD_EVERY);
    for number in 1..=reloads {
        pace.tick().await;
        let report =
            waypoint.reload(&(resources.clone() + &redact_to(&format!("<{number}>")))).await;
        assert_eq!(report["result"], "applied", "{report:#}");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for request in origin.seen() {
        *seen.entry(request.uri().path().to_owned()).or_default() += 1;
    }
    let sent = next.load(Ordering::Relaxed);
    assert!(sent > 100, "{sent} requests are no load");
    assert_eq!(seen.len(), sent);
    assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    assert_eq!(mail(&waypoint).await, format!("<{reloads}>"));
    assert_eq!(waypoint.filter(REDACT).await["traps"], 0);
}

/// The name under which the admin port has the filter of [`redact_to`].
const REDACT: &str = "default/redact";

#[tokio::test]
async fn a_request_in_flight_finishes_on_the_chain_that_it_began_with() {
    let origin = Holding::start(MAIL).await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&(resources.clone() + &redact_to("<OLD>"))).await;
    let mut http1 = Kept::http1(waypoint.http()).await;
    let mut http2 = Kept::http2(waypoint.http()).await;
    let old1 = tokio::spawn(async move { http1.send(request(Method::GET, "/1", "")).await });
    let old2 = tokio::spawn(async move { http2.send(request(Method::GET, "/2", "")).await });
    origin.arrived().await;
    origin.arrived().await;

    waypoint.reload(&(resources + &redact_to("<NEW>"))).await;
    let address = waypoint.http();
    let new = tokio::spawn(async move { get(address, "/3").await });
    origin.arrived().await;
    origin.release(3);

    assert_eq!(&old1.await.unwrap().body()[..], br#"{"mail":"<OLD>"}"#);
    assert_eq!(&old2.await.unwrap().body()[..], br#"{"mail":"<OLD>"}"#);
    assert_eq!(&new.await.unwrap().body()[..], br#"{"mail":"<NEW>"}"#);
}

#[tokio::test]
async fn a_bad_file_is_refused_with_its_reason_while_the_last_good_one_serves() {
    let (_origin, resources) = echo().await;
    let good = resources.clone() + &redact_to("<EMAIL>");
    let waypoint = Waypoint::start_with(&good, &["--no-watch"]).await;

    waypoint.write(&good.replace("kind: Gateway", "kind: Gatway"));
    let answer = waypoint.admin(Method::POST, "/reload").await;

    assert_eq!(answer.status(), 422);
    let report: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(report["result"], "refused");
    assert_eq!(report["problems"][0]["nearest"], "Gateway");
    assert_eq!(mail(&waypoint).await, "<EMAIL>");
    let config = waypoint.page("/config").await;
    assert_eq!(config["lastReload"]["problems"], report["problems"]);
    let refused = "waypoint_reloads_total{result=\"refused\"}";
    assert_eq!(waypoint.series(refused).await, Some(1));
    assert!(waypoint.series("waypoint_refused_resources").await > Some(0));

    waypoint.write("{ this: is: not YAML");
    assert_eq!(waypoint.admin(Method::POST, "/reload").await.status(), 422);
    assert_eq!(mail(&waypoint).await, "<EMAIL>");

    let report = waypoint.reload(&good).await;
    assert_eq!(report["result"], "applied", "{report:#}");
    assert_eq!(waypoint.series("waypoint_refused_resources").await, Some(0));
    assert_eq!(waypoint.series(refused).await, Some(2));
}

#[tokio::test]
async fn a_bad_resource_does_not_stop_the_change_of_another_one() {
    let (_origin, resources) = echo().await;
    let waypoint = Waypoint::start(&(resources.clone() + &redact_to("<OLD>"))).await;

    let bad_route = resources.replace("backendRefs", "backndRefs");
    let report = waypoint.reload(&(bad_route + &redact_to("<NEW>"))).await;

    assert_eq!(report["result"], "refused");
    assert_eq!(report["problems"][0]["resource"]["kind"], "HTTPRoute");
    assert_eq!(mail(&waypoint).await, "<NEW>");
}

#[tokio::test]
async fn a_refused_filter_without_a_last_good_version_denies_unless_its_policy_is_open() {
    let (_origin, resources) = echo().await;
    let waypoint = Waypoint::start(&resources).await;
    assert_eq!(mail(&waypoint).await, "alice@example.com");
    // Refused by the reader, by the module, and for want of a module.
    for (module, spec) in [
        ("builtin://pii-redact", "  confg: {}"),
        ("builtin://pii-redact", "  config: {entities: [shoeSize]}"),
        ("file:///nowhere.wasm", "  phase: Stats"),
    ] {
        let closed = filter("broken", module, spec);
        let report = waypoint.reload(&(resources.clone() + &closed)).await;
        assert_eq!(report["result"], "refused", "{spec}");
        assert_eq!(mail(&waypoint).await, "403 Forbidden", "{spec}");

        let open = filter("broken", module, &format!("{spec}\n  failurePolicy: Open"));
        let report = waypoint.reload(&(resources.clone() + &open)).await;
        assert_eq!(report["result"], "refused", "{spec}");
        assert_eq!(mail(&waypoint).await, "alice@example.com", "{spec}");

        let report = waypoint.reload(&resources).await;
        assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report:#}");
        assert_eq!(mail(&waypoint).await, "alice@example.com", "{spec}");
    }
}

#[tokio::test]
async fn a_filter_whose_new_module_is_refused_goes_on_as_it_was() {
    let (_origin, resources) = echo().await;
    let first = resources.clone() + &redact_to("<OLD>");
    let waypoint = Waypoint::start_with(&first, &["--no-watch"]).await;
    let module = |name: &str, bytes: &[u8]| {
        let path = waypoint.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        format!("file://{}", path.display())
    };
    let junk = module("junk.wasm", b"this is no module");
    let unmarked = module("unmarked.wasm", b"\0asm\x01\0\0\0");
    let zeros = "0".repeat(64);
    for (wanted, refused) in [
        ("does not compile", filter("redact", &junk, "  phase: Stats")),
        ("proxy_abi_version", filter("redact", &unmarked, "  phase: Stats")),
        ("No such file", filter("redact", "file:///nowhere.wasm", "  phase: Stats")),
        ("shoeSize", filter("redact", "builtin://pii-redact", "  config: {entities: [shoeSize]}")),
        (
            "sha256",
            redact_to("<NEW>")
                .replace("pii-redact\"", &format!("pii-redact\", sha256: \"{zeros}\"")),
        ),
    ] {
        let report = waypoint.reload(&(resources.clone() + &refused)).await;
        assert_eq!(report["result"], "refused", "{wanted}: {report:#}");
        let messages = messages(&report);
        assert!(messages.contains(wanted), "{wanted:?} is not in {messages}");
        assert_eq!(report["problems"][0]["resource"]["name"], "redact", "{wanted}");
        assert_eq!(mail(&waypoint).await, "<OLD>", "{wanted}");
        assert_eq!(waypoint.filter(REDACT).await["generation"], 1, "{wanted}");
    }
}

#[tokio::test]
async fn a_mistake_in_the_configuration_of_jwt_auth_is_told_with_its_path() {
    let (_origin, resources) = echo().await;
    let waypoint = Waypoint::start(&resources).await;
    let config = "  config:\n    issuers:\n      - issuer: https://issuer.test\n        \
                  jwksUri: {upstream: 'keys.default:80', path: 5}";

    let report = waypoint.reload(&(resources + &filter("jwt", "builtin://jwt-auth", config))).await;

    let messages = messages(&report);
    assert!(messages.contains("issuers[0].jwksUri.path"), "{messages}");
}

/// A route of `default` to a service of the namespace `other`.
fn to_another_namespace(endpoint: SocketAddr) -> String {
    let moved = service("origin", "http", endpoint)
        .replace("{name: origin}", "{name: origin, namespace: other}")
        .replace("  name: origin-1\n", "  name: origin-1\n  namespace: other\n");
    gateway_to("origin").replace("{name: origin,", "{name: origin, namespace: other,") + &moved
}

const GRANT: &str = "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: routes, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service}]
";

#[tokio::test]
async fn a_reference_grant_that_is_removed_or_refused_acts_at_once() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = to_another_namespace(origin.address);
    let waypoint = Waypoint::start(&(resources.clone() + GRANT)).await;
    let mut client = Kept::http1(waypoint.http()).await;
    assert_eq!(client.send(request(Method::GET, "/", "")).await.status(), 200);

    waypoint.reload(&resources).await;
    assert_eq!(client.send(request(Method::GET, "/", "")).await.status(), 500);

    waypoint.reload(&(resources.clone() + GRANT)).await;
    assert_eq!(client.send(request(Method::GET, "/", "")).await.status(), 200);

    waypoint.reload(&(resources + &GRANT.replace("  from:", "  frm:"))).await;
    assert_eq!(client.send(request(Method::GET, "/", "")).await.status(), 500);
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn a_hangup_signal_reads_the_files_again() {
    let (_origin, resources) = echo().await;
    let first = resources.clone() + &redact_to("<OLD>");
    let waypoint = Waypoint::start_with(&first, &["--no-watch"]).await;
    waypoint.write(&(resources + &redact_to("<NEW>")));
    assert_eq!(mail(&waypoint).await, "<OLD>");

    waypoint.signal(Signal::HUP);

    waypoint.logged("snapshot=2").await;
    assert_eq!(mail(&waypoint).await, "<NEW>");
}

#[tokio::test]
async fn files_that_are_replaced_or_written_in_place_are_noticed() {
    let (_origin, resources) = echo().await;
    let waypoint = Waypoint::start(&(resources.clone() + &redact_to("<OLD>"))).await;

    waypoint.write(&(resources.clone() + &redact_to("<RENAMED>")));
    waypoint.logged("snapshot=2").await;
    assert_eq!(mail(&waypoint).await, "<RENAMED>");

    let file = waypoint.dir.path().join("resources/all.yaml");
    std::fs::write(&file, resources.clone() + &redact_to("<WRITTEN>")).unwrap();
    waypoint.logged("snapshot=3").await;
    assert_eq!(mail(&waypoint).await, "<WRITTEN>");

    // A second file, and a folder with a third.
    let folder = waypoint.dir.path().join("resources/more");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("redact.yaml"), redact_to("<MOVED>")).unwrap();
    waypoint.write(&resources);
    waypoint.logged_so(|log| log.matches("result=\"applied\"").count() >= 3).await;
    while mail(&waypoint).await != "<MOVED>" {
        tokio::task::yield_now().await;
    }
}

/// One version of a mounted ConfigMap, as a kubelet lays it out.
fn version(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir(folder.join(name)).unwrap();
    std::fs::write(folder.join(name).join("all.yaml"), text).unwrap();
    std::os::unix::fs::symlink(name, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_noticed() {
    // Named as a folder, and as the file in it.
    for named in ["mounted", "mounted/all.yaml"] {
        swapped(named).await;
    }
}

async fn swapped(named: &str) {
    let (_origin, resources) = echo().await;
    let dir = tempfile::tempdir().unwrap();
    let (folder, named) = (dir.path().join("mounted"), dir.path().join(named));
    std::fs::create_dir(&folder).unwrap();
    version(&folder, "..2024_1", &(resources.clone() + &redact_to("<ONE>")));
    std::os::unix::fs::symlink("..data/all.yaml", folder.join("all.yaml")).unwrap();
    let waypoint = Waypoint::spawn_in(dir, &named, &[]);
    waypoint.logged("serving").await;
    assert_eq!(mail(&waypoint).await, "<ONE>");

    version(&folder, "..2024_2", &(resources.clone() + &redact_to("<TWO>")));
    waypoint.logged("snapshot=2").await;
    assert_eq!(mail(&waypoint).await, "<TWO>");

    std::fs::remove_dir_all(folder.join("..2024_1")).unwrap();
    version(&folder, "..2024_3", &(resources + &redact_to("<THREE>")));
    waypoint.logged("snapshot=3").await;
    assert_eq!(mail(&waypoint).await, "<THREE>");
}

/// The same resources with a second port, 8443.
fn with_second_port(resources: &str) -> String {
    let one = "{name: http, port: 8080, protocol: HTTP}";
    resources.replace(one, &format!("{one}, {{name: more, port: 8443, protocol: HTTP}}"))
}

#[tokio::test]
async fn a_port_that_is_in_use_is_told_and_bound_by_the_next_reload_after_it_is_free() {
    let (_origin, resources) = echo().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let bind = format!("gateway/default/8443={address}");
    let waypoint = Waypoint::start_with(&resources, &["--no-watch", "--bind", &bind]).await;

    let report = waypoint.reload(&with_second_port(&resources)).await;
    assert_eq!(report["result"], "refused", "{report:#}");
    assert!(messages(&report).contains("gateway/default/8443 cannot listen"), "{report:#}");
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);

    drop(taken);
    let answer = waypoint.admin(Method::POST, "/reload").await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    assert_eq!(get(address, "/").await.status(), 200);
}

#[tokio::test]
async fn a_new_listener_appears_and_a_removed_one_drains() {
    let origin = Holding::start("{}").await;
    let one = gateway_to("origin") + &service("origin", "http", origin.address);
    let both = with_second_port(&one);
    let waypoint = Waypoint::start(&one).await;

    waypoint.reload(&both).await;
    let added = waypoint.address("gateway/default/8443");
    let mut client = Kept::http1(added).await;
    let asked = tokio::spawn(async move {
        let answer = client.send(request(Method::GET, "/", "")).await;
        (client, answer)
    });
    origin.arrived().await;
    waypoint.reload(&one).await;

    let refused = async {
        while TcpStream::connect(added).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, refused).await.expect("it stops accepting");
    origin.release(2);
    let (_client, answer) = asked.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["connection"], "close");
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);
}

/// A Secret with a certificate for its own name, and the certificate.
fn secret(name: &str) -> (String, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let indented =
        |pem: String| pem.lines().map(|line| format!("\n    {line}")).collect::<String>();
    let (chain, key) = (indented(made.cert.pem()), indented(made.signing_key.serialize_pem()));
    let name = name.split('.').next().unwrap();
    let text = format!(
        "
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |{chain}
  tls.key: |{key}
"
    );
    (text, made.cert.der().clone())
}

/// A Gateway whose one port has a certificate for each of two names.
fn https_gateway(origin: &Origin) -> String {
    let listener = |name: &str| {
        let tls = format!("tls: {{certificateRefs: [{{name: {name}}}]}}");
        format!("{{name: {name}, port: 8443, protocol: HTTPS, hostname: {name}.test, {tls}}}")
    };
    let listeners = format!("{}, {}", listener("one"), listener("two"));
    gateway_to("origin").replace("{name: http, port: 8080, protocol: HTTP}", &listeners)
        + &service("origin", "http", origin.address)
}

/// The certificate that a handshake for this name is given.
async fn certificate(address: SocketAddr, name: &'static str) -> Option<CertificateDer<'static>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(name).unwrap(), stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].clone().into_owned())
}

#[tokio::test]
async fn secrets_are_replaced_refused_and_removed_each_by_itself() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let gateway = https_gateway(&origin);
    let ((one, one_is), (two, two_is)) = (secret("one.test"), secret("two.test"));
    let waypoint = Waypoint::start(&format!("{gateway}{one}{two}")).await;
    let address = waypoint.address("gateway/default/8443");
    assert_eq!(certificate(address, "one.test").await, Some(one_is.clone()));
    assert_eq!(certificate(address, "two.test").await, Some(two_is.clone()));

    // The first is rotated while the second is broken: its key belongs to another certificate.
    let (rotated, rotated_is) = secret("one.test");
    let (key, other) = (two.find("  tls.key").unwrap(), secret("two.test").0);
    let broken = format!("{}{}", &two[..key], &other[other.find("  tls.key").unwrap()..]);
    let report = waypoint.reload(&format!("{gateway}{rotated}{broken}")).await;
    assert_eq!(report["result"], "refused", "{report:#}");
    assert_eq!(report["problems"][0]["resource"]["name"], "two", "{report:#}");
    assert!(!report.to_string().contains("PRIVATE KEY"), "{report:#}");
    assert_eq!(certificate(address, "one.test").await, Some(rotated_is));
    assert_eq!(certificate(address, "two.test").await, Some(two_is));

    // Removed: no handshake, though the second is still broken.
    waypoint.reload(&format!("{gateway}{broken}")).await;
    assert_eq!(certificate(address, "one.test").await, None);
    waypoint.reload(&format!("{gateway}{one}")).await;
    assert_eq!(certificate(address, "one.test").await, Some(one_is));
    assert_eq!(certificate(address, "two.test").await, None);
}

/// The test compares the certificates itself.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_reload_of_unchanged_files_makes_no_snapshot() {
    let (_origin, resources) = echo().await;
    let resources = resources + &redact_to("<EMAIL>");
    let waypoint = Waypoint::start_with(&resources, &["--no-watch"]).await;

    for _ in 0..3 {
        let report = waypoint.reload(&resources).await;
        assert_eq!(
            (report["result"].as_str(), report["snapshot"].as_u64()),
            (Some("unchanged"), Some(1))
        );
    }

    assert_eq!(waypoint.series("waypoint_reloads_total{result=\"unchanged\"}").await, Some(3));
    assert_eq!(waypoint.filter(REDACT).await["generation"], 1);
}
