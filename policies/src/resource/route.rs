//! `HTTPRoute`.

pub(crate) mod filter;

use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use self::filter::RouteFilter;
use crate::text::{GatewayDuration, HeaderNameText, HostnameText, ObjectName, Parsed};

/// Rules by which requests reach services.
///
/// # Source
///
/// Gateway API v1, `HTTPRouteSpec`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["useDefaultGateways"]))]
pub(crate) struct HttpRoute {
    /// What it attaches to: Gateways or Services.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentRef>,
    /// Hosts that it takes; empty = all of the listener's. Ignored where the parent is a Service.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hostnames: Vec<Parsed<HostnameText>>,
    /// The rules; absent = one that matches everything and has no backend.
    #[serde(default = "one_rule")]
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<RouteRule>,
}

fn one_rule() -> Vec<RouteRule> {
    vec![RouteRule::default()]
}

/// What a route attaches to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParentRef {
    /// `gateway.networking.k8s.io`, or empty for a Service.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// `Gateway` or `Service`.
    #[serde(default = "gateway_kind")]
    pub kind: String,
    /// Absent = that of the route.
    pub namespace: Option<Parsed<ObjectName>>,
    /// Its name.
    pub name: Parsed<ObjectName>,
    /// A listener of the Gateway, or a port of the Service by name.
    pub section_name: Option<Parsed<ObjectName>>,
    /// Only listeners, or the service port, of this number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

fn gateway_group() -> String {
    crate::status::GATEWAY_GROUP.to_owned()
}

fn gateway_kind() -> String {
    "Gateway".to_owned()
}

/// One rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-unsupported" = ["retry", "sessionPersistence"]))]
pub(crate) struct RouteRule {
    /// Shown in logs.
    pub name: Option<Parsed<ObjectName>>,
    /// One of these must hold; empty = every request.
    #[schemars(length(max = 64))]
    pub matches: Vec<RouteMatch>,
    /// What is done to requests and responses.
    #[schemars(length(max = 16))]
    pub filters: Vec<RouteFilter>,
    /// Where requests go.
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl RouteRule {
    /// The filters of the rule, and those of its backends.
    pub(crate) fn every_filter(&self) -> impl Iterator<Item = &RouteFilter> {
        self.filters.iter().chain(self.backend_refs.iter().flat_map(|backend| &backend.filters))
    }
}

/// What a request must be like: all that is set must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteMatch {
    /// Its path.
    pub path: PathMatch,
    /// Its headers.
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// Its query.
    #[schemars(length(max = 16))]
    pub query_params: Vec<QueryMatch>,
    /// Its method.
    pub method: Option<HttpMethod>,
}

/// How the path is compared.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct PathMatch {
    /// `Exact`, `PathPrefix` (whole segments) or `RegularExpression` (the whole path).
    #[serde(rename = "type")]
    pub kind: PathMatchType,
    /// The path, the prefix or the expression.
    #[schemars(length(max = 1024))]
    pub value: String,
}

impl Default for PathMatch {
    fn default() -> Self {
        Self { kind: PathMatchType::PathPrefix, value: "/".to_owned() }
    }
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum PathMatchType {
    Exact,
    #[default]
    PathPrefix,
    RegularExpression,
    /// A method of any gRPC service: what a GRPCRoute stands for, never written.
    #[serde(skip)]
    AnyService,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum ValueMatchType {
    #[default]
    Exact,
    RegularExpression,
}

/// A header and its value.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct HeaderMatch {
    /// `Exact` or `RegularExpression` (the whole value).
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// The header, in any case.
    pub name: Parsed<HeaderNameText>,
    /// The value or the expression.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// A query parameter and its value.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct QueryMatch {
    /// `Exact` or `RegularExpression` (the whole value).
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// The key, decoded.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The value, decoded, or the expression.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// Methods that the Gateway API knows.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum HttpMethod {
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

impl From<HttpMethod> for Method {
    fn from(method: HttpMethod) -> Self {
        match method {
            HttpMethod::Get => Self::GET,
            HttpMethod::Head => Self::HEAD,
            HttpMethod::Post => Self::POST,
            HttpMethod::Put => Self::PUT,
            HttpMethod::Delete => Self::DELETE,
            HttpMethod::Connect => Self::CONNECT,
            HttpMethod::Options => Self::OPTIONS,
            HttpMethod::Trace => Self::TRACE,
            HttpMethod::Patch => Self::PATCH,
        }
    }
}

/// A weighted backend.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct BackendRef {
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
    /// Its share of the requests.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// What is done to requests that go to this backend.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub filters: Vec<RouteFilter>,
}

fn service_kind() -> String {
    "Service".to_owned()
}

fn one() -> u32 {
    1
}

/// How long things may take; `0s` = without bound.
///
/// # Source
///
/// Gateway API, GEP-1742.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Timeouts {
    /// From the request's head to the end of the response.
    request: Option<Parsed<GatewayDuration>>,
    /// One attempt, until its response's head.
    backend_request: Option<Parsed<GatewayDuration>>,
}

impl Timeouts {
    /// The bound of the whole request.
    pub(crate) fn request(&self) -> Option<Duration> {
        bound(self.request.as_ref())
    }

    /// The bound of one attempt.
    pub(crate) fn backend_request(&self) -> Option<Duration> {
        bound(self.backend_request.as_ref())
    }
}

fn bound(duration: Option<&Parsed<GatewayDuration>>) -> Option<Duration> {
    duration.map(|duration| duration.0).filter(|duration| !duration.is_zero())
}
