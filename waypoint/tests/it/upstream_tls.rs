//! BackendTLSPolicy: TLS towards endpoints with real certificates, replaced while it serves.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Waypoint, gateway_to, get, request, send_http1, service};
use crate::origin::listener;

/// An authority, and the configuration of a server that has a certificate of it.
pub(crate) struct Issued {
    pub(crate) ca_pem: String,
    pub(crate) server: Arc<ServerConfig>,
}

pub(crate) fn issued(host: &str) -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Issued { ca_pem: ca.pem(), server: Arc::new(server) }
}

/// An origin behind TLS that answers every request with its name, and never anything in plain text.
async fn origin(issued: &Issued, name: &'static str) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::clone(&issued.server));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let length = name.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// A policy for the Service `origin` that trusts what the ConfigMap holds.
pub(crate) fn policy(hostname: &str, ca_pem: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: origin}}
spec:
  targetRefs: [{{group: '', kind: Service, name: origin}}]
  validation:
    hostname: {hostname}
    caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca}}
data:
  ca.crt: |
    {}
",
        ca_pem.trim_end().replace('\n', "\n    ")
    )
}

async fn status(waypoint: &Waypoint) -> StatusCode {
    get(waypoint.http(), "/").await.status()
}

#[tokio::test]
async fn requests_reach_a_service_over_tls_and_a_wrong_certificate_is_told() {
    let right = issued("origin.test");
    let address = origin(&right, "origin").await;
    let base = gateway_to("origin") + &service("origin", "http", address);
    let waypoint = Waypoint::start(&(base.clone() + &policy("origin.test", &right.ca_pem))).await;
    let answer = send_http1(waypoint.http(), request(Method::GET, "/", "")).await;
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, &b"origin"[..]));
    let endpoints = waypoint.page("/endpoints").await;
    assert_eq!(endpoints[0]["tls"], true, "{endpoints:#}");

    waypoint.reload(&(base.clone() + &policy("other.test", &right.ca_pem))).await;
    assert_eq!(status(&waypoint).await, 503, "connections of the former policy are not used");
    let details = "upstream_tls_name_mismatch";
    let record = waypoint.record(|record| record["response_code_details"] == details).await;
    assert_eq!(record["response_flags"], "UF");
    let series = "waypoint_upstream_tls_failures_total{reason=\"name_mismatch\"}";
    assert_eq!(waypoint.series(series).await, Some(1));
    waypoint.logged("name_mismatch").await;
}

#[tokio::test]
async fn a_rotated_authority_takes_effect_for_new_connections() {
    let (old, new) = (issued("origin.test"), issued("origin.test"));
    let (before, after) = (origin(&old, "before").await, origin(&new, "after").await);
    let base = |address| gateway_to("origin") + &service("origin", "http", address);
    let old_trust = policy("origin.test", &old.ca_pem);
    let waypoint = Waypoint::start(&(base(before) + &old_trust)).await;
    assert_eq!(get(waypoint.http(), "/").await.body().as_ref(), b"before");

    waypoint.reload(&(base(after) + &old_trust)).await;
    assert_eq!(status(&waypoint).await, 503);
    waypoint.reload(&(base(after) + &policy("origin.test", &new.ca_pem))).await;
    assert_eq!(get(waypoint.http(), "/").await.body().as_ref(), b"after");
    // Both at once, as while a rotation runs.
    let both = policy("origin.test", &[old.ca_pem.as_str(), new.ca_pem.as_str()].concat());
    for (address, name) in [(before, "before"), (after, "after")] {
        waypoint.reload(&(base(address) + &both)).await;
        assert_eq!(get(waypoint.http(), "/").await.body().as_ref(), name.as_bytes());
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_used_stops_its_service_and_no_other() {
    let right = issued("origin.test");
    let address = origin(&right, "origin").await;
    let base = gateway_to("origin") + &service("origin", "http", address);
    let good = policy("origin.test", &right.ca_pem);
    let waypoint = Waypoint::start(&(base.clone() + &good)).await;
    assert_eq!(status(&waypoint).await, 200);

    // Refused: its last good version goes on.
    let refused = good.replace("validation:", "validaton:");
    let report = waypoint.reload(&(base.clone() + &refused)).await;
    assert_eq!(report["result"], "refused");
    assert_eq!(status(&waypoint).await, 200);

    // The certificates are gone, or are none: there is nobody to trust.
    let (gone, _) = good.split_once("---\napiVersion: v1\nkind: ConfigMap").unwrap();
    let no_pem = policy("origin.test", "-----BEGIN CERTIFICATE-----\nAAAA");
    let no_certificate = no_pem.replace("AAAA", "AAAA\n    -----END CERTIFICATE-----");
    for bad in [gone, &no_pem, &no_certificate] {
        let report = waypoint.reload(&(base.clone() + bad)).await;
        assert_eq!(report["result"], "refused", "{report:#}");
        let answer = get(waypoint.http(), "/").await;
        assert_eq!(answer.status(), 503, "{bad}");
        let details = "upstream_tls_refused";
        waypoint.record(|record| record["response_code_details"] == details).await;
        waypoint.reload(&(base.clone() + &good)).await;
        assert_eq!(status(&waypoint).await, 200);
    }
}

#[tokio::test]
async fn system_means_whom_the_machine_trusts() {
    let right = issued("origin.test");
    let address = origin(&right, "origin").await;
    let dir = tempfile::tempdir().unwrap();
    let (trusted, other) = (dir.path().join("trusted.pem"), dir.path().join("other.pem"));
    std::fs::write(&trusted, &right.ca_pem).unwrap();
    std::fs::write(&other, issued("origin.test").ca_pem).unwrap();
    let policy = policy("origin.test", &right.ca_pem).replace(
        "caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]",
        "wellKnownCACertificates: System",
    );
    let resources = gateway_to("origin") + &service("origin", "http", address) + &policy;
    for (roots, want) in [(&trusted, 200), (&other, 503)] {
        let waypoint = Waypoint::start_where(&resources, &[("SSL_CERT_FILE", roots)]).await;
        assert_eq!(status(&waypoint).await, want, "{}", roots.display());
    }
}
