//! Rules between the fields of an `HTTPRoute`.

use std::collections::BTreeSet;

use super::Rules;
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::route::{
    HttpRoute, PathMatchType, RouteFilter, RouteFilterType, RouteMatch, RouteRule, ValueMatchType,
};
use crate::text::{Format, RegexText, check_path};

/// Headers that frame a message or belong to one connection, and the host, which is not a header
/// inside the proxy.
const UNTOUCHABLE: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Rules<'_> {
    pub(super) fn route(&mut self, route: &HttpRoute) {
        for (index, parent) in route.parent_refs.iter().enumerate() {
            let at = format!("spec/parentRefs/{index}");
            match parent.kind.as_str() {
                "Service" => self.only(&format!("{at}/group"), &parent.group, ""),
                "Gateway" => {
                    self.only(&format!("{at}/group"), &parent.group, "gateway.networking.k8s.io")
                }
                other => {
                    let problem = Problem::error(
                        "unknown-value",
                        &self.origin.at(&format!("{at}/kind")),
                        format!("unknown value `{other}`"),
                    );
                    let near = nearest(other, ["Gateway", "Service"]);
                    self.problems.push(problem.expected("`Gateway` or `Service`").nearest(near));
                }
            }
        }
        let mut names = BTreeSet::new();
        for (index, rule) in route.rules.iter().enumerate() {
            let at = format!("spec/rules/{index}");
            if let Some(name) = &rule.name {
                self.unique(&mut names, &name.0, "the rule", &format!("{at}/name"));
            }
            self.rule(&at, rule);
        }
    }

    fn rule(&mut self, at: &str, rule: &RouteRule) {
        for (index, when) in rule.matches.iter().enumerate() {
            self.route_match(&format!("{at}/matches/{index}"), when);
        }
        self.route_filters(at, &rule.filters, true);
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            let at = format!("{at}/backendRefs/{index}");
            self.route_filters(&at, &backend.filters, false);
            if backend.kind == "Service" && backend.port.is_none() {
                self.error(
                    "missing-field",
                    &at,
                    "the field `port` is missing",
                    Some("the port of the Service"),
                );
            }
        }
        let (request, backend) = (rule.timeouts.request(), rule.timeouts.backend_request());
        if let (Some(request), Some(backend)) = (request, backend)
            && backend > request
        {
            let message = "`backendRequest` is longer than `request`";
            self.error(
                "timeouts",
                &format!("{at}/timeouts/backendRequest"),
                message,
                Some("at most the time of `request`"),
            );
        }
    }

    fn route_match(&mut self, at: &str, when: &RouteMatch) {
        let (path, expected) = match when.path.kind {
            PathMatchType::RegularExpression => {
                (RegexText::parse(&when.path.value).map(drop), RegexText::EXPECTED)
            }
            PathMatchType::Exact | PathMatchType::PathPrefix => {
                (check_path(&when.path.value), "a path as it is after normalisation")
            }
        };
        if let Err(message) = path {
            self.error("format", &format!("{at}/path/value"), message, Some(expected));
        }
        let mut names = BTreeSet::new();
        for (index, header) in when.headers.iter().enumerate() {
            let at = format!("{at}/headers/{index}");
            let name = header.name.0.as_str();
            self.unique(&mut names, name, "the header", &format!("{at}/name"));
            self.expression(&at, header.kind, &header.value);
        }
        let mut keys = BTreeSet::new();
        for (index, query) in when.query_params.iter().enumerate() {
            let at = format!("{at}/queryParams/{index}");
            let key = query.name.as_str();
            self.unique(&mut keys, key, "the query parameter", &format!("{at}/name"));
            self.expression(&at, query.kind, &query.value);
        }
    }

    fn expression(&mut self, at: &str, kind: ValueMatchType, value: &str) {
        if kind == ValueMatchType::RegularExpression
            && let Err(message) = RegexText::parse(value)
        {
            self.error("format", &format!("{at}/value"), message, Some(RegexText::EXPECTED));
        }
    }

    fn route_filters(&mut self, at: &str, filters: &[RouteFilter], on_rule: bool) {
        let mut kinds = BTreeSet::new();
        for (index, filter) in filters.iter().enumerate() {
            let at = format!("{at}/filters/{index}");
            let fields = [
                (
                    RouteFilterType::RequestHeaderModifier,
                    "requestHeaderModifier",
                    filter.request_header_modifier.is_some(),
                ),
                (
                    RouteFilterType::ResponseHeaderModifier,
                    "responseHeaderModifier",
                    filter.response_header_modifier.is_some(),
                ),
                (RouteFilterType::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
            ];
            for (kind, field, is_set) in fields {
                if is_set && kind != filter.kind {
                    let message = format!("`{field}` is set, but `type` is another one");
                    self.error("filter-type", &format!("{at}/{field}"), message, None);
                }
                if !is_set && kind == filter.kind {
                    let message = format!("the field `{field}` is missing");
                    self.error("missing-field", &format!("{at}/type"), message, None);
                }
            }
            if filter.kind != RouteFilterType::ExtensionRef && !kinds.insert(filter.kind) {
                let message = "a filter of this type is there twice";
                self.error("duplicate-name", &format!("{at}/type"), message, None);
            }
            self.route_filter_fields(&at, filter, on_rule);
        }
    }

    fn route_filter_fields(&mut self, at: &str, filter: &RouteFilter, on_rule: bool) {
        if let Some(extension) = &filter.extension_ref {
            let at = format!("{at}/extensionRef");
            self.only(&format!("{at}/group"), &extension.group, "waypoint.rs");
            self.only(&format!("{at}/kind"), &extension.kind, "Filter");
            if !on_rule {
                self.error(
                    "unsupported",
                    &at,
                    "an `extensionRef` on a backend is not supported yet",
                    None,
                );
            }
        }
        for (field, edits) in [
            ("requestHeaderModifier", &filter.request_header_modifier),
            ("responseHeaderModifier", &filter.response_header_modifier),
        ] {
            let Some(edits) = edits else { continue };
            let mut names = BTreeSet::new();
            let sets =
                (0..).zip(&edits.set).map(|(i, edit)| (format!("set/{i}/name"), &edit.name.0));
            let adds =
                (0..).zip(&edits.add).map(|(i, edit)| (format!("add/{i}/name"), &edit.name.0));
            let removes =
                (0..).zip(&edits.remove).map(|(i, name)| (format!("remove/{i}"), &name.0));
            for (path, name) in sets.chain(adds).chain(removes) {
                if !names.insert(name.as_str()) {
                    let message = format!("the header `{name}` is edited twice");
                    self.error("duplicate-name", &format!("{at}/{field}/{path}"), message, None);
                }
                if UNTOUCHABLE.contains(&name.as_str()) {
                    let message = format!("the header `{name}` is not for filters to edit");
                    self.error("format", &format!("{at}/{field}/{path}"), message, None);
                }
            }
        }
    }
}
