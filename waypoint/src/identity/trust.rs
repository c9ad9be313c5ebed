//! Which client certificates a port takes, as its Gateway says.
//!
//! Fails closed: without an authority that can be read no certificate is right.

mod source;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, OtherError,
    SignatureScheme, client::danger::HandshakeSignatureValid,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use waypoint_policies::{ClientValidation, ResourceKey, ValidationMode};

use self::source::Source;
pub use self::source::TrustProblem;
use super::{CertificateFault, PeerCertificate};

/// Whom a port trusts to issue client certificates, and what becomes of clients without one.
#[derive(Debug)]
pub struct ClientTrust {
    mode: ValidationMode,
    /// None: there is nobody to trust.
    sources: Vec<Source>,
    /// The names of all authorities.
    names: Vec<DistinguishedName>,
    /// Checks that whoever presents a certificate has its key.
    provider: Arc<CryptoProvider>,
}

// === impl ClientTrust ===

impl ClientTrust {
    /// Reads the authorities and their revocation lists. What cannot be read is told: authorities are
    /// then not trusted, in the place of lists come those of `former`.
    pub fn build(
        settings: &ClientValidation,
        former: Option<&Self>,
        provider: &Arc<CryptoProvider>,
    ) -> (Self, Vec<TrustProblem>) {
        let (mut sources, mut problems) = (Vec::new(), Vec::new());
        for wanted in &settings.authorities {
            let former = former.and_then(|former| former.source(&wanted.source));
            let (source, problem) = Source::read(wanted, former, provider);
            sources.extend(source);
            problems.extend(problem);
        }
        let names = sources.iter().flat_map(Source::names).cloned().collect();
        let (mode, provider) = (settings.mode, Arc::clone(provider));
        (Self { mode, sources, names, provider }, problems)
    }

    fn source(&self, key: &ResourceKey) -> Option<&Source> {
        self.sources.iter().find(|source| source.is_of(key))
    }

    /// Whether it says the same as another one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.mode == other.mode
            && self.sources.len() == other.sources.len()
            && self.sources.iter().zip(&other.sources).all(|(one, two)| one.is_same(two))
    }

    /// Whether a client without a right certificate is refused.
    pub fn is_mandatory(&self) -> bool {
        self.mode == ValidationMode::AllowValidOnly
    }

    /// Whether there is nobody to trust, so that no certificate is right.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
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

    /// Every source that knows the issuer must agree: what one of them has revoked is not right
    /// because another one has no list.
    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let mut is_known = false;
        for source in &self.sources {
            if let Some(verdict) = source.verify(leaf, intermediates, now) {
                verdict?;
                is_known = true;
            }
        }
        if is_known { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }
}

/// Why a handshake's certificate was refused, as far as an operator can act on it.
pub(crate) fn fault(error: &TlsError) -> CertificateFault {
    use CertificateFault as Fault;
    let error = match error {
        TlsError::NoCertificatesPresented => return Fault::Missing,
        TlsError::InvalidCertificate(error) => error,
        TlsError::InvalidCertRevocationList(_) => return Fault::RevocationListWrong,
        _ => return Fault::Malformed,
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Fault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Fault::NotYetValid
        }
        CertificateError::UnknownIssuer => Fault::Untrusted,
        CertificateError::Revoked => Fault::Revoked,
        CertificateError::UnknownRevocationStatus => Fault::RevocationListMissing,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => Fault::RevocationListExpired,
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
        &self.names
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
