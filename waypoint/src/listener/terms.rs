//! What a TLS listener offers and demands: certificates by server name, and whom it trusts to issue
//! those of clients.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoClientAuth, ResolvesServerCert, danger::ClientCertVerifier};
use rustls_pki_types::UnixTime;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::identity::{ClientTrust, PeerCertificate};

/// Gives the terms of the moment; `None`: the entrance is not served in TLS any more.
pub trait TlsSource: Send + Sync {
    /// The terms for a handshake that begins now.
    fn terms(&self) -> Option<Arc<TlsTerms>>;
}

/// The terms of handshakes, until they are retired.
///
/// Sessions are resumed only under the terms that they were made under: each has a store of its own.
pub struct TlsTerms {
    pub(super) acceptor: TlsAcceptor,
    trust: Option<Arc<ClientTrust>>,
    retired: CancellationToken,
}

// === impl TlsTerms ===

impl TlsTerms {
    /// Certificates come from `resolver`, at each handshake; clients are asked for one if there is a
    /// `trust`.
    pub fn new(resolver: Arc<dyn ResolvesServerCert>, trust: Option<Arc<ClientTrust>>) -> Self {
        let clients: Arc<dyn ClientCertVerifier> = match &trust {
            Some(trust) => Arc::clone(trust) as _,
            None => Arc::new(NoClientAuth),
        };
        let mut config = ServerConfig::builder_with_provider(Self::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self { acceptor, trust, retired: CancellationToken::new() }
    }

    /// Whose cryptography is used.
    pub fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    /// Whom it trusts to issue certificates of clients, if these are asked for one.
    pub fn trust(&self) -> Option<&ClientTrust> {
        self.trust.as_deref()
    }

    /// Other terms are in force: connections made under these are looked at anew.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Resolves when other terms are in force.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it holds no state between polls.
    pub(super) async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Whether a connection that was made under other terms may go on under these: what was verified
    /// then must be right now, and what is demanded now must have been verified.
    pub(super) fn admit(&self, peer: Option<&PeerCertificate>) -> bool {
        match (self.trust(), peer) {
            (None, None) => true,
            // Nobody vouches for its name any longer.
            (None, Some(_)) => false,
            (Some(trust), None) => !trust.is_mandatory(),
            (Some(trust), Some(peer)) => trust.verify(&peer.chain, UnixTime::now()).is_ok(),
        }
    }
}

/// Terms that never change.
impl TlsSource for Arc<TlsTerms> {
    fn terms(&self) -> Option<Arc<TlsTerms>> {
        Some(Arc::clone(self))
    }
}
