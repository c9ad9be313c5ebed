//! Checks an endpoint's certificate as a BackendTLSPolicy says.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use waypoint_policies::{Hostname, SubjectAltName};

/// Chain and time always; the server name, unless other names are given: then one of those.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: Arc<RootCertStore>,
    names: Vec<SubjectAltName>,
    algorithms: WebPkiSupportedAlgorithms,
}

// === impl Verifier ===

impl Verifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        names: Vec<SubjectAltName>,
        provider: &CryptoProvider,
    ) -> Self {
        Self { roots, names, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        if self.names.is_empty() {
            verify_server_name(&certificate, server_name)?;
        } else if !self.names.iter().any(|name| has(&certificate, end_entity, name)) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether the certificate has that name.
fn has(
    certificate: &ParsedCertificate<'_>,
    der: &CertificateDer<'_>,
    wanted: &SubjectAltName,
) -> bool {
    let entity = || webpki::EndEntityCert::try_from(der).ok();
    match wanted {
        SubjectAltName::Dns(Hostname::Exact(name)) => ServerName::try_from(name.as_str())
            .is_ok_and(|name| verify_server_name(certificate, &name).is_ok()),
        // A wildcard is no name of a server: the certificate must have that very wildcard.
        SubjectAltName::Dns(Hostname::Wildcard(suffix)) => entity().is_some_and(|entity| {
            let mut names = entity.valid_dns_names();
            names.any(|name| {
                let wildcard = name.strip_prefix("*.");
                wildcard.is_some_and(|name| name.eq_ignore_ascii_case(suffix))
            })
        }),
        SubjectAltName::Uri(uri) => {
            entity().is_some_and(|entity| entity.valid_uri_names().any(|name| name == uri))
        }
    }
}
