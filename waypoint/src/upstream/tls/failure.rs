//! Why a TLS handshake with an endpoint failed.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Why a handshake with an endpoint failed, told apart as far as an operator can act on it. Holds
/// nothing that an endpoint has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TlsFailure {
    #[error("nobody who is trusted has issued its certificate")]
    UnknownCa,
    #[error("its certificate is valid for other names")]
    NameMismatch,
    #[error("its certificate has expired")]
    Expired,
    #[error("its certificate is not valid yet")]
    NotYetValid,
    #[error("its certificate is malformed or not for a server")]
    BadCertificate,
    #[error("it has no version, cipher suite or key exchange in common with us")]
    Incompatible,
    #[error("it does not speak the service's protocol")]
    Alpn,
    #[error("it does not speak TLS")]
    NotTls,
    #[error("it refused the handshake")]
    PeerRefused,
    #[error("the handshake took too long")]
    Timeout,
    #[error("it closed the connection within the handshake")]
    Closed,
    #[error("the handshake failed")]
    Other,
}

// === impl TlsFailure ===

impl TlsFailure {
    /// All of them, in the order of the source.
    pub const ALL: [Self; 12] = [
        Self::UnknownCa,
        Self::NameMismatch,
        Self::Expired,
        Self::NotYetValid,
        Self::BadCertificate,
        Self::Incompatible,
        Self::Alpn,
        Self::NotTls,
        Self::PeerRefused,
        Self::Timeout,
        Self::Closed,
        Self::Other,
    ];

    /// The reason as a metric's label.
    pub fn reason(self) -> &'static str {
        let name = self.name();
        name.strip_prefix("upstream_tls_").unwrap_or(name)
    }

    /// The reason as the details of a response.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownCa => "upstream_tls_unknown_ca",
            Self::NameMismatch => "upstream_tls_name_mismatch",
            Self::Expired => "upstream_tls_expired",
            Self::NotYetValid => "upstream_tls_not_yet_valid",
            Self::BadCertificate => "upstream_tls_bad_certificate",
            Self::Incompatible => "upstream_tls_incompatible",
            Self::Alpn => "upstream_tls_alpn",
            Self::NotTls => "upstream_tls_not_tls",
            Self::PeerRefused => "upstream_tls_peer_refused",
            Self::Timeout => "upstream_tls_timeout",
            Self::Closed => "upstream_tls_closed",
            Self::Other => "upstream_tls_other",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Closed;
        };
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::NoApplicationProtocol => Self::Alpn,
            Error::PeerIncompatible(_) => Self::Incompatible,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::Alpn,
            Error::AlertReceived(
                AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion,
            ) => Self::Incompatible,
            Error::AlertReceived(_) => Self::PeerRefused,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            // A signature that does not fit: another authority of the same name, as after a
            // rotation.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::NameMismatch
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            _ => Self::BadCertificate,
        }
    }
}
