//! TLS towards endpoints: whom to trust, which name to expect, and why a handshake failed.
//!
//! Takes what a BackendTLSPolicy says, gives an [`UpstreamTls`]: a client configuration with its
//! own store of sessions. Two policies that say the same share one; one that says something else
//! is another identity, and the pools of endpoints are keyed by it, so that no connection outlives
//! the trust under which it was made.

mod failure;
mod verify;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use waypoint_policies::{BackendTls, CaCertificates, Hostname, SubjectAltName, Trust};

use super::Protocol;
use crate::codec::Socket;
pub use failure::TlsFailure;

/// Names what connections were made under.
pub(super) type Identity = [u8; 32];

/// How connections of a service are made and checked.
pub struct UpstreamTls {
    pub(super) identity: Identity,
    connector: TlsConnector,
    name: ServerName<'static>,
    /// What must have been settled on (ALPN); `None`: what an endpoint without ALPN speaks, too.
    demanded: Option<&'static [u8]>,
}

/// Why a policy's settings cannot be used. Never shows what a ConfigMap holds.
#[derive(Debug, Error)]
pub enum TlsSettingsError {
    /// What stands under `ca.crt` is no PEM, or no certificate that can be a trust anchor.
    #[error("ConfigMap {config_map}: ca.crt holds no usable certificate")]
    Certificates { config_map: String },
    /// The machine trusts nobody.
    #[error("the machine has no certificates that it trusts")]
    NoSystemRoots,
    /// The hostname cannot be sent.
    #[error("`{hostname}` cannot be a server name")]
    Hostname { hostname: String },
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// Reads the certificates; what it gives is the same for the same settings.
    pub(super) fn new(settings: &BackendTls, protocol: Protocol) -> Result<Self, TlsSettingsError> {
        let roots = match &settings.trust {
            Trust::System => system_roots()?,
            Trust::Certificates(all) => roots_of(all)?,
        };
        let hostname = settings.hostname.clone();
        let name = ServerName::try_from(hostname.clone())
            .map_err(|_| TlsSettingsError::Hostname { hostname })?;
        let (alpn, demanded) = match protocol {
            Protocol::Http1 => (&b"http/1.1"[..], None),
            Protocol::Http2 => (&b"h2"[..], Some(&b"h2"[..])),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = verify::Verifier::new(roots, settings.subject_alt_names.clone(), &provider);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .dangerous() // Only in name: the verifier checks chain, time and names.
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let identity = identity(settings, protocol);
        Ok(Self { identity, connector, name, demanded })
    }

    /// Makes TLS of a connection, within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        limit: Duration,
    ) -> Result<TlsStream<Socket>, TlsFailure> {
        let handshake = self.connector.connect(self.name.clone(), Socket::new(stream));
        let stream = timeout(limit, handshake)
            .await
            .map_err(|_| TlsFailure::Timeout)?
            .map_err(|error| TlsFailure::of(&error))?;
        let settled = stream.get_ref().1.alpn_protocol();
        if self.demanded.is_some() && settled != self.demanded {
            return Err(TlsFailure::Alpn);
        }
        Ok(stream)
    }
}

/// The same for the same settings, whatever the policy's name.
pub(super) fn identity(settings: &BackendTls, protocol: Protocol) -> Identity {
    let mut digest = Sha256::new();
    let mut put = |kind: u8, text: &str| {
        digest.update([kind]);
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    };
    put(protocol as u8, &settings.hostname);
    for name in &settings.subject_alt_names {
        match name {
            SubjectAltName::Dns(Hostname::Exact(name)) => put(2, name),
            SubjectAltName::Dns(Hostname::Wildcard(name)) => put(3, name),
            SubjectAltName::Uri(uri) => put(4, uri),
        }
    }
    match &settings.trust {
        Trust::System => put(5, ""),
        Trust::Certificates(all) => all.iter().for_each(|one| put(6, &one.pem)),
    }
    digest.finalize().into()
}

/// Whom these ConfigMaps trust. All that stands there must be readable: half a rotation is none.
fn roots_of(all: &[CaCertificates]) -> Result<Arc<RootCertStore>, TlsSettingsError> {
    let mut roots = RootCertStore::empty();
    for one in all {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(one.pem.as_bytes()).collect();
        let found = read.unwrap_or_default();
        let usable = !found.is_empty() && found.into_iter().all(|der| roots.add(der).is_ok());
        if !usable {
            let config_map = one.config_map.clone();
            return Err(TlsSettingsError::Certificates { config_map });
        }
    }
    Ok(Arc::new(roots))
}

/// Whom the machine trusts; read once.
fn system_roots() -> Result<Arc<RootCertStore>, TlsSettingsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(TlsSettingsError::NoSystemRoots);
    }
    Ok(Arc::clone(roots))
}
