//! Which client certificates a port takes, as its Gateway says.
//!
//! Fails closed: without an authority that can be read no certificate is right.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme, client::danger::HandshakeSignatureValid,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use waypoint_policies::{ClientAuthority, ClientValidation, ResourceKey, ValidationMode};

use super::{CertificateFault, PeerCertificate};

/// Whom a port trusts to issue client certificates, and what becomes of clients without one.
#[derive(Debug)]
pub struct ClientTrust {
    mode: ValidationMode,
    authorities: Vec<CertificateDer<'static>>,
    /// `None`: there is nobody to trust.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Checks that whoever presents a certificate has its key.
    provider: Arc<CryptoProvider>,
}

/// What stands under `ca.crt` cannot be used. Never shows any of it.
#[derive(Debug, Error)]
#[error("{source_key}: ca.crt holds no certificate that can be an authority's")]
pub struct TrustProblem {
    /// The ConfigMap or the Secret.
    pub source_key: ResourceKey,
}

// === impl ClientTrust ===

impl ClientTrust {
    /// Reads the authorities. One that cannot be read is told, and not trusted: there is no last good
    /// version (decision 0018).
    pub fn build(
        settings: &ClientValidation,
        provider: &Arc<CryptoProvider>,
    ) -> (Self, Vec<TrustProblem>) {
        let (mut authorities, mut problems) = (Vec::new(), Vec::new());
        for wanted in &settings.authorities {
            match readable(wanted) {
                Some(mut certificates) => authorities.append(&mut certificates),
                None => problems.push(TrustProblem { source_key: wanted.source.clone() }),
            }
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let verifier = builder.build().ok();
        let (mode, provider) = (settings.mode, Arc::clone(provider));
        (Self { mode, authorities, verifier, provider }, problems)
    }

    /// Whether it says the same as another one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.mode == other.mode && self.authorities == other.authorities
    }

    /// Whether a client without a right certificate is refused.
    pub fn is_mandatory(&self) -> bool {
        self.mode == ValidationMode::AllowValidOnly
    }

    /// Whether there is nobody to trust, so that no certificate is right.
    pub fn is_empty(&self) -> bool {
        self.verifier.is_none()
    }

    /// Verifies what a client presented, its own certificate first.
    ///
    /// # Errors
    ///
    /// Why it is not right.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerCertificate, CertificateFault> {
        let (leaf, intermediates) = chain.split_first().ok_or(CertificateFault::Missing)?;
        self.verify_chain(leaf, intermediates, now).map_err(|error| fault(&error))?;
        PeerCertificate::read(chain)
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let nobody = || TlsError::from(CertificateError::UnknownIssuer);
        let verifier = self.verifier.as_ref().ok_or_else(nobody)?;
        verifier.verify_client_cert(leaf, intermediates, now).map(|_| ())
    }
}

/// All that stands there must be readable: half a rotation is none.
fn readable(wanted: &ClientAuthority) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(wanted.pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    let mut roots = RootCertStore::empty();
    let usable = !found.is_empty() && found.iter().all(|der| roots.add(der.clone()).is_ok());
    usable.then_some(found)
}

/// Why a handshake's certificate was refused, as far as an operator can act on it.
pub(crate) fn fault(error: &TlsError) -> CertificateFault {
    use CertificateFault as Fault;
    let error = match error {
        TlsError::NoCertificatesPresented => return Fault::Missing,
        TlsError::InvalidCertificate(error) => error,
        _ => return Fault::Malformed,
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Fault::NotYetValid
        }
        // A wrong signature is that of another authority of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Fault::Untrusted,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Fault::Purpose
        }
        CertificateError::Other(OtherError(inner)) => {
            let ours = inner.downcast_ref::<Fault>().copied();
            let is_authority = matches!(
                inner.downcast_ref::<webpki::Error>(),
                Some(webpki::Error::CaUsedAsEndEntity)
            );
            ours.unwrap_or(if is_authority { Fault::Authority } else { Fault::Malformed })
        }
        _ => Fault::Malformed,
    }
}

/// In the handshake. Where a client without a right certificate is served, every certificate passes
/// here and is verified once the handshake is over.
impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        if self.is_mandatory() {
            self.verify_chain(end_entity, intermediates, now)?;
            PeerCertificate::read(std::slice::from_ref(end_entity)).map_err(|fault| {
                TlsError::from(CertificateError::Other(OtherError(Arc::new(fault))))
            })?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
