//! `GRPCRoute`: read as it is written, and followed as the HTTP rules that it stands for.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::route::filter::RouteFilter;
use super::route::{
    BackendRef, HeaderMatch, HttpRoute, ParentRef, PathMatch, PathMatchType, RouteMatch, RouteRule,
    ValueMatchType,
};
use crate::text::{HostnameText, ObjectName, Parsed};

/// A route of gRPC methods.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "GrpcSpec")]
pub(crate) struct GrpcRoute {
    /// The rules, as they are written.
    pub rules: Vec<GrpcRule>,
    /// What they stand for: a method is the path `/SERVICE/METHOD`.
    ///
    /// # Source
    ///
    /// grpc/doc/PROTOCOL-HTTP2.md, Path.
    pub http: HttpRoute,
}

impl From<GrpcSpec> for GrpcRoute {
    fn from(spec: GrpcSpec) -> Self {
        let http = HttpRoute {
            parent_refs: spec.parent_refs,
            hostnames: spec.hostnames,
            rules: spec.rules.iter().map(GrpcRule::http).collect(),
        };
        Self { rules: spec.rules, http }
    }
}

impl JsonSchema for GrpcRoute {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GrpcRoute".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        GrpcSpec::json_schema(generator)
    }
}

/// Rules by which calls reach services.
///
/// # Source
///
/// Gateway API v1, `GRPCRouteSpec`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-unsupported" = ["useDefaultGateways"]))]
struct GrpcSpec {
    /// What it attaches to: Gateways or Services.
    #[serde(default)]
    #[schemars(length(max = 32))]
    parent_refs: Vec<ParentRef>,
    /// Hosts that it takes; empty = all of the listener's. Ignored where the parent is a Service.
    #[serde(default)]
    #[schemars(length(max = 16))]
    hostnames: Vec<Parsed<HostnameText>>,
    /// The rules.
    #[serde(default)]
    #[schemars(length(max = 16))]
    rules: Vec<GrpcRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-unsupported" = ["sessionPersistence"]))]
pub(crate) struct GrpcRule {
    /// Shown in logs.
    pub name: Option<Parsed<ObjectName>>,
    /// One of these must hold; empty = every call.
    #[schemars(length(max = 64))]
    pub matches: Vec<GrpcMatch>,
    /// What is done to calls and answers.
    #[schemars(length(max = 16))]
    pub filters: Vec<RouteFilter>,
    /// Where calls go.
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
}

/// What a call must be like: all that is set must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct GrpcMatch {
    /// Its service and method.
    pub method: Option<MethodMatch>,
    /// Its metadata.
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
}

/// A service, a method of any service, or both.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct MethodMatch {
    /// `Exact` or `RegularExpression` (the whole name).
    #[serde(rename = "type")]
    pub kind: ValueMatchType,
    /// The service with its package; absent = any.
    #[schemars(length(max = 1024))]
    pub service: Option<String>,
    /// The method; absent = any.
    #[schemars(length(max = 1024))]
    pub method: Option<String>,
}

impl GrpcRule {
    fn http(&self) -> RouteRule {
        let http = |when: &GrpcMatch| RouteMatch {
            path: when.method.as_ref().map(MethodMatch::path).unwrap_or_default(),
            headers: when.headers.clone(),
            ..RouteMatch::default()
        };
        RouteRule {
            name: self.name.clone(),
            matches: self.matches.iter().map(http).collect(),
            filters: self.filters.clone(),
            backend_refs: self.backend_refs.clone(),
            ..RouteRule::default()
        }
    }
}

impl MethodMatch {
    /// The paths of these methods.
    pub(crate) fn path(&self) -> PathMatch {
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        let (kind, value) = match (self.kind, named(&self.service), named(&self.method)) {
            (_, None, None) => return PathMatch::default(),
            (ValueMatchType::Exact, Some(service), Some(method)) => {
                (PathMatchType::Exact, format!("/{service}/{method}"))
            }
            (ValueMatchType::Exact, Some(service), None) => {
                (PathMatchType::PathPrefix, format!("/{service}"))
            }
            (ValueMatchType::Exact, None, Some(method)) => (PathMatchType::AnyService, method),
            (ValueMatchType::RegularExpression, service, method) => {
                let any = || "[^/]+".to_owned();
                let (service, method) = (service.unwrap_or_else(any), method.unwrap_or_else(any));
                (PathMatchType::RegularExpression, format!("/(?:{service})/(?:{method})"))
            }
        };
        PathMatch { kind, value }
    }
}
