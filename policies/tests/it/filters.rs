//! Filters: what they mean, where they run, in which order, and what is denied without them.

use std::time::Duration;

use http::Method;
use waypoint_policies::{
    Bodies, FailurePolicy, Filter, Isolation, ModuleSource, Numbering, Phase, Resources, check,
    merge, read,
};

use crate::support::{EDGE, checked, file, right, service};

fn filter(name: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: {name}, namespace: shop}}
spec: {spec}
"
    )
}

fn plugin(name: &str, spec: &str) -> String {
    filter(name, spec)
        .replace("waypoint.rs/v1alpha1", "extensions.istio.io/v1alpha1")
        .replace("kind: Filter", "kind: WasmPlugin")
}

const MODULE: &str = "module: {url: 'file:///m.wasm'}";

fn only(text: &str) -> Filter {
    let checked = right(text);
    checked.model.filters.values().next().unwrap().as_ref().clone()
}

#[test]
fn filters_run_by_phase_then_priority_then_name() {
    let text = [
        EDGE,
        &filter("last", &format!("{{{MODULE}}}")),
        &filter("a-unset", &format!("{{{MODULE}, phase: Authz}}")),
        &filter("b-unset", &format!("{{{MODULE}, phase: Authz}}")),
        &filter("low", &format!("{{{MODULE}, phase: Authz, priority: -5}}")),
        &filter("high", &format!("{{{MODULE}, phase: Authz, priority: 10}}")),
        &plugin("plugin", "{url: 'file:///m.wasm', phase: AUTHZ, priority: 5}"),
        &filter("jwt", "{module: {url: 'builtin://jwt-auth'}}"),
        &filter("router", "{module: {url: 'builtin://payload-router'}, priority: 7}"),
        &filter("redact", "{module: {url: 'builtin://pii-redact'}}"),
        &filter(
            "early-redact",
            "{module: {url: 'builtin://pii-redact'}, phase: Authn, priority: 1}",
        ),
    ]
    .concat();
    let checked = right(&text);
    let order: Vec<_> =
        checked.model.entrances[0].filters.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(
        order,
        [
            "early-redact",
            "jwt",
            "high",
            "router",
            "plugin",
            "low",
            "a-unset",
            "b-unset",
            "redact",
            "last"
        ]
    );
}

#[test]
fn a_filter_runs_where_it_is_attached_and_nowhere_else() {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - {name: plain, backendRefs: [{name: cart, port: 80}]}
  - {name: special, filters: [{type: ExtensionRef, extensionRef: {group: waypoint.rs, kind: Filter, name: named}}]}
";
    let text = [
        EDGE,
        &service("shop", "cart"),
        &service("other", "pay"),
        route,
        &filter("everywhere", &format!("{{{MODULE}}}")),
        &filter("gateway", &format!("{{{MODULE}, targetRefs: [{{kind: Gateway, name: edge}}]}}")),
        &filter("service", &format!("{{{MODULE}, targetRefs: [{{kind: Service, name: cart}}]}}")),
        &filter("route", &format!("{{{MODULE}, targetRefs: [{{kind: HTTPRoute, name: r}}]}}")),
        &filter("named", &format!("{{{MODULE}, targetRefs: []}}")),
    ]
    .concat();
    let checked = right(&text);
    let names = |keys: &[waypoint_policies::FilterKey]| -> Vec<String> {
        keys.iter().map(|key| key.name.clone()).collect()
    };
    let found: Vec<_> =
        checked.model.entrances.iter().map(|e| (e.name.to_string(), names(&e.filters))).collect();
    let want = [
        ("gateway/shop/8080".to_owned(), vec!["everywhere".to_owned(), "gateway".to_owned()]),
        ("service/shop/cart:80".to_owned(), vec!["everywhere".to_owned(), "service".to_owned()]),
    ];
    assert_eq!(found, want);
    let services: Vec<_> = checked
        .model
        .services
        .values()
        .map(|port| (port.key.to_string(), names(&port.filters)))
        .collect();
    assert_eq!(services[0], ("other/pay:80".to_owned(), vec![]));
    assert_eq!(services[1].1, ["everywhere", "service"]);
    let mut rules: Vec<_> = checked.model.entrances[0]
        .routes
        .rules()
        .map(|rule| (rule.id.to_string(), names(&rule.filters)))
        .collect();
    rules.sort();
    assert_eq!(rules[0], ("shop/r/plain".to_owned(), vec!["route".to_owned()]));
    assert_eq!(
        rules[1],
        ("shop/r/special".to_owned(), vec!["named".to_owned(), "route".to_owned()])
    );
}

