//! Rules between the fields of an `HTTPRoute`.

mod filter;

use std::collections::BTreeSet;

use super::Rules;
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::resource::route::{
    HeaderMatch, HttpRoute, ParentRef, PathMatchType, RouteMatch, RouteRule, ValueMatchType,
};
use crate::text::{Format, RegexText, check_path};

impl Rules<'_> {
    pub(super) fn parent_refs(&mut self, parents: &[ParentRef]) {
        for (index, parent) in parents.iter().enumerate() {
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
    }

    pub(super) fn route(&mut self, route: &HttpRoute) {
        self.parent_refs(&route.parent_refs);
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
        self.rule_actions(at, rule);
    }

    /// What a rule does, whatever it matches.
    pub(super) fn rule_actions(&mut self, at: &str, rule: &RouteRule) {
        self.route_filters(at, &rule.filters);
        self.filters_and_rule(at, rule);
        for (index, backend) in rule.backend_refs.iter().enumerate() {
            let at = format!("{at}/backendRefs/{index}");
            self.route_filters(&at, &backend.filters);
            self.backend_filters_and_rule(&at, &backend.filters, rule);
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
            PathMatchType::Exact | PathMatchType::PathPrefix | PathMatchType::AnyService => {
                (check_path(&when.path.value), "a path as it is after normalisation")
            }
        };
        if let Err(message) = path {
            self.error("format", &format!("{at}/path/value"), message, Some(expected));
        }
        self.header_matches(at, &when.headers);
        let mut keys = BTreeSet::new();
        for (index, query) in when.query_params.iter().enumerate() {
            let at = format!("{at}/queryParams/{index}");
            let key = query.name.as_str();
            self.unique(&mut keys, key, "the query parameter", &format!("{at}/name"));
            self.expression(&at, query.kind, &query.value);
        }
    }

    pub(super) fn header_matches(&mut self, at: &str, headers: &[HeaderMatch]) {
        let mut names = BTreeSet::new();
        for (index, header) in headers.iter().enumerate() {
            let at = format!("{at}/headers/{index}");
            let name = header.name.0.as_str();
            self.unique(&mut names, name, "the header", &format!("{at}/name"));
            self.expression(&at, header.kind, &header.value);
        }
    }

    fn expression(&mut self, at: &str, kind: ValueMatchType, value: &str) {
        if kind == ValueMatchType::RegularExpression
            && let Err(message) = RegexText::parse(value)
        {
            self.error("format", &format!("{at}/value"), message, Some(RegexText::EXPECTED));
        }
    }
}
