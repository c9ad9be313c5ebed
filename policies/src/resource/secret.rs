//! `Secret`, `ConfigMap` and `ReferenceGrant`.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::{Base64, ObjectName, Parsed};

/// A Secret. Its values are never printed.
///
/// # Source
///
/// Kubernetes core/v1, `Secret`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["immutable"]))]
pub(crate) struct Secret {
    /// `kubernetes.io/tls` or `Opaque`; others are read and not used.
    #[serde(rename = "type", default = "opaque")]
    pub kind: String,
    /// Values in base64.
    #[serde(default)]
    pub data: BTreeMap<String, Parsed<Base64>>,
    /// Values as they are; they win over `data`.
    #[serde(default)]
    pub string_data: BTreeMap<String, String>,
}

fn opaque() -> String {
    "Opaque".to_owned()
}

/// Where revocation lists stand beside the certificates of an authority, in a ConfigMap or a Secret:
/// the key that Istio's and nginx's ingresses read.
pub(crate) const CRL_KEY: &str = "ca.crl";

/// The type of a Secret that holds a certificate.
pub(crate) const TLS_SECRET: &str = "kubernetes.io/tls";

impl Secret {
    /// A value, if it is there and is UTF-8.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let plain = self.string_data.get(key).map(String::as_str);
        plain.or_else(|| self.data.get(key).and_then(|value| std::str::from_utf8(&value.0).ok()))
    }

    /// Whether a value is there at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.string_data.contains_key(key) || self.data.contains_key(key)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Secret").field("type", &self.kind).finish_non_exhaustive()
    }
}

/// A ConfigMap.
///
/// # Source
///
/// Kubernetes core/v1, `ConfigMap`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["immutable"]))]
pub(crate) struct ConfigMap {
    /// Text by key.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Bytes by key, in base64.
    #[serde(default)]
    pub binary_data: BTreeMap<String, Parsed<Base64>>,
}

/// Allows references from other namespaces into its own.
///
/// # Source
///
/// Gateway API v1beta1, `ReferenceGrantSpec`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct ReferenceGrant {
    /// Who may refer.
    #[schemars(length(min = 1, max = 16))]
    pub from: Vec<GrantFrom>,
    /// To what.
    #[schemars(length(min = 1, max = 16))]
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct GrantFrom {
    /// For example `gateway.networking.k8s.io`.
    pub group: String,
    /// For example `HTTPRoute`.
    pub kind: String,
    /// The namespace.
    pub namespace: Parsed<ObjectName>,
}

/// To what.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct GrantTo {
    /// Empty for Services and Secrets.
    pub group: String,
    /// `Service` or `Secret`.
    pub kind: String,
    /// Absent = all of that kind.
    pub name: Option<Parsed<ObjectName>>,
}
