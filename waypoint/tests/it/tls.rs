//! HTTPS listeners: certificates from Secrets, by server name, replaced while connections live.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Waypoint, route_of, rule_to, service};
use crate::origin::{Origin, Speaks};
use crate::streams::request_with;

/// A certificate with its key, as a Secret holds them.
pub(crate) struct Made {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) secret: String,
}

/// A new certificate for `host`, in the Secret `name`.
pub(crate) fn made(name: &str, host: &str) -> Made {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate");
    let (chain, key) =
        (STANDARD.encode(made.cert.pem()), STANDARD.encode(made.signing_key.serialize_pem()));
    let secret = format!(
        "
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
data: {{tls.crt: {chain}, tls.key: {key}}}
"
    );
    Made { der: made.cert.der().clone(), secret }
}

/// A Gateway with a listener for each host, whose certificate is in the Secret of that name.
pub(crate) fn gateway(hosts: &[(&str, &str)], origin: &Origin) -> String {
    let listeners: Vec<String> = hosts
        .iter()
        .map(|(secret, host)| {
            format!(
                "{{name: {secret}, port: 8443, protocol: HTTPS, hostname: '{host}', \
                 tls: {{certificateRefs: [{{name: {secret}}}]}}}}"
            )
        })
        .collect();
    let gateway = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec: {{gatewayClassName: waypoint, listeners: [{}]}}
",
        listeners.join(", ")
    );
    gateway + &route_of(&rule_to("origin")) + &service("origin", "http", origin.address)
}

/// A handshake that trusts these certificates and offers these protocols.
async fn handshake(
    waypoint: &Waypoint,
    trusted: &[&Made],
    host: &str,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for made in trusted {
        roots.add(made.der.clone()).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(waypoint.address("gateway/default/8443")).await?;
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The certificate that the handshake showed.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

#[tokio::test]
async fn an_https_listener_speaks_the_protocol_that_was_settled_on() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let shop = made("shop", "shop.test");
    let resources = gateway(&[("shop", "shop.test")], &origin) + &shop.secret;
    let waypoint = Waypoint::start(&resources).await;
    for (offered, want) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = handshake(&waypoint, &[&shop], "shop.test", offered).await.unwrap();
        let settled = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(settled.as_deref(), want.map(str::as_bytes), "{offered:?}");
        let mut request = request_with(Method::GET, "/", &[("host", "shop.test")]);
        let io = TokioIo::new(stream);
        let answer = if want == Some("h2") {
            request.headers_mut().remove("host");
            *request.uri_mut() = "https://shop.test/".parse().unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        assert_eq!(answer.unwrap().status(), 200);
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.headers()["x-forwarded-proto"], "https");
    }
    let record = waypoint.record(|record| record["requested_server_name"] == "shop.test").await;
    assert_eq!(record["response_code"], 200);
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_ends_the_handshake() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let shop = made("shop", "shop.test");
    let resources = gateway(&[("shop", "shop.test")], &origin) + &shop.secret;
    let waypoint = Waypoint::start(&resources).await;
    assert!(handshake(&waypoint, &[&shop], "shop.test", &["spdy/3"]).await.is_err());
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let (shop, bank) = (made("shop", "shop.test"), made("bank", "*.bank.test"));
    let hosts = [("shop", "shop.test"), ("bank", "*.bank.test")];
    let resources = gateway(&hosts, &origin) + &shop.secret + &bank.secret;
    let waypoint = Waypoint::start(&resources).await;
    let trusted = [&shop, &bank];

    for (host, want) in [("shop.test", &shop), ("www.bank.test", &bank), ("SHOP.test", &shop)] {
        let stream = handshake(&waypoint, &trusted, host, &[]).await.unwrap();
        assert_eq!(shown(&stream), want.der, "{host}");
    }
    assert!(handshake(&waypoint, &trusted, "other.test", &[]).await.is_err(), "nobody's name");
}

#[tokio::test]
async fn a_request_for_another_listener_than_the_handshake_chose_is_misdirected() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let (shop, bank) = (made("shop", "shop.test"), made("bank", "bank.test"));
    let hosts = [("shop", "shop.test"), ("bank", "bank.test")];
    let resources = gateway(&hosts, &origin) + &shop.secret + &bank.secret;
    let waypoint = Waypoint::start(&resources).await;
    let stream = handshake(&waypoint, &[&shop], "shop.test", &[]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    let request = request_with(Method::GET, "/", &[("host", "bank.test")]);
    assert_eq!(sender.send_request(request).await.unwrap().status(), 421);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_replaced_secret_is_shown_to_new_handshakes_and_old_connections_go_on() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let (old, new) = (made("shop", "shop.test"), made("shop", "shop.test"));
    let listeners = gateway(&[("shop", "shop.test")], &origin);
    let waypoint = Waypoint::start(&(listeners.clone() + &old.secret)).await;
    let stream = handshake(&waypoint, &[&old], "shop.test", &["http/1.1"]).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        sender.ready().await.unwrap();
        let request = request_with(Method::GET, "/", &[("host", "shop.test")]);
        let answer = sender.send_request(request).await.unwrap();
        (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(ask().await, (200, Bytes::from("origin")));

    waypoint.reload(&(listeners.clone() + &new.secret)).await;

    let stream = handshake(&waypoint, &[&old, &new], "shop.test", &[]).await.unwrap();
    assert_eq!(shown(&stream), new.der);
    assert_eq!(ask().await, (200, Bytes::from("origin")), "the old connection goes on");

    // A Secret that is gone acts at once: there is no last good key.
    waypoint.reload(&listeners).await;
    assert!(handshake(&waypoint, &[&old, &new], "shop.test", &[]).await.is_err());
}