#[test]
fn every_field_of_a_filter_arrives() {
    let spec = "
  module: {url: 'file://modules/m.wasm', sha256: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}
  config: {b: [1, 2.5, null], a: {text: 'x'}}
  rootId: root
  environment: {K: v}
  phase: Stats
  priority: 3
  match: [{methods: [GET, POST], pathPrefixes: [/api/], ports: [80]}]
  failurePolicy: Reload
  limits: {memory: 32Mi, deadline: 5ms, bufferedBody: 65536, streamsPerVm: 8, cpuShare: 0.25, calloutsPerStream: 2, bodyWait: 1s500ms}
  capabilities: [proxy_log]
  isolation: PerRequest
  bodies: BeforeHeaders
";
    let reading = read(&[file("/etc/waypoint/filters.yaml", &filter("f", spec))]);
    let checked = check(&merge(&Resources::default(), reading), &Numbering::default());
    let filter = checked.model.filters.values().next().unwrap();
    assert_eq!(filter.module, ModuleSource::File("/etc/waypoint/modules/m.wasm".into()));
    assert_eq!(filter.sha256.as_deref(), Some("a".repeat(64).as_str()));
    assert_eq!(filter.config, Ok(Some(r#"{"a":{"text":"x"},"b":[1,2.5,null]}"#.to_owned())));
    assert_eq!(
        (filter.root_id.as_str(), filter.phase, filter.priority),
        ("root", Phase::Stats, Some(3))
    );
    assert_eq!(filter.environment, [("K".to_owned(), "v".to_owned())]);
    assert_eq!(filter.failure_policy, FailurePolicy::Reload);
    assert_eq!((filter.isolation, filter.bodies), (Isolation::PerRequest, Bodies::BeforeHeaders));
    assert_eq!(filter.capabilities, Some(vec!["proxy_log".to_owned()]));
    let limits = filter.limits;
    assert_eq!((limits.memory_bytes, limits.buffered_body_bytes), (Some(32 << 20), Some(65_536)));
    assert_eq!(
        (limits.deadline, limits.body_wait),
        (Some(Duration::from_millis(5)), Some(Duration::from_millis(1500)))
    );
    assert_eq!(
        (limits.streams_per_vm, limits.cpu_share, limits.callouts_per_stream),
        (Some(8), Some(0.25), Some(2))
    );
    let when = &filter.matches[0];
    assert!(when.holds(&Method::GET, "/api", 80) && when.holds(&Method::POST, "/api/x", 80));
    assert!(
        !when.holds(&Method::PUT, "/api", 80)
            && !when.holds(&Method::GET, "/apis", 80)
            && !when.holds(&Method::GET, "/api", 81)
    );
}

#[test]
fn a_wasm_plugin_is_read_in_istios_words() {
    let spec = "
  targetRefs: [{group: '', kind: Service, name: cart}]
  url: https://example.com/m.wasm
  pluginName: root
  pluginConfig: {}
  failStrategy: FAIL_OPEN
  imagePullPolicy: IfNotPresent
  type: HTTP
  vmConfig: {env: [{name: A, value: a}, {name: B, valueFrom: HOST}]}
  match: [{mode: SERVER, ports: [{number: 80}]}]
";
    let filter = only(&[service("shop", "cart"), plugin("p", spec)].concat());
    assert_eq!(filter.key.kind, "WasmPlugin");
    assert_eq!(filter.module, ModuleSource::Http("https://example.com/m.wasm".into()));
    assert_eq!(
        (filter.root_id.as_str(), filter.config, filter.phase),
        ("root", Ok(None), Phase::Unspecified)
    );
    assert_eq!(filter.failure_policy, FailurePolicy::Open);
    assert_eq!(filter.environment, [("A".to_owned(), "a".to_owned())]);
    assert_eq!(filter.host_environment, ["B"]);
    assert_eq!(filter.matches[0].ports, [80]);
}

/// The names that a refused filter `f` denies: entrances, routes, services.
fn denied(spec: &str) -> Option<(Vec<String>, Vec<String>, Vec<String>)> {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{filters: [{type: ExtensionRef, extensionRef: {group: waypoint.rs, kind: Filter, name: f}}]}]
";
    let text =
        [EDGE, &service("shop", "cart"), &service("other", "pay"), route, &filter("f", spec)]
            .concat();
    let reading = read(&[file("test.yaml", &text)]);
    assert_eq!(reading.problems.len(), 1);
    let checked = check(&merge(&Resources::default(), reading), &Numbering::default());
    assert!(checked.model.filters.is_empty());
    let denied = checked.denied.first()?;
    let entrances = denied.entrances.iter().map(ToString::to_string).collect();
    let routes = denied.routes.iter().map(|key| key.name.clone()).collect();
    Some((entrances, routes, denied.services.iter().map(ToString::to_string).collect()))
}

#[test]
fn a_refused_filter_without_a_last_good_version_denies_what_it_protects() {
    let texts = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let bad = "module: {url: 'builtin://nothing'}";
    let cart = "service/shop/cart:80";
    let gateway = "gateway/shop/8080";
    let cases = [
        // targets and policy                                          entrances, routes, services
        (String::new(), Some((vec![gateway, cart], vec!["r"], vec!["shop/cart:80"]))),
        (
            ", targetRefs: [{kind: Gateway, name: edge}]".into(),
            Some((vec![gateway], vec!["r"], vec![])),
        ),
        (
            ", targetRefs: [{kind: Service, name: cart}]".into(),
            Some((vec![cart], vec!["r"], vec!["shop/cart:80"])),
        ),
        (", targetRefs: [{kind: HTTPRoute, name: r}]".into(), Some((vec![], vec!["r"], vec![]))),
        (", failurePolicy: Open".into(), None),
        (
            ", failurePolicy: Reload".into(),
            Some((vec![gateway, cart], vec!["r"], vec!["shop/cart:80"])),
        ),
    ];
    for (more, want) in cases {
        let want = want.map(|(entrances, routes, services)| {
            (texts(&entrances), texts(&routes), texts(&services))
        });
        assert_eq!(denied(&format!("{{{bad}{more}}}")), want, "{more}");
    }
}

#[test]
fn a_filter_whose_targets_cannot_be_read_denies_its_whole_namespace() {
    let (entrances, _, _) =
        denied("{module: {url: 'builtin://jwt-auth'}, targetRefs: [{kind: Gatway, name: edge}]}")
            .unwrap();
    assert_eq!(entrances, ["gateway/shop/8080", "service/shop/cart:80"]);
}

#[test]
fn gateways_of_a_namespace_share_a_port_and_a_filter_of_one_is_told_of() {
    let text = [
        EDGE.replace("protocol: HTTP", "protocol: HTTP, hostname: a.example.com"),
        "---".into(),
        EDGE.replace("name: edge", "name: second")
            .replace("protocol: HTTP", "protocol: HTTP, hostname: b.example.com"),
        filter("f", &format!("{{{MODULE}, targetRefs: [{{kind: Gateway, name: edge}}]}}")),
    ]
    .concat();
    let checked = checked(&text);
    assert_eq!(checked.model.entrances.len(), 1);
    let codes: Vec<_> = checked.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["shared-port"]);
}

#[test]
fn a_configuration_may_be_kept_in_a_config_map() {
    let map = "
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {filter.json: '{\"a\":1}'}
";
    let spec = |name: &str, key: &str| {
        format!(
            "
  module: {{url: 'builtin://pii-redact'}}
  configFrom: {{configMapKeyRef: {{name: {name}, key: {key}}}}}
"
        )
    };
    let checked = |spec: &str| {
        let text = filter("f", spec) + map;
        let reading = read(&[file("f.yaml", &text)]);
        check(&merge(&Resources::default(), reading), &Numbering::default())
    };
    let config = |checked: &waypoint_policies::Checked| {
        checked.model.filters.values().next().unwrap().config.clone()
    };

    let found = checked(&spec("settings", "filter.json"));
    assert_eq!(config(&found), Ok(Some("{\"a\":1}".to_owned())));

    for (name, key, nearest) in
        [("setings", "filter.json", "settings"), ("settings", "filter.jso", "filter.json")]
    {
        let missing = checked(&spec(name, key));
        assert!(config(&missing).is_err(), "it must not start without it");
        let problem = missing.problems.iter().find(|one| one.code == "unknown-reference").unwrap();
        assert_eq!(problem.nearest.as_deref(), Some(nearest));
    }
}
