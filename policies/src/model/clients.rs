//! What an entrance asks of its clients.

use std::sync::Arc;

use super::ResourceKey;

/// Which client certificates an entrance takes.
///
/// # Source
///
/// Gateway API v1, `FrontendTLSValidation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// Whether a client without a right certificate is refused.
    pub mode: ValidationMode,
    /// Who may have issued a certificate: what could be resolved. None at all: no certificate is
    /// right.
    pub authorities: Vec<ClientAuthority>,
}

/// Whether a client without a right certificate is refused.
///
/// # Source
///
/// Gateway API v1, `FrontendValidationModeType`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema,
)]
pub enum ValidationMode {
    /// Its handshake fails.
    #[default]
    AllowValidOnly,
    /// It is served as a client without a certificate is.
    AllowInsecureFallback,
}

/// Certificates under `ca.crt` that client certificates may have been issued by, and what stands
/// beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    /// The ConfigMap or the Secret.
    pub source: ResourceKey,
    /// All that stands there.
    pub pem: Arc<str>,
    /// The revocation lists under `ca.crl`, PEM; `None`: nothing is looked up.
    pub revocations: Option<Arc<str>>,
}
