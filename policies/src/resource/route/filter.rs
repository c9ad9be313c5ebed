//! Filters of a rule: what the Gateway API does to requests and responses by itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{BackendRef, service_kind};
use crate::text::{
    HeaderNameText, HeaderValueText, ObjectName, OriginText, Parsed, PreciseHostname,
};

/// What is done to a request or its response: `type` says which field is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["externalAuth"]))]
pub(crate) struct RouteFilter {
    /// Which field is set.
    #[serde(rename = "type")]
    pub kind: RouteFilterType,
    /// Edits of the request's headers.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Edits of the response's headers.
    pub response_header_modifier: Option<HeaderModifier>,
    /// A copy goes to another service.
    pub request_mirror: Option<RequestMirror>,
    /// The answer is a redirect.
    pub request_redirect: Option<RequestRedirect>,
    /// What the upstream gets in place of host and path.
    pub url_rewrite: Option<UrlRewrite>,
    /// What scripts of other origins may do.
    pub cors: Option<CorsFilter>,
    /// A `Filter` of the route's namespace that runs on this route.
    pub extension_ref: Option<ExtensionRef>,
}

impl RouteFilter {
    /// Each type with the field that belongs to it, and whether that is set.
    pub(crate) fn fields(&self) -> [(RouteFilterType, &'static str, bool); 7] {
        use RouteFilterType as Type;
        [
            (
                Type::RequestHeaderModifier,
                "requestHeaderModifier",
                self.request_header_modifier.is_some(),
            ),
            (
                Type::ResponseHeaderModifier,
                "responseHeaderModifier",
                self.response_header_modifier.is_some(),
            ),
            (Type::RequestMirror, "requestMirror", self.request_mirror.is_some()),
            (Type::RequestRedirect, "requestRedirect", self.request_redirect.is_some()),
            (Type::UrlRewrite, "urlRewrite", self.url_rewrite.is_some()),
            (Type::Cors, "cors", self.cors.is_some()),
            (Type::ExtensionRef, "extensionRef", self.extension_ref.is_some()),
        ]
    }
}

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[schemars(extend("x-unsupported" = ["ExternalAuth"]))]
pub(crate) enum RouteFilterType {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    #[serde(rename = "CORS")]
    Cors,
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

/// A copy of each request, or of a share of them, goes to another service.
///
/// # Source
///
/// Gateway API v1, `HTTPRequestMirrorFilter`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestMirror {
    /// Who gets the copies.
    pub backend_ref: MirrorRef,
    /// Of a hundred requests.
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// A share in other numbers.
    pub fraction: Option<Fraction>,
}

/// Who gets the copies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct MirrorRef {
    /// The empty group.
    #[serde(default)]
    pub group: String,
    /// `Service`.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// Absent = that of the route. Another one needs a ReferenceGrant.
    pub namespace: Option<Parsed<ObjectName>>,
    /// Its name.
    pub name: Parsed<ObjectName>,
    /// The service port (not the target port).
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

impl MirrorRef {
    /// As a backend.
    pub(crate) fn backend(&self) -> BackendRef {
        BackendRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port,
            weight: 1,
            filters: Vec::new(),
        }
    }
}

/// A share of the requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct Fraction {
    /// So many.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub numerator: u32,
    /// Of so many.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub denominator: u32,
}

fn hundred() -> u32 {
    100
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

/// What scripts of other origins may do.
///
/// # Source
///
/// Gateway API v1, `HTTPCORSFilter`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CorsFilter {
    /// Who may ask: origins, a host may begin with `*`; or `*` alone.
    #[schemars(length(max = 64))]
    pub allow_origins: Vec<Parsed<OriginText>>,
    /// Whether with credentials.
    pub allow_credentials: bool,
    /// With which methods, or `*`.
    #[schemars(length(max = 9))]
    pub allow_methods: Vec<MethodOrAll>,
    /// With which headers, or `*`.
    #[schemars(length(max = 64))]
    pub allow_headers: Vec<Parsed<HeaderNameText>>,
    /// Which headers of the answer they see, or `*`.
    #[schemars(length(max = 64))]
    pub expose_headers: Vec<Parsed<HeaderNameText>>,
    /// How many seconds the answer to a preflight may be remembered.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_age: u32,
}

impl Default for CorsFilter {
    fn default() -> Self {
        Self {
            allow_origins: Vec::new(),
            allow_credentials: false,
            allow_methods: Vec::new(),
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age: 5,
        }
    }
}

/// A method, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum MethodOrAll {
    #[serde(rename = "*")]
    All,
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl MethodOrAll {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}
