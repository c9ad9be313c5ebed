//! Authorities that issue certificates, and origins behind TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use waypoint_policies::{BackendTls, CaCertificates, ResourceKey, SubjectAltName, Trust};

use super::super::Bench;

pub(super) const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Issues certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// What a policy says that trusts this authority.
    pub(super) fn policy(&self, hostname: &str, names: &[SubjectAltName]) -> BackendTls {
        let pem = Arc::from(self.0.pem());
        BackendTls {
            policy: ResourceKey {
                kind: "BackendTLSPolicy".into(),
                namespace: "ns".into(),
                name: "policy".into(),
            },
            hostname: hostname.into(),
            subject_alt_names: names.to_vec(),
            trust: Trust::Certificates(vec![CaCertificates { config_map: "ns/ca".into(), pem }]),
        }
    }

    /// A server's configuration with a certificate for these names.
    pub(super) fn server(
        &self,
        names: &[&str],
        alpn: &[&str],
        years: (i32, i32),
    ) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.contains("://") {
                true => SanType::URI((*name).try_into().expect("a URI")),
                false => SanType::DnsName((*name).try_into().expect("a name")),
            })
            .collect();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

pub(super) const NOW: (i32, i32) = (2000, 2999);

/// What an origin saw of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sni: Option<String>,
    pub(super) alpn: Option<Vec<u8>>,
    pub(super) resumed: bool,
}

/// An origin behind TLS, and the handshakes that it has made.
pub(super) struct TlsOrigin {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
}

impl TlsOrigin {
    pub(super) async fn start<F>(
        bench: &Bench,
        config: Arc<ServerConfig>,
        script: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (tasks, noted) = (bench.tasks.clone(), Arc::clone(&seen));
        bench.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let accept = TlsAcceptor::from(Arc::clone(&config)).accept(stream);
                let Ok(stream) = accept.await else { continue };
                let (_, session) = stream.get_ref();
                let handshake = session.handshake_kind();
                noted.lock().push(Seen {
                    sni: session.server_name().map(str::to_owned),
                    alpn: session.alpn_protocol().map(<[u8]>::to_vec),
                    resumed: handshake == Some(rustls::HandshakeKind::Resumed),
                });
                tasks.spawn(script(stream));
            }
        });
        Self { address, seen }
    }

    /// Answers every request with "hello", and closes after each if told to.
    pub(super) async fn hello(bench: &Bench, config: Arc<ServerConfig>, close: bool) -> Self {
        Self::start(bench, config, move |mut stream| async move {
            while head(&mut stream).await.is_some() {
                let _ = stream.write_all(HELLO.as_bytes()).await;
                if close {
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        })
        .await
    }

    pub(super) fn handshakes(&self) -> usize {
        self.seen.lock().len()
    }
}

/// Reads a request's head, byte by byte so that nothing behind it is lost.
pub(super) async fn head(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
