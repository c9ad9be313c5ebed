//! `BackendTLSPolicy`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::{HostnameText, ObjectName, Parsed};

/// TLS towards the endpoints of Services: whom to trust and which name to expect.
///
/// # Source
///
/// Gateway API v1, `BackendTLSPolicySpec`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["options"]))]
pub(crate) struct BackendTlsPolicy {
    /// The Services, all in the policy's own namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TlsTarget>,
    /// What an endpoint must show.
    pub validation: Validation,
}

/// A Service, or one port of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TlsTarget {
    /// The empty group.
    #[serde(default)]
    pub group: String,
    /// `Service`.
    pub kind: String,
    /// Its name.
    pub name: Parsed<ObjectName>,
    /// The name of one of its ports; absent = every port.
    pub section_name: Option<Parsed<ObjectName>>,
}

/// What an endpoint must show.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Validation {
    /// ConfigMaps with PEM certificates under `ca.crt`; these are trusted.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<CaRef>,
    /// `System`: what the machine trusts, in place of `caCertificateRefs`.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known: Option<WellKnown>,
    /// The server name that is sent; the certificate must be valid for it, too, unless
    /// `subjectAltNames` are given.
    pub hostname: Parsed<HostnameText>,
    /// Names of which the certificate must have one.
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// Certificates that come with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum WellKnown {
    System,
}

/// Names a ConfigMap of the policy's namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct CaRef {
    /// The empty group.
    #[serde(default)]
    pub group: String,
    /// `ConfigMap`.
    pub kind: String,
    /// Its name.
    pub name: Parsed<ObjectName>,
}

/// A name that a certificate may have.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubjectAltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub kind: SubjectAltNameKind,
    /// A DNS name, with the type `Hostname`.
    pub hostname: Option<Parsed<HostnameText>>,
    /// A URI such as a SPIFFE ID, with the type `URI`.
    #[schemars(length(max = 253))]
    pub uri: Option<String>,
}

/// The kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum SubjectAltNameKind {
    Hostname,
    #[serde(rename = "URI")]
    Uri,
}

/// The key of a ConfigMap that holds certificates.
pub(crate) const CA_KEY: &str = "ca.crt";
