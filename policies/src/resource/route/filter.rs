//! Filters of a rule: what the Gateway API does to requests and responses by itself.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::{HeaderNameText, HeaderValueText, ObjectName, Parsed, PreciseHostname};

/// What is done to a request or its response: `type` says which field is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["requestMirror", "cors", "externalAuth"]))]
pub(crate) struct RouteFilter {
    /// Which field is set.
    #[serde(rename = "type")]
    pub kind: RouteFilterType,
    /// Edits of the request's headers.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Edits of the response's headers.
    pub response_header_modifier: Option<HeaderModifier>,
    /// The answer is a redirect.
    pub request_redirect: Option<RequestRedirect>,
    /// What the upstream gets in place of host and path.
    pub url_rewrite: Option<UrlRewrite>,
    /// A `Filter` of the route's namespace that runs on this route.
    pub extension_ref: Option<ExtensionRef>,
}

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["RequestMirror", "CORS", "ExternalAuth"]))]
pub(crate) enum RouteFilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    ExtensionRef,
}

/// Edits of headers: set, then add, then remove.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct HeaderModifier {
    /// Replaced or set.
    #[schemars(length(max = 16))]
    pub set: Vec<HeaderEdit>,
    /// Appended.
    #[schemars(length(max = 16))]
    pub add: Vec<HeaderEdit>,
    /// Removed.
    #[schemars(length(max = 16))]
    pub remove: Vec<Parsed<HeaderNameText>>,
}

/// A header with its new value.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct HeaderEdit {
    /// Its name.
    pub name: Parsed<HeaderNameText>,
    /// Its value.
    pub value: Parsed<HeaderValueText>,
}

/// Names a `Filter` of the same namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct ExtensionRef {
    /// `waypoint.rs`.
    pub group: String,
    /// `Filter`.
    pub kind: String,
    /// Its name.
    pub name: Parsed<ObjectName>,
}

/// Answers with a redirect; what is absent stays as the request has it.
///
/// # Source
///
/// Gateway API v1, `HTTPRequestRedirectFilter`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestRedirect {
    /// `http` or `https`.
    pub scheme: Option<RedirectScheme>,
    /// A hostname, without wildcards.
    pub hostname: Option<Parsed<PreciseHostname>>,
    /// How the path changes.
    pub path: Option<PathModifier>,
    /// Absent = that of `scheme`, or else the listener's.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    #[serde(default = "found")]
    #[schemars(range(min = 301, max = 308))]
    pub status_code: u16,
}

fn found() -> u16 {
    302
}

/// The scheme of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RedirectScheme {
    Http,
    Https,
}

/// What the upstream gets in place of host and path; what is absent stays.
///
/// # Source
///
/// Gateway API v1, `HTTPURLRewriteFilter`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct UrlRewrite {
    /// A hostname, without wildcards.
    pub hostname: Option<Parsed<PreciseHostname>>,
    /// How the path changes.
    pub path: Option<PathModifier>,
}

/// How a path changes: `type` says which field is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PathModifier {
    /// Which field is set.
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    /// The whole path.
    #[schemars(length(max = 1024))]
    pub replace_full_path: Option<String>,
    /// What stands for the prefix that the rule matched; may be empty.
    #[schemars(length(max = 1024))]
    pub replace_prefix_match: Option<String>,
}

/// What of a path changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum PathModifierType {
    ReplaceFullPath,
    ReplacePrefixMatch,
}
