//! What a schema cannot say: rules between the fields of one resource.

use std::collections::BTreeSet;
use std::path::Path;

use crate::model::ModuleSource;
use crate::problem::Problem;
use crate::resource::filter::{Filter, TargetRef};
use crate::resource::gateway::{Gateway, ListenerProtocol};
use crate::resource::route::{
    HttpRoute, PathMatchType, RouteFilter, RouteFilterType, RouteMatch, RouteRule, ValueMatchType,
};
use crate::resource::secret::{Secret, TLS_SECRET};
use crate::resource::service::{AddressType, EndpointSlice, SERVICE_NAME_LABEL, Service};
use crate::resource::wasm_plugin::{EnvSource, WasmPlugin};
use crate::resource::{Origin, Resource, Spec};
use crate::text::{EnvironmentName, Format, RegexText, check_path};

/// WebAssembly's page, in bytes: memory is given in whole pages.
const PAGE_BYTES: u64 = 64 << 10;

/// Checks one resource, and makes its relative paths absolute.
pub(crate) fn inspect(resource: &mut Resource, problems: &mut Vec<Problem>) {
    let origin = &resource.origin;
    let mut rules = Rules { origin, problems };
    match &mut resource.spec {
        Spec::Gateway(gateway) => rules.gateway(gateway),
        Spec::HttpRoute(route) => rules.route(route),
        Spec::Service(service) => rules.service(service),
        Spec::EndpointSlice(slice) => rules.slice(slice, &resource.labels),
        Spec::Secret(secret) => rules.secret(secret),
        Spec::Filter(filter) => {
            resolve(&mut filter.module.url.0, &origin.source.path);
            rules.filter(filter);
        }
        Spec::WasmPlugin(plugin) => {
            resolve(&mut plugin.url.0, &origin.source.path);
            rules.wasm_plugin(plugin);
        }
        Spec::ConfigMap(_) | Spec::ReferenceGrant(_) => {}
    }
}

/// A relative `file://` is relative to the file that names it.
fn resolve(module: &mut ModuleSource, file: &str) {
    if let ModuleSource::File(path) = module {
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        let relative = path.strip_prefix("./").unwrap_or(path);
        *path = folder.join(relative).to_string_lossy().into_owned();
    }
}

struct Rules<'a> {
    origin: &'a Origin,
    problems: &'a mut Vec<Problem>,
}

