//! One ConfigMap or Secret of authorities: whose certificates are right by it, and which of them are
//! revoked.
//!
//! Where there are lists, every certificate of a chain must be on record with one that is in force: by
//! its issuer, signed by it, not past its next update. Where there are none, nothing is looked up.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, DistinguishedName, Error as TlsError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use thiserror::Error;
use waypoint_policies::{ClientAuthority, ResourceKey};

/// What stands under `ca.crt` or `ca.crl` cannot be used. Never shows any of it.
#[derive(Debug, Error)]
pub enum TrustProblem {
    /// `ca.crt`: this source is trusted no longer.
    #[error("{0}: ca.crt holds no certificate that can be an authority's")]
    Authorities(ResourceKey),
    /// `ca.crl`, and what it said before can be read.
    #[error("{0}: ca.crl holds no revocation list that can be read; the former one stays in force")]
    Revocations(ResourceKey),
    /// `ca.crl`, and there is none from before: this source is not trusted.
    #[error(
        "{0}: ca.crl holds no revocation list that can be read; its authorities are not trusted"
    )]
    FirstRevocations(ResourceKey),
}

/// The authorities of one ConfigMap or Secret.
#[derive(Debug)]
pub(super) struct Source {
    key: ResourceKey,
    authorities: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

// === impl TrustProblem ===

impl TrustProblem {
    /// Where it stands within the ConfigMap or the Secret.
    pub fn place(&self) -> &'static str {
        match self {
            Self::Authorities(_) => "data/ca.crt",
            Self::Revocations(_) | Self::FirstRevocations(_) => "data/ca.crl",
        }
    }

    /// The ConfigMap or the Secret.
    pub fn source(&self) -> &ResourceKey {
        match self {
            Self::Authorities(key) | Self::Revocations(key) | Self::FirstRevocations(key) => key,
        }
    }
}

// === impl Source ===

impl Source {
    /// Reads what stands there. Authorities that cannot be read are not trusted: they have no last
    /// good version (decision 0018). In the place of lists that cannot be read come those of `former`:
    /// fewer certificates must not be revoked for a mistake.
    pub(super) fn read(
        wanted: &ClientAuthority,
        former: Option<&Self>,
        provider: &Arc<CryptoProvider>,
    ) -> (Option<Self>, Option<TrustProblem>) {
        let key = || wanted.source.clone();
        let Some(authorities) = authorities(&wanted.pem) else {
            return (None, Some(TrustProblem::Authorities(key())));
        };
        let made = |lists| Self::new(key(), authorities.clone(), lists, provider);
        let Some(text) = wanted.revocations.as_deref() else {
            return (made(Vec::new()), None);
        };
        if let Some(source) = lists(text).and_then(made) {
            return (Some(source), None);
        }
        let former = former.filter(|former| !former.lists.is_empty());
        match former.and_then(|former| made(former.lists.clone())) {
            Some(source) => (Some(source), Some(TrustProblem::Revocations(key()))),
            None => (None, Some(TrustProblem::FirstRevocations(key()))),
        }
    }

    /// `None`: one of the lists cannot be read.
    fn new(
        key: ResourceKey,
        authorities: Vec<CertificateDer<'static>>,
        lists: Vec<CertificateRevocationListDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .with_crls(lists.iter().cloned())
                .enforce_revocation_expiration()
                .build()
                .ok()?;
        Some(Self { key, authorities, lists, verifier })
    }

    pub(super) fn is_of(&self, key: &ResourceKey) -> bool {
        self.key == *key
    }

    /// Whether it says the same as another one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.authorities == other.authorities && self.lists == other.lists
    }

    /// The names of the authorities, for clients that have several certificates.
    pub(super) fn names(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    /// Whether a chain is right by this source; `None`: none of its authorities has issued it.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<Result<(), TlsError>> {
        match self.verifier.verify_client_cert(leaf, intermediates, now) {
            Ok(_) => Some(Ok(())),
            // A wrong signature is that of another authority of the same name.
            Err(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// All that stands there must be readable: half a rotation is none.
fn authorities(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    let mut roots = RootCertStore::empty();
    let usable = !found.is_empty() && found.iter().all(|der| roots.add(der.clone()).is_ok());
    usable.then_some(found)
}

/// As far as PEM goes; what they say is read with the verifier.
fn lists(pem: &str) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .ok()?;
    (!found.is_empty()).then_some(found)
}
