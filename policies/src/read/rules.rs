//! What a schema cannot say: rules between the fields of one resource.

mod backend_tls;
mod frontend_tls;
mod grpc_route;
mod redirect;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::model::ModuleSource;
use crate::nearest::nearest;
use crate::pem;
use crate::problem::Problem;
use crate::resource::filter::{Filter, TargetRef};
use crate::resource::gateway::{FromNamespaces, Gateway, ListenerProtocol, RouteNamespaces};
use crate::resource::namespace::LabelOperator;
use crate::resource::secret::{CRL_KEY, Secret, TLS_SECRET};
use crate::resource::service::{
    AddressType, EndpointSlice, SERVICE_NAME_LABEL, Service, ServiceType,
};
use crate::resource::wasm_plugin::{EnvSource, WasmPlugin};
use crate::resource::{Origin, Resource, Spec};
use crate::source::Span;
use crate::text::{EnvironmentName, Format, PreciseHostname};

/// The most memory that one VM may be given, in bytes: what the proxy reserves for each.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// WebAssembly's page, in bytes: memory is given in whole pages.
const PAGE_BYTES: u64 = 64 << 10;

/// Checks one resource, and makes its relative paths absolute.
pub(crate) fn inspect(resource: &mut Resource, wrong: &[Span], problems: &mut Vec<Problem>) {
    let origin = &resource.origin;
    let mut rules = Rules { origin, wrong, problems };
    match &mut resource.spec {
        Spec::BackendTlsPolicy(policy) => rules.backend_tls(policy),
        Spec::Gateway(gateway) => rules.gateway(gateway),
        Spec::GrpcRoute(route) => rules.grpc_route(route),
        Spec::HttpRoute(route) => rules.route(route),
        Spec::Service(service) => {
            rules.service(service);
            rules.redirection(&resource.annotations);
        }
        Spec::EndpointSlice(slice) => rules.slice(slice, &resource.labels),
        Spec::Secret(secret) => {
            rules.secret(secret);
            let is_plain = secret.string_data.contains_key(CRL_KEY);
            let lists = secret.has(CRL_KEY).then(|| secret.text(CRL_KEY).unwrap_or_default());
            rules.revocations(if is_plain { "stringData" } else { "data" }, lists);
        }
        Spec::ConfigMap(map) => {
            let (text, bytes) = (map.data.get(CRL_KEY), map.binary_data.contains_key(CRL_KEY));
            rules.revocations("data", text.map(String::as_str));
            rules.revocations("binaryData", bytes.then_some(""));
        }
        Spec::Filter(filter) => {
            resolve(&mut filter.module.url.0, &origin.source.path);
            rules.filter(filter);
        }
        Spec::WasmPlugin(plugin) => {
            resolve(&mut plugin.url.0, &origin.source.path);
            rules.wasm_plugin(plugin);
        }
        Spec::Namespace(_) | Spec::ReferenceGrant(_) => {}
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
    /// Where something is wrong already: what was left out there must not be missed here.
    wrong: &'a [Span],
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
        let around = self.origin.around(path);
        if self.wrong.iter().any(|span| around.contains(*span)) {
            return;
        }
        let problem = Problem::error(code, &self.origin.at(path), message);
        self.problems.push(Problem { expected: expected.map(str::to_owned), ..problem });
    }

    fn allowed_namespaces(&mut self, namespaces: &RouteNamespaces, listener: &str) {
        let at = format!("{listener}/allowedRoutes/namespaces");
        let is_selector = namespaces.from == FromNamespaces::Selector;
        if is_selector != namespaces.selector.is_some() {
            let message = match is_selector {
                true => "`from: Selector` needs a `selector`",
                false => "a `selector` counts only with `from: Selector`",
            };
            let part = if is_selector { "from" } else { "selector" };
            self.error("selector", &format!("{at}/{part}"), message, None);
        }
        let expressions = namespaces.selector.iter().flat_map(|one| &one.match_expressions);
        for (index, one) in expressions.enumerate() {
            let wants = matches!(one.operator, LabelOperator::In | LabelOperator::NotIn);
            if wants == one.values.is_empty() {
                let message = match wants {
                    true => "`In` and `NotIn` need `values`",
                    false => "`Exists` and `DoesNotExist` have no `values`",
                };
                let at = format!("{at}/selector/matchExpressions/{index}/operator");
                self.error("selector", &at, message, None);
            }
        }
    }

    fn gateway(&mut self, gateway: &Gateway) {
        let mut names = BTreeSet::new();
        for (index, listener) in gateway.listeners.iter().enumerate() {
            let at = format!("spec/listeners/{index}");
            self.unique(&mut names, &listener.name.0, "the listener", &format!("{at}/name"));
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
            self.allowed_namespaces(&listener.allowed_routes.namespaces, &at);
            for (index, secret) in
                listener.tls.iter().flat_map(|tls| &tls.certificate_refs).enumerate()
            {
                let at = format!("{at}/tls/certificateRefs/{index}");
                self.only(&format!("{at}/kind"), &secret.kind, "Secret");
                self.only(&format!("{at}/group"), &secret.group, "");
            }
        }
        if let Some(frontend) = gateway.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) {
            self.frontend_tls(frontend);
        }
    }

    /// A name that must be unique among its like.
    fn unique<T: Ord + std::fmt::Display>(
        &mut self,
        seen: &mut BTreeSet<T>,
        name: T,
        what: &str,
        path: &str,
    ) {
        let message = format!("{what} `{name}` is there twice");
        if !seen.insert(name) {
            self.error("duplicate-name", path, message, None);
        }
    }

    /// A field with one right value, whose type is open in the API.
    fn only(&mut self, path: &str, written: &str, right: &str) {
        if written == right {
            return;
        }
        let message = format!("unknown value `{written}`");
        let problem = Problem::error("unknown-value", &self.origin.at(path), message);
        let expected = if right.is_empty() { "`\"\"`".to_owned() } else { format!("`{right}`") };
        self.problems.push(problem.expected(expected).nearest(nearest(written, [right])));
    }

    fn service(&mut self, service: &Service) {
        if service.kind == ServiceType::ExternalName && service.external_name.is_none() {
            let message = "the field `externalName` is missing";
            self.error("missing-field", "spec/type", message, Some(PreciseHostname::EXPECTED));
        }
        let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
        for (index, port) in service.ports.iter().enumerate() {
            let at = format!("spec/ports/{index}");
            if port.name.is_empty() && service.ports.len() > 1 {
                let message = "with more than one port each needs a `name`";
                self.error("missing-field", &at, message, None);
            } else {
                self.unique(&mut names, &port.name, "the port", &format!("{at}/name"));
            }
            let number = format!("{}/{:?}", port.port, port.protocol).to_uppercase();
            self.unique(&mut ports, number, "the port", &format!("{at}/port"));
        }
    }

    fn slice(&mut self, slice: &EndpointSlice, labels: &BTreeMap<String, String>) {
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
                    AddressType::Fqdn => {
                        (PreciseHostname::parse(address).is_ok(), PreciseHostname::EXPECTED)
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
                self.error("missing-field", "type", message, None);
            } else if !secret.text(key).is_some_and(|pem| pem.contains(marker)) {
                // Keys have dots, not slashes: a path can name them.
                let message = format!("`{key}` is not PEM");
                self.error("format", &format!("{path}/{key}"), message, Some("PEM text"));
            }
        }
    }

    /// What stands under `ca.crl` is read by whoever trusts the authority beside it: a list that is
    /// damaged must not pass for one that revokes nothing.
    fn revocations(&mut self, path: &str, lists: Option<&str>) {
        if lists.is_some_and(|lists| !pem::holds(lists, pem::REVOCATION_LIST)) {
            let message = format!("`{CRL_KEY}` holds no PEM revocation lists");
            let expected = Some("PEM text of `X509 CRL`");
            self.error("format", &format!("{path}/{CRL_KEY}"), message, expected);
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
        if filter.config.is_some() && filter.config_from.is_some() {
            self.error(
                "conflict",
                "spec/configFrom",
                "there is a `config`, too",
                Some("one of `config` and `configFrom`"),
            );
        }
        let limits = &filter.limits;
        if let Some(memory) = &limits.memory
            && (memory.0 == 0 || memory.0 % PAGE_BYTES != 0 || memory.0 > MEMORY_BYTES_MAX)
        {
            let expected = "a multiple of 64Ki, at most 256Mi";
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