impl Rules<'_> {
    fn error(
        &mut self,
        code: &'static str,
        path: &str,
        message: impl Into<String>,
        expected: Option<&str>,
    ) {
        let problem = Problem::error(code, &self.origin.at(path), message);
        self.problems.push(Problem { expected: expected.map(str::to_owned), ..problem });
    }

    fn gateway(&mut self, gateway: &Gateway) {
        let mut names = BTreeSet::new();
        for (index, listener) in gateway.listeners.iter().enumerate() {
            let at = format!("spec/listeners/{index}");
            if !names.insert(&listener.name.0) {
                let message = format!("the listener `{}` is there twice", listener.name.0);
                self.error("duplicate-name", &format!("{at}/name"), message, None);
            }
            match (listener.protocol, &listener.tls) {
                (ListenerProtocol::Http, Some(_)) => {
                    let message = "an HTTP listener has no `tls`";
                    self.error(
                        "listener-tls",
                        &format!("{at}/tls"),
                        message,
                        Some("`protocol: HTTPS`"),
                    );
                }
                (ListenerProtocol::Https, tls)
                    if tls.as_ref().is_none_or(|tls| tls.certificate_refs.is_empty()) =>
                {
                    let message = "an HTTPS listener needs a certificate";
                    self.error(
                        "listener-tls",
                        &format!("{at}/protocol"),
                        message,
                        Some("`tls.certificateRefs` with a Secret"),
                    );
                }
                _ => {}
            }
            for (index, secret) in
                listener.tls.iter().flat_map(|tls| &tls.certificate_refs).enumerate()
            {
                let at = format!("{at}/tls/certificateRefs/{index}");
                self.only(&format!("{at}/kind"), &secret.kind, "Secret");
                self.only(&format!("{at}/group"), &secret.group, "");
            }
        }
    }

    /// A field with one right value, whose type is open in the API.
    fn only(&mut self, path: &str, written: &str, right: &str) {
        if written != right {
            let problem = Problem::error(
                "unknown-value",
                &self.origin.at(path),
                format!("unknown value `{written}`"),
            );
            self.problems.push(
                problem
                    .expected(format!("`{right}`"))
                    .nearest(crate::nearest::nearest(written, [right])),
            );
        }
    }

    fn route(&mut self, route: &HttpRoute) {
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
                    let near = crate::nearest::nearest(other, ["Gateway", "Service"]);
                    self.problems.push(problem.expected("`Gateway` or `Service`").nearest(near));
                }
            }
        }
        let mut names = BTreeSet::new();
        for (index, rule) in route.rules.iter().enumerate() {
            let at = format!("spec/rules/{index}");
            if let Some(name) = &rule.name
                && !names.insert(&name.0)
            {
                let message = format!("the rule `{}` is there twice", name.0);
                self.error("duplicate-name", &format!("{at}/name"), message, None);
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
        let bound = |duration: &Option<crate::text::Parsed<_>>| {
            duration
                .as_ref()
                .map(|duration| duration.0)
                .filter(|d: &std::time::Duration| !d.is_zero())
        };
        let (request, backend) =
            (bound(&rule.timeouts.request), bound(&rule.timeouts.backend_request));
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
        let path = match when.path.kind {
            PathMatchType::RegularExpression => RegexText::parse(&when.path.value).map(drop),
            PathMatchType::Exact | PathMatchType::PathPrefix => check_path(&when.path.value),
        };
        if let Err(message) = path {
            self.error("format", &format!("{at}/path/value"), message, None);
        }
        let mut names = BTreeSet::new();
        for (index, header) in when.headers.iter().enumerate() {
            let at = format!("{at}/headers/{index}");
            if !names.insert(header.name.0.as_str()) {
                let message = format!("the header `{}` is there twice", header.name.0);
                self.error("duplicate-name", &format!("{at}/name"), message, None);
            }
            self.expression(&at, header.kind, &header.value);
        }
        let mut keys = BTreeSet::new();
        for (index, query) in when.query_params.iter().enumerate() {
            let at = format!("{at}/queryParams/{index}");
            if !keys.insert(query.name.as_str()) {
                let message = format!("the query parameter `{}` is there twice", query.name);
                self.error("duplicate-name", &format!("{at}/name"), message, None);
            }
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
                if name == http::header::HOST {
                    let message = "the host cannot be edited as a header";
                    self.error("format", &format!("{at}/{field}/{path}"), message, None);
                }
            }
        }
    }

    fn service(&mut self, service: &Service) {
        let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for (index, port) in service.ports.iter().enumerate() {
            let at = format!("spec/ports/{index}");
            if port.name.is_empty() && service.ports.len() > 1 {
                let message = "with more than one port each needs a `name`";
                self.error("missing-field", &at, message, None);
            } else if !names.insert(&port.name) {
                let message = format!("the port `{}` is there twice", port.name);
                self.error("duplicate-name", &format!("{at}/name"), message, None);
            }
            if !ports.insert((port.port, port.protocol as u8)) {
                let message = format!("the port {} is there twice", port.port);
                self.error("duplicate-name", &format!("{at}/port"), message, None);
            }
        }
    }

    fn slice(
        &mut self,
        slice: &EndpointSlice,
        labels: &std::collections::BTreeMap<String, String>,
    ) {
        if !labels.contains_key(SERVICE_NAME_LABEL) {
            let message = format!(
                "the label `{SERVICE_NAME_LABEL}` is missing: no Service has these endpoints"
            );
            self.error("missing-field", "metadata/labels", message, None);
        }
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            for (number, address) in endpoint.addresses.iter().enumerate() {
                let (right, expected) = match slice.address_type {
                    AddressType::IPv4 => {
                        (address.parse::<std::net::Ipv4Addr>().is_ok(), "an IPv4 address")
                    }
                    AddressType::IPv6 => {
                        (address.parse::<std::net::Ipv6Addr>().is_ok(), "an IPv6 address")
                    }
                };
                if !right {
                    let at = format!("endpoints/{index}/addresses/{number}");
                    self.error(
                        "format",
                        &at,
                        format!("`{address}` is not {expected}"),
                        Some(expected),
                    );
                }
            }
        }
    }

    /// A `kubernetes.io/tls` Secret holds a certificate and its key; its values stay unseen.
    fn secret(&mut self, secret: &Secret) {
        if secret.kind != TLS_SECRET {
            return;
        }
        for (key, marker) in [("tls.crt", "BEGIN CERTIFICATE"), ("tls.key", "PRIVATE KEY")] {
            let path = if secret.string_data.contains_key(key) { "stringData" } else { "data" };
            if !secret.has(key) {
                let message = format!("a Secret of type `{TLS_SECRET}` needs `{key}`");
                self.error("missing-field", path, message, None);
            } else if !secret.text(key).is_some_and(|pem| pem.contains(marker)) {
                // Keys have dots, not slashes: a path can name them.
                let message = format!("`{key}` is not PEM");
                self.error("format", &format!("{path}/{key}"), message, Some("PEM text"));
            }
        }
    }

    fn filter(&mut self, filter: &Filter) {
        self.targets(filter.target_refs.as_deref().unwrap_or_default());
        for name in filter.environment.keys() {
            if let Err(message) = EnvironmentName::parse(name) {
                self.error(
                    "format",
                    &format!("spec/environment/{name}"),
                    message,
                    Some(EnvironmentName::EXPECTED),
                );
            }
        }
        let limits = &filter.limits;
        if let Some(memory) = &limits.memory
            && (memory.0 == 0 || memory.0 % PAGE_BYTES != 0 || memory.0 > 4 << 30)
        {
            let expected = "a multiple of 64Ki, at most 4Gi";
            self.error(
                "range",
                "spec/limits/memory",
                "memory comes in pages of 64Ki",
                Some(expected),
            );
        }
        if limits.cpu_share == Some(0.0) {
            self.error(
                "range",
                "spec/limits/cpuShare",
                "a share of nothing",
                Some("above 0, at most 1"),
            );
        }
        for (field, duration) in [("deadline", &limits.deadline), ("bodyWait", &limits.body_wait)] {
            if duration.as_ref().is_some_and(|duration| duration.0.is_zero()) {
                self.error(
                    "range",
                    &format!("spec/limits/{field}"),
                    "no time at all",
                    Some("more than 0ms"),
                );
            }
        }
    }

    fn wasm_plugin(&mut self, plugin: &WasmPlugin) {
        self.targets(&plugin.target_refs);
        for (index, variable) in plugin.vm_config.env.iter().enumerate() {
            if variable.value_from == EnvSource::Host && variable.value.is_some() {
                let message = "with `valueFrom: HOST` there is no `value`";
                self.error("format", &format!("spec/vmConfig/env/{index}/value"), message, None);
            }
        }
    }

    fn targets(&mut self, targets: &[TargetRef]) {
        for (index, target) in targets.iter().enumerate() {
            if let Some(group) = &target.group {
                self.only(&format!("spec/targetRefs/{index}/group"), group, target.kind.group());
            }
        }
    }
}
