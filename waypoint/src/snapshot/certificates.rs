//! Certificates of HTTPS entrances, chosen by server name from the current snapshot.
//!
//! The listener's terms hold a [`SnapshotCertificates`], which reads the snapshot at each handshake:
//! a rotated Secret is used by the next handshake, and connections that live keep theirs. What is
//! demanded of clients is read the same way, by [`SnapshotTls`].

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use waypoint_policies::{Certificate, Hostname, Tls};

use super::Current;
use crate::listener::{TlsSource, TlsTerms};

/// The certificates of one entrance, ready for handshakes.
#[derive(Debug)]
pub struct CertificateStore {
    /// Most specific name first, as the model orders them.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    host: Option<Hostname>,
    /// `NAMESPACE/NAME` of where it came from.
    secret: String,
    key: Arc<CertifiedKey>,
}

/// Why a Secret's certificate cannot be used. Never shows any of its bytes.
#[derive(Debug, Error)]
pub enum CertificateProblem {
    /// `tls.crt` is not a PEM certificate chain.
    #[error("Secret {secret}: tls.crt holds no PEM certificate chain")]
    Chain { secret: String },
    /// `tls.key` is not a PEM private key.
    #[error("Secret {secret}: tls.key holds no PEM private key")]
    Key { secret: String },
    /// The key does not belong to the certificate, or its kind is not supported.
    #[error("Secret {secret}: tls.key does not fit tls.crt")]
    Mismatch { secret: String },
}

impl CertificateProblem {
    /// `NAMESPACE/NAME` of the Secret.
    pub fn secret(&self) -> &str {
        match self {
            Self::Chain { secret } | Self::Key { secret } | Self::Mismatch { secret } => secret,
        }
    }
}

impl CertificateStore {
    /// Reads every certificate of an entrance. A Secret that cannot be used is told, and what
    /// `former` made of it serves on; it holds up no other one's rotation or removal.
    pub fn build(tls: &Tls, former: Option<&Self>) -> (Self, Vec<CertificateProblem>) {
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for (host, certificate) in &tls.certificates {
            match certified_key(certificate) {
                Ok(key) => {
                    let (host, secret) = (host.clone(), certificate.secret.clone());
                    entries.push(Entry { host, secret, key });
                }
                Err(problem) => {
                    let same =
                        |entry: &&Entry| entry.host == *host && entry.secret == certificate.secret;
                    entries.extend(
                        former.and_then(|former| former.entries.iter().find(same).cloned()),
                    );
                    problems.push(problem);
                }
            }
        }
        (Self { entries }, problems)
    }

    fn resolve(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = server_name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        self.entries
            .iter()
            .find(|entry| matches(entry.host.as_ref(), name.as_deref()))
            .map(|entry| Arc::clone(&entry.key))
    }
}

/// A listener without a hostname takes any server name, and clients that send none.
fn matches(host: Option<&Hostname>, name: Option<&str>) -> bool {
    match (host, name) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(Hostname::Exact(host)), Some(name)) => host == name,
        (Some(Hostname::Wildcard(suffix)), Some(name)) => {
            name.strip_suffix(suffix.as_str()).is_some_and(|label| label.ends_with('.'))
        }
    }
}

fn certified_key(certificate: &Certificate) -> Result<Arc<CertifiedKey>, CertificateProblem> {
    let secret = || certificate.secret.clone();
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateProblem::Chain { secret: secret() })?;
    if chain.is_empty() {
        return Err(CertificateProblem::Chain { secret: secret() });
    }
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())
        .map_err(|_| CertificateProblem::Key { secret: secret() })?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| CertificateProblem::Key { secret: secret() })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(CertificateProblem::Mismatch { secret: secret() }),
    }
}

/// The terms of the snapshot of the moment.
pub struct SnapshotTls {
    current: Arc<Current>,
    entrance: Arc<str>,
}

impl SnapshotTls {
    /// Reads `entrance`'s terms from `current` at each handshake.
    pub fn new(current: Arc<Current>, entrance: Arc<str>) -> Self {
        Self { current, entrance }
    }
}

impl TlsSource for SnapshotTls {
    fn terms(&self) -> Option<Arc<TlsTerms>> {
        self.current.load().entrances.get(&self.entrance)?.tls.clone()
    }
}

/// Chooses a certificate from the snapshot of the moment.
pub struct SnapshotCertificates {
    current: Arc<Current>,
    entrance: Arc<str>,
}

impl SnapshotCertificates {
    /// Reads `entrance`'s certificates from `current` at each handshake.
    pub fn new(current: Arc<Current>, entrance: Arc<str>) -> Self {
        Self { current, entrance }
    }
}

impl std::fmt::Debug for SnapshotCertificates {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("SnapshotCertificates").field(&self.entrance).finish()
    }
}

impl ResolvesServerCert for SnapshotCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.current.load();
        let store = snapshot.entrances.get(&self.entrance)?.certificates.as_ref()?;
        store.resolve(hello.server_name())
    }
}
