//! `Gateway`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::ValidationMode;
use crate::resource::namespace::LabelSelector;
use crate::status::GATEWAY_GROUP;
use crate::text::{HostnameText, ObjectName, Parsed};

/// Listeners on which traffic enters.
///
/// # Source
///
/// Gateway API v1, `GatewaySpec`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["infrastructure"]))]
#[schemars(extend("x-unsupported" = ["addresses", "allowedListeners", "backendTLS", "defaultScope"]))]
pub(crate) struct Gateway {
    /// The class. Every class is served: what is given to this proxy is meant for it.
    #[allow(dead_code, reason = "required by the API, of no meaning here")]
    pub gateway_class_name: Parsed<ObjectName>,
    /// The sockets.
    #[schemars(length(min = 1, max = 64))]
    pub listeners: Vec<Listener>,
    /// What all HTTPS listeners of a port have in common.
    pub tls: Option<GatewayTls>,
}

/// TLS of a whole Gateway.
///
/// # Source
///
/// Gateway API v1, `GatewayTLSConfig`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["backend"]))]
pub(crate) struct GatewayTls {
    /// Towards clients.
    pub frontend: Option<FrontendTls>,
}

/// Client certificates, by port: listeners of one port share connections, for HTTP/2 clients use one
/// connection for several hosts.
///
/// # Source
///
/// Gateway API v1, `FrontendTLSConfig`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FrontendTls {
    /// Of the ports that `perPort` does not name.
    pub default: FrontendSettings,
    /// Of single ports, in place of `default`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub per_port: Vec<FrontendPort>,
}

/// Client certificates of one port.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct FrontendPort {
    /// The port of a listener.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What it asks of clients.
    pub tls: FrontendSettings,
}

/// What is asked of clients.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct FrontendSettings {
    /// Absent: clients are asked for no certificate.
    pub validation: Option<FrontendValidation>,
}

/// Which client certificates are right.
///
/// # Source
///
/// Gateway API v1, `FrontendTLSValidation`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FrontendValidation {
    /// ConfigMaps or Secrets with PEM certificates under `ca.crt`; these are trusted.
    #[schemars(length(min = 1, max = 8))]
    pub ca_certificate_refs: Vec<CaRef>,
    /// Whether a client without a right certificate is refused.
    #[serde(default)]
    pub mode: ValidationMode,
}

/// Names a ConfigMap or a Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct CaRef {
    /// The empty group.
    pub group: String,
    /// `ConfigMap` or `Secret`.
    pub kind: String,
    /// Its namespace; absent = that of the Gateway. Another one needs a ReferenceGrant.
    pub namespace: Option<Parsed<ObjectName>>,
    /// Its name.
    pub name: Parsed<ObjectName>,
}

/// One listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listener {
    /// Unique in the Gateway.
    pub name: Parsed<ObjectName>,
    /// Hosts that it takes; absent = all.
    pub hostname: Option<Parsed<HostnameText>>,
    /// The port to listen on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// `HTTP` or `HTTPS`.
    pub protocol: ListenerProtocol,
    /// Certificates of an HTTPS listener.
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["TLS", "TCP", "UDP", "HBONE", "istio.io/PROXY"]))]
pub(crate) enum ListenerProtocol {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
}

/// Certificates of a listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["options"]))]
#[schemars(extend("x-moved" = {"frontendValidation": "`spec.tls.frontend` of the Gateway, with `default.validation` or `perPort[].tls.validation`"}))]
pub(crate) struct ListenerTls {
    /// `Terminate`.
    #[serde(default)]
    #[allow(dead_code, reason = "one value only")]
    pub mode: TlsMode,
    /// Secrets of type `kubernetes.io/tls`; the first is used.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub certificate_refs: Vec<SecretRef>,
}

/// Who ends TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["Passthrough"]))]
pub(crate) enum TlsMode {
    #[default]
    Terminate,
}

/// Names a Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct SecretRef {
    /// The empty group.
    #[serde(default)]
    pub group: String,
    /// `Secret`.
    #[serde(default = "secret")]
    pub kind: String,
    /// Its namespace; absent = that of the Gateway. Another one needs a ReferenceGrant.
    pub namespace: Option<Parsed<ObjectName>>,
    /// Its name.
    pub name: Parsed<ObjectName>,
}

fn secret() -> String {
    "Secret".to_owned()
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllowedRoutes {
    /// From which namespaces.
    #[serde(default)]
    pub namespaces: RouteNamespaces,
    /// Which kinds; empty = all that the listener's protocol has.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub kinds: Vec<RouteKind>,
}

/// From which namespaces routes may attach.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct RouteNamespaces {
    /// `Same`, `All`, `Selector` or `None`.
    #[serde(default)]
    pub from: FromNamespaces,
    /// With `Selector`: which namespaces, by their labels.
    pub selector: Option<LabelSelector>,
}

/// From which namespaces routes may attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum FromNamespaces {
    All,
    #[default]
    Same,
    Selector,
    None,
}

/// A kind of route.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct RouteKind {
    /// `gateway.networking.k8s.io`.
    pub group: Option<String>,
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
}

impl AllowedRoutes {
    /// Whether routes of a kind may attach.
    pub(crate) fn takes(&self, kind: &str) -> bool {
        let group = |group: &Option<String>| group.as_deref().is_none_or(|at| at == GATEWAY_GROUP);
        self.kinds.is_empty() || self.kinds.iter().any(|one| one.kind == kind && group(&one.group))
    }
}
