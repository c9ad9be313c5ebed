//! Rules between the fields of a `GRPCRoute`.

use std::collections::BTreeSet;

use super::Rules;
use crate::resource::grpc_route::{GrpcRoute, MethodMatch};
use crate::resource::route::ValueMatchType;
use crate::resource::route::filter::{RouteFilter, RouteFilterType};
use crate::text::{Format, RegexText};

/// Filters that only an HTTPRoute has.
const HTTP_ONLY: [RouteFilterType; 3] =
    [RouteFilterType::RequestRedirect, RouteFilterType::UrlRewrite, RouteFilterType::Cors];

impl Rules<'_> {
    pub(super) fn grpc_route(&mut self, route: &GrpcRoute) {
        self.parent_refs(&route.http.parent_refs);
        let mut names = BTreeSet::new();
        for (index, (rule, http)) in route.rules.iter().zip(&route.http.rules).enumerate() {
            let at = format!("spec/rules/{index}");
            if let Some(name) = &rule.name {
                self.unique(&mut names, &name.0, "the rule", &format!("{at}/name"));
            }
            for (index, when) in rule.matches.iter().enumerate() {
                let at = format!("{at}/matches/{index}");
                if let Some(method) = &when.method {
                    self.grpc_method(&format!("{at}/method"), method);
                }
                self.header_matches(&at, &when.headers);
            }
            self.grpc_filters(&at, &rule.filters);
            for (index, backend) in rule.backend_refs.iter().enumerate() {
                self.grpc_filters(&format!("{at}/backendRefs/{index}"), &backend.filters);
            }
            self.rule_actions(&at, http);
        }
    }

    fn grpc_filters(&mut self, at: &str, filters: &[RouteFilter]) {
        for (index, filter) in filters.iter().enumerate() {
            if HTTP_ONLY.contains(&filter.kind) {
                let message = "a GRPCRoute has no filter of this type";
                let expected = "`RequestHeaderModifier`, `ResponseHeaderModifier`, \
                                `RequestMirror` or `ExtensionRef`";
                let at = format!("{at}/filters/{index}/type");
                self.error("unknown-value", &at, message, Some(expected));
            }
        }
    }

    fn grpc_method(&mut self, at: &str, when: &MethodMatch) {
        let parts = [("service", &when.service), ("method", &when.method)];
        if parts.iter().all(|(_, name)| name.as_ref().is_none_or(String::is_empty)) {
            let message = "the match names neither a service nor a method";
            self.error("missing-field", at, message, Some("`service`, `method` or both"));
        }
        let mut right = true;
        for (field, name) in parts {
            let Some(name) = name else { continue };
            let (checked, expected) = match when.kind {
                ValueMatchType::Exact => (check_name(name), "a name such as `shop.v1.Cart`"),
                ValueMatchType::RegularExpression => {
                    (RegexText::parse(name).map(drop), RegexText::EXPECTED)
                }
            };
            if let Err(message) = checked {
                right = false;
                self.error("format", &format!("{at}/{field}"), message, Some(expected));
            }
        }
        if right
            && when.kind == ValueMatchType::RegularExpression
            && let Err(message) = RegexText::parse(&when.path().value)
        {
            self.error("format", at, message, Some(RegexText::EXPECTED));
        }
    }
}

/// The name of a service or a method: what can stand in a path as one segment.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.chars().all(allowed) {
        Ok(())
    } else {
        Err(format!("`{name}` is not the name of a gRPC service or method"))
    }
}
