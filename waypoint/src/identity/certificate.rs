//! What a client's certificate says of it, beyond what its chain proves.
//!
//! A chain is verified first (by rustls); then the leaf is read here, and refused where rustls is
//! laxer than SPIFFE demands.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519, Oid,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{distinguished_name, forwarded, spiffe};

/// The shortest RSA key, in bits.
const RSA_BITS_MIN: usize = 2048;

/// A client's certificate whose chain was verified.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    /// The client's verified name: its SPIFFE ID, if the certificate has one.
    pub principal: Option<Arc<str>>,
    /// The subject, as RFC 2253 writes it; may be empty.
    pub subject: String,
    /// The first URI among its names.
    pub uri_san: Option<String>,
    /// The first DNS name among its names.
    pub dns_san: Option<String>,
    /// SHA-256 of the certificate, in lower-case hexadecimal.
    pub sha256: String,
    /// From here on it proves nothing.
    pub not_after: SystemTime,
    /// What the client presented, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// `x-forwarded-client-cert`, as every request of the connection carries it.
    pub(super) forwarded: Option<HeaderValue>,
}

/// Why a client's certificate is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum CertificateFault {
    /// The client presented none, and had to.
    #[error("the client presented no certificate")]
    Missing,
    /// None of the authorities has issued it.
    #[error("no authority of this port has issued the certificate")]
    Untrusted,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// It may sign other certificates, or says that it is an authority.
    #[error("the certificate is one of an authority")]
    Authority,
    /// Its key may not sign, or is not meant for clients.
    #[error("the certificate is not meant for clients")]
    Purpose,
    /// RSA of less than 2048 bits, or a curve other than P-256, P-384 and Ed25519.
    #[error("the certificate's key is too weak or of an unknown kind")]
    WeakKey,
    /// It claims a SPIFFE ID and has none that is right, or more than one name of its kind.
    #[error("the certificate's SPIFFE ID is not right")]
    SpiffeId,
    /// Its authority has revoked it, or one that it was issued through.
    #[error("the certificate is revoked")]
    Revoked,
    /// There are revocation lists, and none of its issuer, or of one that it was issued through.
    #[error("there is no revocation list of the certificate's issuer")]
    RevocationListMissing,
    /// The list of its issuer is past its next update: what was revoked since is unknown.
    #[error("the revocation list of the certificate's issuer has expired")]
    RevocationListExpired,
    /// The list under its issuer's name is not signed by it, or the issuer may sign none.
    #[error("the revocation list of the certificate's issuer is wrong")]
    RevocationListWrong,
    /// It cannot be read.
    #[error("the certificate is malformed")]
    Malformed,
}

// === impl CertificateFault ===

impl CertificateFault {
    /// The reason as a metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "client_certificate_missing",
            Self::Untrusted => "client_certificate_untrusted",
            Self::Expired => "client_certificate_expired",
            Self::NotYetValid => "client_certificate_not_yet_valid",
            Self::Authority => "client_certificate_authority",
            Self::Purpose => "client_certificate_purpose",
            Self::WeakKey => "client_certificate_weak_key",
            Self::SpiffeId => "client_certificate_spiffe_id",
            Self::Revoked => "client_certificate_revoked",
            Self::RevocationListMissing => "client_revocation_list_missing",
            Self::RevocationListExpired => "client_revocation_list_expired",
            Self::RevocationListWrong => "client_revocation_list_wrong",
            Self::Malformed => "client_certificate_malformed",
        }
    }
}

// === impl PeerCertificate ===

impl PeerCertificate {
    /// Reads a leaf whose chain was verified.
    ///
    /// # Errors
    ///
    /// What is wrong with the leaf, though its chain is right.
    ///
    /// # Source
    ///
    /// X509-SVID, sections 2, 4 and 5.2; RFC 8446, section 4.4.2.2 (`digitalSignature`).
    pub(super) fn read(chain: &[CertificateDer<'_>]) -> Result<Self, CertificateFault> {
        let der = chain.first().ok_or(CertificateFault::Missing)?;
        let malformed = |_| CertificateFault::Malformed;
        let (_, leaf) = X509Certificate::from_der(der).map_err(|_| CertificateFault::Malformed)?;
        let constraints = leaf.basic_constraints().map_err(malformed)?;
        if constraints.is_some_and(|constraints| constraints.value.ca) {
            return Err(CertificateFault::Authority);
        }
        check_key(leaf.public_key())?;
        let names = leaf.subject_alternative_name().map_err(malformed)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let principal = principal(&uris.clone().collect::<Vec<_>>())?;
        let usage = leaf.key_usage().map_err(malformed)?;
        match usage {
            Some(usage) if usage.value.key_cert_sign() || usage.value.crl_sign() => {
                return Err(CertificateFault::Authority);
            }
            Some(usage) if usage.value.digital_signature() => {}
            // Without the extension a key may be used for anything; a SPIFFE ID's must have it.
            None if principal.is_none() => {}
            _ => return Err(CertificateFault::Purpose),
        }
        let dns = names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or_default();
        // The last second is still valid.
        let not_after = UNIX_EPOCH + Duration::from_secs(seconds.saturating_add(1));
        let digest = Sha256::digest(der);
        let mut peer = Self {
            principal,
            subject: distinguished_name::rfc2253(leaf.subject()),
            uri_san: uris.clone().next().map(str::to_owned),
            dns_san: dns,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_after,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            forwarded: None,
        };
        peer.forwarded = forwarded::client_cert(&peer);
        Ok(peer)
    }
}

/// The SPIFFE ID, which is the only URI; none where no URI claims to be one.
fn principal(uris: &[&str]) -> Result<Option<Arc<str>>, CertificateFault> {
    match uris {
        [id] if spiffe::is_workload(id) => Ok(Some(Arc::from(*id))),
        uris if uris.iter().any(|uri| spiffe::claims_to_be(uri)) => Err(CertificateFault::SpiffeId),
        _ => Ok(None),
    }
}

fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), CertificateFault> {
    let kind = &key.algorithm.algorithm;
    let curve = || key.algorithm.parameters.as_ref()?.as_oid().ok();
    let is_curve = |known: &Oid<'_>| curve().is_some_and(|curve| curve == *known);
    let strong = if *kind == OID_PKCS1_RSAENCRYPTION {
        matches!(key.parsed(), Ok(PublicKey::RSA(rsa)) if RSA_BITS_MIN <= rsa.key_size())
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        is_curve(&OID_EC_P256) || is_curve(&OID_NIST_EC_P384)
    } else {
        *kind == OID_SIG_ED25519
    };
    if strong { Ok(()) } else { Err(CertificateFault::WeakKey) }
}

#[cfg(test)]
mod tests;
