//! `Filter`: ours.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model;
use crate::resource::route::HttpMethod;
use crate::text::{GatewayDuration, ModuleUrl, ObjectName, Parsed, Prefix, Quantity, Sha256};

/// A WebAssembly filter: which module runs, where, and within which bounds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Filter {
    /// What the filter is attached to, all in its own namespace. Absent: every entrance of the
    /// namespace. An empty list: only rules that name it by an `extensionRef`.
    #[schemars(length(max = 16))]
    pub target_refs: Option<Vec<TargetRef>>,
    /// The module.
    pub module: Module,
    /// Configuration of the module: any JSON object, handed over as JSON text. Without it the
    /// module is configured with nothing at all.
    pub config: Option<Map<String, Value>>,
    /// The same from a ConfigMap of the filter's namespace, in place of `config`.
    pub config_from: Option<ConfigFrom>,
    /// Id of the root context, for modules that hold more than one filter.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub root_id: String,
    /// Environment variables that the module sees.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Where in the chain the filter runs. Unset, a built-in filter runs in its own phase
    /// (jwt-auth: Authn, payload-router: Authz, pii-redact: Stats), any other last.
    pub phase: Option<Phase>,
    /// Order within a phase: higher runs first; unset runs after every set one.
    pub priority: Option<i32>,
    /// Which requests the filter sees: one of these must hold; none = every request.
    #[serde(default, rename = "match")]
    #[schemars(length(max = 16))]
    pub matches: Vec<FilterMatch>,
    /// What happens to a request whose filter failed.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// What the filter may use.
    #[serde(default)]
    pub limits: Limits,
    /// Host functions and callbacks that the module may use, by name (`proxy_log`); unset = all.
    pub capabilities: Option<BTreeSet<String>>,
    /// Who shares a VM.
    #[serde(default)]
    pub isolation: Isolation,
    /// Whether headers wait for the body.
    #[serde(default)]
    pub bodies: Bodies,
}

/// Where a filter's configuration is kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigFrom {
    /// One key of a ConfigMap.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// One key of a ConfigMap; its value is handed over byte for byte.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigMapKeyRef {
    /// The ConfigMap, in the filter's namespace.
    pub name: Parsed<ObjectName>,
    /// The key in its `data`.
    pub key: String,
}

/// What a filter is attached to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-unsupported" = ["namespace", "sectionName"]))]
pub(crate) struct TargetRef {
    /// `gateway.networking.k8s.io`, or empty for a Service; unset = that of the kind.
    pub group: Option<String>,
    /// The kind.
    pub kind: TargetKind,
    /// The name, in the filter's namespace.
    pub name: Parsed<ObjectName>,
}

/// A kind that filters are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["GatewayClass", "ServiceEntry"]))]
pub(crate) enum TargetKind {
    Gateway,
    Service,
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
}

impl TargetKind {
    /// As it is written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::Service => "Service",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
        }
    }

    /// Its API group.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Self::Gateway | Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io",
            Self::Service => "",
        }
    }
}

/// Where the module comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Module {
    /// `builtin://NAME` (jwt-auth, payload-router, pii-redact), `file://PATH` (absolute, or
    /// relative to this file), `http://…` or `https://…`.
    pub url: Parsed<ModuleUrl>,
    /// SHA-256 that the module's bytes must have, in hexadecimal.
    pub sha256: Option<Parsed<Sha256>>,
}

/// Where in the chain a filter runs: around authentication and authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Phase {
    /// First, before authentication.
    Authn,
    /// After authentication, before authorization.
    Authz,
    /// After authorization.
    Stats,
    /// Last, next to the upstream.
    Unspecified,
}

impl From<Phase> for model::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Authn => Self::Authn,
            Phase::Authz => Self::Authz,
            Phase::Stats => Self::Stats,
            Phase::Unspecified => Self::Unspecified,
        }
    }
}

/// Which requests a filter sees: all that is set must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct FilterMatch {
    /// Methods; none = any.
    #[schemars(length(max = 16))]
    pub methods: Vec<HttpMethod>,
    /// Path prefixes, on whole segments; none = any.
    #[schemars(length(max = 64))]
    pub path_prefixes: Vec<Parsed<Prefix>>,
    /// Ports on which requests enter; none = any.
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
}

/// What happens to a request whose filter failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum FailurePolicy {
    /// The request is refused (503, gRPC UNAVAILABLE).
    #[default]
    Closed,
    /// The filter is skipped.
    Open,
    /// The request is refused; the VM restarts, with backoff.
    Reload,
}

impl From<FailurePolicy> for model::FailurePolicy {
    fn from(policy: FailurePolicy) -> Self {
        match policy {
            FailurePolicy::Closed => Self::Closed,
            FailurePolicy::Open => Self::Open,
            FailurePolicy::Reload => Self::Reload,
        }
    }
}

/// What a filter may use. What is unset has the proxy's default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Linear memory of one VM, for example `16Mi`; a multiple of 64 KiB.
    pub memory: Option<Parsed<Quantity>>,
    /// CPU time of one callback, for example `10ms`.
    pub deadline: Option<Parsed<GatewayDuration>>,
    /// Body bytes held for one stream and direction, for example `1Mi`.
    pub buffered_body: Option<Parsed<Quantity>>,
    /// Streams that one VM serves at a time.
    #[schemars(range(min = 1, max = 100_000))]
    pub streams_per_vm: Option<u32>,
    /// Share of one worker's CPU, above 0 and at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub cpu_share: Option<f64>,
    /// HTTP calls that one stream may make.
    #[schemars(range(min = 0, max = 10_000))]
    pub callouts_per_stream: Option<u32>,
    /// How long the headers may be held, for the body (`bodies: BeforeHeaders`) or for a callout,
    /// for example `5s`. Unset: 5s for the body, 60s for a callout.
    pub body_wait: Option<Parsed<GatewayDuration>>,
}

/// Who shares a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Isolation {
    /// Streams of this filter share VMs.
    #[default]
    Shared,
    /// A fresh VM for each stream: no state survives.
    PerRequest,
}

/// Whether headers wait for the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Bodies {
    /// The headers go on when their callback continues.
    #[default]
    AfterHeaders,
    /// The headers wait while the body is read, so that the body can decide the route.
    BeforeHeaders,
}
