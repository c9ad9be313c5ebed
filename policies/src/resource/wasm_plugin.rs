//! Istio's `WasmPlugin`, read as it is.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model;
use crate::resource::filter::TargetRef;
use crate::text::{EnvironmentName, ModuleUrl, Parsed, Sha256};

/// A WebAssembly filter in Istio's words.
///
/// # Source
///
/// istio/api, `extensions/v1alpha1/wasm.proto`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["imagePullSecret", "selector", "targetRef", "verificationKey"]))]
pub(crate) struct WasmPlugin {
    /// What it is attached to, in its own namespace; none = every entrance of the namespace.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// Where the module comes from.
    pub url: Parsed<ModuleUrl>,
    /// SHA-256 of the module.
    pub sha256: Option<Parsed<Sha256>>,
    /// When the module is fetched again.
    #[serde(default)]
    #[allow(dead_code, reason = "all supported values mean the same here")]
    pub image_pull_policy: PullPolicy,
    /// Handed to the module as JSON text.
    pub plugin_config: Option<Map<String, Value>>,
    /// The root context's id.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub plugin_name: String,
    /// Where in the chain it runs.
    #[serde(default)]
    pub phase: PluginPhase,
    /// Order within a phase: higher runs first.
    pub priority: Option<i32>,
    /// What happens to a request whose filter failed.
    #[serde(default)]
    pub fail_strategy: FailStrategy,
    /// The VM's environment.
    #[serde(default)]
    pub vm_config: VmConfig,
    /// Which traffic it sees.
    #[serde(default, rename = "match")]
    pub matches: Vec<TrafficSelector>,
    /// `HTTP`.
    #[serde(rename = "type", default)]
    #[allow(dead_code, reason = "all supported values mean the same here")]
    pub kind: PluginType,
}

/// When the module is fetched again.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["Always"]))]
pub(crate) enum PullPolicy {
    #[default]
    #[serde(rename = "UNSPECIFIED_POLICY")]
    Unspecified,
    IfNotPresent,
}

/// Where in the chain a plugin runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum PluginPhase {
    #[default]
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
    Authn,
    Authz,
    Stats,
}

impl From<PluginPhase> for model::Phase {
    fn from(phase: PluginPhase) -> Self {
        match phase {
            PluginPhase::Unspecified => Self::Unspecified,
            PluginPhase::Authn => Self::Authn,
            PluginPhase::Authz => Self::Authz,
            PluginPhase::Stats => Self::Stats,
        }
    }
}

/// What happens to a request whose filter failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum FailStrategy {
    #[default]
    #[serde(rename = "FAIL_CLOSE")]
    Close,
    #[serde(rename = "FAIL_OPEN")]
    Open,
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
}

impl From<FailStrategy> for model::FailurePolicy {
    fn from(strategy: FailStrategy) -> Self {
        match strategy {
            FailStrategy::Close => Self::Closed,
            FailStrategy::Open => Self::Open,
            FailStrategy::Reload => Self::Reload,
        }
    }
}

/// The VM's environment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct VmConfig {
    /// The variables.
    #[schemars(length(max = 256))]
    pub env: Vec<EnvVar>,
}

/// One environment variable.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvVar {
    /// Its name.
    pub name: Parsed<EnvironmentName>,
    /// Whether the value is here or in the proxy's own environment.
    #[serde(default)]
    pub value_from: EnvSource,
    /// The value, for `INLINE`.
    #[schemars(length(max = 2048))]
    pub value: Option<String>,
}

/// Where an environment variable's value comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum EnvSource {
    #[default]
    Inline,
    Host,
}

/// Which traffic a plugin sees.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct TrafficSelector {
    /// A waypoint sees traffic of its services as their server.
    #[allow(dead_code, reason = "all supported values mean the same here")]
    pub mode: WorkloadMode,
    /// Ports; none = any.
    pub ports: Vec<PortSelector>,
}

/// On which side of a connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schemars(extend("x-unsupported" = ["CLIENT"]))]
pub(crate) enum WorkloadMode {
    #[default]
    Undefined,
    Server,
    ClientAndServer,
}

/// One port.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct PortSelector {
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub number: u16,
}

/// What kind of plugin.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(extend("x-unsupported" = ["NETWORK"]))]
pub(crate) enum PluginType {
    #[default]
    #[serde(rename = "UNSPECIFIED_PLUGIN_TYPE")]
    Unspecified,
    Http,
}
